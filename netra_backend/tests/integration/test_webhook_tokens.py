"""O16: an endpoint that authenticates by a token of the vault, on both engines."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.kernel.scope import SYSTEM_TENANT, Scope
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.provider import Fault, Provider
from netra_backend.webhooks import sender
from netra_backend.webhooks.sender import _without

from ..support.platform import TENANT, add_endpoint, attempts, becomes, change_endpoint, row, send
from ..support.storage import eventually, everything_stored, with_its_server
from ..support.vaults import NAME, connect, vault

WITHIN_S = 20.0


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared, monkeypatch):
    monkeypatch.setattr(sender, "TOKEN_AGAIN_S", 0.2)
    monkeypatch.setattr(sender.verdicts, "REFUSED_AGAIN_S", 0.2)
    async with vault(prepared, workers=True) as netra:
        yield netra


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint() as receiver:
        yield receiver


@pytest.fixture
async def provider():
    async with Provider("strict") as provider:
        yield provider


async def is_parked(netra, endpoint):
    lane = (endpoint.tenant, endpoint.id)
    return netra.webhooks.sender.breakers.opens_us(lane, netra.runtime.clock.wall_us()) > 0


async def test_each_attempt_carries_the_connections_token_of_that_moment(netra, receiver, provider):
    tokens = await connect(netra, provider, expires_in=3600)
    endpoint = await add_endpoint(netra, receiver.url, auth=NAME, headers={"Authorization": "Basic forged", "X-Team": "b"})
    await becomes(netra, await send(netra), endpoint, "delivered", within_s=WITHIN_S)
    newer = await netra.oauth.refresh(TENANT, NAME)
    await becomes(netra, await send(netra), endpoint, "delivered", within_s=WITHIN_S)
    assert [got.headers["authorization"] for got in receiver.received] == [
        f"Bearer {tokens['access_token']}",
        f"Bearer {newer.access_token}",
    ]
    assert {got.headers["x-team"] for got in receiver.received} == {"b"}


async def test_a_token_that_has_ended_is_refreshed_once_for_all_deliveries(netra, receiver, provider):
    provider.fault = Fault("delay:0.2")
    await connect(netra, provider, expires_in=0)
    endpoint = await add_endpoint(netra, receiver.url, auth=NAME)
    sent = await asyncio.gather(*(send(netra) for _ in range(30)))
    for message in sent:
        await becomes(netra, message, endpoint, "delivered", within_s=WITHIN_S)
    assert len(provider.requests) == 1
    assert {got.headers["authorization"] for got in receiver.received} == {f"Bearer {(await netra.oauth.token(TENANT, NAME)).access_token}"}


async def test_a_failed_refresh_parks_the_endpoint_and_burns_no_attempt(netra, receiver, provider):
    provider.fault = Fault("503")
    await connect(netra, provider, expires_in=0)
    endpoint = await add_endpoint(netra, receiver.url, auth=NAME)
    healthy = await add_endpoint(netra, receiver.url + "/healthy")
    sent = [await send(netra) for _ in range(20)]

    async def parked():
        return (await is_parked(netra, endpoint)) and "no token of the connection" in ((await row(netra, sent[0], endpoint)).reason or "")

    await eventually(parked, WITHIN_S)
    for message in sent:
        await becomes(netra, message, healthy, "delivered", within_s=WITHIN_S)
        stands = await row(netra, message, endpoint)
        assert (stands.state in {"due", "leased"}, stands.number) == (True, 0)
        assert [attempt.endpoint_id for attempt in await attempts(netra, message)] == [healthy.id]
    provider.fault = Fault("none")
    for message in sent:
        assert (await becomes(netra, message, endpoint, "delivered", within_s=WITHIN_S)).number == 1
    assert {got.headers.get("authorization", "")[:7] for got in receiver.received} == {"", "Bearer "}


async def test_a_connection_that_needs_its_user_holds_its_messages_until_he_has_connected(netra, receiver, provider):
    tokens = await connect(netra, provider, expires_in=0)
    provider.grants.revoke_token(tokens["refresh_token"])
    endpoint = await add_endpoint(netra, receiver.url, auth=NAME)
    message = await send(netra)

    async def parked():
        return await is_parked(netra, endpoint)

    await eventually(parked, WITHIN_S)
    assert (await row(netra, message, endpoint)).number == 0
    assert (await netra.oauth.status(TENANT, NAME))["state"] == "reauth_required"
    await connect(netra, provider, expires_in=3600)
    assert (await becomes(netra, message, endpoint, "delivered", within_s=WITHIN_S)).number == 1


async def test_a_backlog_without_a_token_is_not_taken_up_delivery_by_delivery(netra, receiver, provider, monkeypatch):
    monkeypatch.setattr(sender.verdicts, "REFUSED_AGAIN_S", 3600.0)
    endpoint = await add_endpoint(netra, receiver.url, auth="nobody-made-it")
    sent = [await send(netra) for _ in range(60)]

    async def parked():
        return await is_parked(netra, endpoint)

    await eventually(parked, WITHIN_S)

    async def tried():
        rows = [await row(netra, message, endpoint) for message in sent]
        return sum("no token" in (each.reason or "") for each in rows) if all(each.state == "due" for each in rows) else 0

    await eventually(tried, WITHIN_S)
    assert await tried() <= 2 * netra.settings.webhooks_in_flight  # those on their way when it was parked
    assert receiver.accepted == 0


async def test_a_token_that_a_receiver_sends_back_is_not_kept(netra, provider):
    tokens = await connect(netra, provider, expires_in=3600)

    async def echo(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"x" * 100 + head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        endpoint = await add_endpoint(netra, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", auth=NAME)
        message = await send(netra)
        await becomes(netra, message, endpoint, "delivered", within_s=WITHIN_S)
    (attempt,) = await attempts(netra, message)
    assert "Bearer [token]" in attempt.response
    assert tokens["access_token"].encode() not in everything_stored(netra.database)


@pytest.mark.parametrize("cut", range(9, 20))
def test_a_quotation_that_is_cut_short_tells_no_part_of_a_token(cut):
    token = "at-0123456789abcdefg"
    assert _without(f"you sent Bearer {token[:cut]}", token) == "you sent Bearer [token]"
    assert _without("nothing of it", token) == "nothing of it"


async def test_a_token_goes_over_tls_or_stays_on_this_host(netra, provider):
    await connect(netra, provider, expires_in=3600)
    with pytest.raises(InvalidInput, match="in the clear"):
        await add_endpoint(netra, "http://example.com/hook", auth=NAME)
    endpoint = await add_endpoint(netra, "https://example.com/hook", auth=NAME)
    with pytest.raises(InvalidInput, match="in the clear"):
        await change_endpoint(netra, endpoint, url="http://example.com/hook")
    assert (await change_endpoint(netra, endpoint, url="http://example.com/hook", auth=None)).auth is None


async def test_an_operational_endpoint_has_no_tenant_whose_token_it_could_use(netra, receiver):
    from netra_backend.storage import tenants
    from netra_backend.webhooks import endpoints
    from netra_backend.webhooks.model import Endpoint

    async def make(tx):
        await tenants.ensure_system(tx)
        new = Endpoint("", b"", None, receiver.url, "", None, None, False, None, {}, {}, auth=NAME)
        return await endpoints.create(tx, netra.sealer, new, None)

    with pytest.raises(InvalidInput, match="no tenant"):
        await netra.database.write(make, scope=Scope(SYSTEM_TENANT, "tester"))
