"""Debug sessions in the parts: chunks of a batch by job and by who started it, token requests by provider, a view by Django."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from joserfc.jwk import ECKey

from netra_backend import batch
from netra_backend.batch import registry
from netra_backend.integrations.django import NetraMiddleware
from netra_backend.testing.provider import Provider

from ..support.batches import ENDED
from ..support.looking import look, of_kind, opened, seen
from ..support.storage import Q, eventually, with_its_server
from ..support.vaults import NAME, TENANT, connect, vault

LOG = logging.getLogger("shop")


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


def process(n):
    LOG.debug("item %d", n)
    return ("who", n, str(n))


async def write(tx, rows):
    await tx.execute(Q.insert_facts, rows=list(rows))


@pytest.fixture
def jobs():
    """Two jobs of the same work, gone afterwards."""
    source = batch.sequence(lambda params: range(params["from"], params["from"] + 3))
    made = [batch.job(name, read=source, process=process, write=write) for name in ("debugged", "undebugged")]
    yield made
    for job in made:
        registry.JOBS.pop(job.name)


@pytest.mark.parametrize("asked", [{"job": "debugged"}, {"user": "alice"}])
async def test_chunks_are_heard_by_their_job_or_by_who_started_the_run(prepared, jobs, asked):
    async with opened(prepared, workers=True) as netra:
        for tenant in ("acme", "globex"):
            await netra.tenant(tenant)
        session = await look(netra, capture=["log"], **asked)

        async def start(tx, job, first):
            return await netra.batch.start(tx, job, {"from": first})

        runs = []
        for job, tenant, user, first in ((jobs[0], "acme", "alice", 10), (jobs[1], "acme", "bob", 20), (jobs[0], "globex", "alice", 30)):
            with netra.scope(tenant, user):
                runs.append((tenant, await netra.write(start, job, first)))

        async def over():
            return all([(await netra.batch.status(run, tenant=tenant))["state"] in ENDED for tenant, run in runs])

        await eventually(over)
        messages = [data["message"] for data in of_kind(await seen(netra, session), "log") if data["logger"] == "shop"]
        assert messages == ["item 10", "item 11", "item 12"]


@pytest.mark.parametrize(("provider_name", "heard"), [("provider", True), ("another", False)])
async def test_token_requests_are_heard_by_provider_and_without_their_tokens(prepared, provider_name, heard):
    async with Provider("strict") as provider, vault(prepared) as netra:
        await netra.tenant(TENANT)
        session = await look(netra, provider=provider_name, capture=["http"])
        tokens = await connect(netra, provider)
        token = await netra.oauth.token(TENANT, NAME)
        records = await seen(netra, session)
        assert bool(records) is heard
        for data in of_kind(records, "http"):
            assert (data["direction"], data["method"], data["answer"]["status"]) == ("out", "POST", 200)
            text = str(data)
            assert "grant_type=refresh_token" in text
            secrets = [tokens["access_token"], tokens["refresh_token"], token.access_token]
            assert [secret for secret in secrets if secret in text] == []


async def test_a_request_by_an_assertion_is_heard_without_it_and_without_the_key_that_signed(prepared):
    key = ECKey.generate_key("P-256")
    async with Provider("strict") as provider, vault(prepared) as netra:
        provider.trusted["netra"] = key.as_dict(private=False)
        await netra.tenant(TENANT)
        session = await look(netra, provider="provider", capture=["http", "log"])
        signs = {"key": json.dumps(key.as_dict(private=True))}
        await netra.oauth.set_client(TENANT, "provider", provider.registration(client_secrets=[], assertion=signs))
        await netra.oauth.own(TENANT, NAME, "provider", "jwt_bearer")
        (data,) = of_kind(await seen(netra, session), "http")
        text = str(data)
        assert "jwt-bearer" in text
        jti = provider.asserted[0]["jti"]
        planted = [key.as_dict(private=True)["d"], "eyJ", jti, (await netra.oauth.token(TENANT, NAME)).access_token]
        assert [secret for secret in planted if secret in text] == []


async def test_a_view_of_djangos_is_watched_with_its_exchange(prepared, monkeypatch):
    """Django itself is in no test environment of this file: its settings and requests are stood in for."""
    async with opened(prepared) as netra:
        await netra.tenant("acme")
        session = await look(netra, route="POST /orders*")
        settings = SimpleNamespace(NETRA=netra, NETRA_TENANT=lambda request: "acme")
        monkeypatch.setattr("netra_backend.integrations.django.import_module", lambda _: SimpleNamespace(settings=settings))

        def view(request):
            LOG.debug("in the view")
            return SimpleNamespace(status_code=201, headers={"content-type": "application/json"}, content=b'{"token": "hunter2", "id": 7}')

        handle = NetraMiddleware(view)
        for path in ("/orders/7", "/carts/7"):
            request = SimpleNamespace(
                method="POST",
                path=path,
                headers={"authorization": "Bearer hunter2"},
                _body=b"a=1",
                get_full_path=lambda path=path: f"{path}?x=1",
            )
            handle(request)
        records = await seen(netra, session)
        assert [data["message"] for data in of_kind(records, "log")] == ["in the view"]
        (exchange,) = of_kind(records, "http")
        assert (exchange["direction"], exchange["url"], exchange["answer"]["status"]) == ("in", "/orders/7?x=1", 201)
        assert "hunter2" not in str(exchange)
