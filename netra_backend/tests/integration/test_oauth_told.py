"""What is told of connections, and to whom; what stays behind of them, and for how long. On both engines."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from netra_backend.kernel.scope import SYSTEM_TENANT, Scope
from netra_backend.oauth import flows
from netra_backend.oauth.errors import ReauthRequired, RefreshFailed, UnknownState
from netra_backend.oauth.spool import Spooled
from netra_backend.storage import audit_append, log, tenants
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.provider import Provider
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.model import Endpoint

from ..support.storage import SYSTEM, eventually, with_its_server
from ..support.vaults import NAME, TENANT, audited, connect, consent, vault

BACK = "http://127.0.0.1/back"
MINE = Scope(TENANT, "tester")


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared) as netra:
        yield netra


async def told(netra, stream="events"):
    """What the log says of connections."""

    async def all_taken():
        return not await netra.database.read(has_rows, scope=SYSTEM)

    async def has_rows(tx):
        return await tx.one(log.Q.outbox_has_rows)

    await eventually(all_taken)
    entries = await netra.database.read(log.read_after, stream, 0, 1000, scope=SYSTEM)
    return [item for entry in entries for tenant, item in entry.items if tenant == TENANT and item["type"].startswith("connection.")]


async def entries_of(netra, action):
    """What the audit trail says of each such action: its outcome, and what came after."""

    async def look(tx):
        return await tx.all(audit_append.Q.list_audit_entries, after=b"", limit=1000)

    rows = await netra.database.read(look, scope=MINE)
    return [json.loads(row[-1]) for row in rows if row[3] == action]


async def test_each_failed_refresh_has_an_entry_with_each_endpoints_cause(netra, unused_tcp_port):
    async with Provider("strict", "503@9") as provider:
        there, gone = provider.url + "/token", f"http://127.0.0.1:{unused_tcp_port}/token"
        await connect(netra, provider, endpoints={"token": [gone, there]}, replay_window_s=0)
        with pytest.raises(RefreshFailed):
            await netra.oauth.token(TENANT, NAME)
        (entry,) = await entries_of(netra, "connection.refresh_failed")
        assert entry == {"name": NAME, "generation": 1, "tried": [[gone, "connect"], [there, "status_503"]]}
        (event,) = [each for each in await told(netra) if each["type"] == "connection.refresh_failed"]
        assert event == {"type": "connection.refresh_failed", "connection": NAME, "generation": 1, "cause": "status_503"}


async def test_refreshes_and_failures_are_events_of_the_log(netra):
    async with Provider("strict", "429@1") as provider:
        tokens = await connect(netra, provider)
        with pytest.raises(RefreshFailed):
            await netra.oauth.token(TENANT, NAME)
        await netra.oauth.refresh(TENANT, NAME)
        provider.grants.revoke_token(tokens["refresh_token"])
        with pytest.raises(ReauthRequired):
            await netra.oauth.refresh(TENANT, NAME)
        assert [(each["type"], each.get("cause") or each.get("reason")) for each in await told(netra)] == [
            ("connection.refresh_failed", "slow_down"),
            ("connection.refreshed", None),
            ("connection.refresh_failed", "invalid_grant"),
            ("connection.reauth_required", "revoked"),
        ]
        assert sorted(action for action in await audited(netra) if action.startswith("connection.")) == [
            "connection.import",
            "connection.reauth_required",
            "connection.refresh_failed",
            "connection.refresh_failed",
        ]


async def test_the_operator_is_told_of_connections_that_need_somebody(prepared):
    async with Provider("strict", "drop@1") as provider, MisbehavingEndpoint() as office, vault(prepared, workers=True) as netra:

        async def hook(tx):
            await tenants.ensure_system(tx)
            return await endpoints.create(tx, netra.sealer, Endpoint("", b"", None, office.url, "", None, None, False, None, {}, {}), None)

        await netra.database.write(hook, scope=Scope(SYSTEM_TENANT, "tester"))
        await connect(netra, provider, expires_in=600, replay_window_s=0)
        assert (await netra.oauth.refresh(TENANT, NAME)).stale
        await netra.oauth.revoke(TENANT, NAME)

        def arrived():
            return [json.loads(each.body) for each in office.received]

        await eventually(lambda: len(arrived()) == 2, 20)
        kinds = {each["type"]: each["data"] for each in arrived()}
        assert kinds["connection.at_risk"].items() >= {"connection": NAME, "reason": "reset"}.items()
        assert kinds["connection.revoked"].items() >= {"connection": NAME, "reason": "revoked_by_us"}.items()


async def test_an_answer_for_a_connection_that_was_deleted_is_forgotten_and_holds_up_no_other(netra, prepared):
    async with Provider("strict") as provider:
        await connect(netra, provider)
        spool, found = netra.oauth.refresher._spool, await netra.oauth._load(MINE, NAME)

        async def key(tx):
            return await netra.sealer.derive(tx, TENANT, "oauth.spool")

        sealing = await netra.database.write(key, scope=MINE)
        spool.write(Spooled(TENANT, b"\0" * 16, netra.oauth.holders.me, 1, 1, "fp", 1, 0), sealing, b'{"access_token":"at"}')
        answer = b'{"access_token":"at-late","refresh_token":"rt-late","expires_in":3600}'
        spool.write(Spooled(TENANT, found.id, netra.oauth.holders.me, found.fence, 1, found.rt_fp, 1, 0), sealing, answer)
        await netra.oauth.replay_leftovers()
        assert (await netra.oauth.status(TENANT, NAME))["generation"] == 2
        assert list((prepared / "oauth-spool").iterdir()) == []


async def test_a_way_goes_a_day_after_it_began_once_it_has_ended(netra, monkeypatch):
    async with Provider("strict") as provider:
        await netra.oauth.set_client(TENANT, "provider", provider.registration())
        done = await netra.oauth.connect(TENANT, "done", "provider", BACK)
        open_ = await netra.oauth.connect(TENANT, "open", "provider", BACK)
        answer = consent(provider, done)
        await netra.oauth.callback(answer)
        await netra.oauth.trim(100)
        assert (await netra.oauth.callback(answer))["state"] == "active"  # whoever comes again within a day hears what became of it
        monkeypatch.setattr(flows, "KEPT_S", -1)
        await netra.oauth.trim(1)
        with pytest.raises(UnknownState):
            await netra.oauth.callback(answer)
        assert (await netra.oauth.status(TENANT, "done"))["state"] == "active"
        assert (await netra.oauth.callback(consent(provider, open_)))["state"] == "active"


async def asked_all_the_time(netra, stop):
    """Calls of every kind, one after the other; how many."""
    count = 0
    while not stop.is_set():
        await netra.oauth.token(TENANT, NAME)
        await netra.oauth.refresh(TENANT, NAME)
        await netra.oauth.client(TENANT, "provider")
        count += 3
    return count


async def test_changing_the_root_key_under_load_fails_no_call(prepared):
    ring = prepared / "root.keys"
    old, new = (f"{name}:{base64.b64encode(name[:1].encode() * 32).decode()}\n" for name in ("old", "new"))

    async def under(keys, before):
        """One more process with these keys beside the former one, which then ends."""
        ring.write_text(keys)
        context = vault(prepared, workers=True)
        netra = await context.__aenter__()
        stop = asyncio.Event()
        load = asyncio.create_task(asked_all_the_time(netra, stop))
        await eventually(lambda: netra.oauth.memory.places())
        if before is not None:
            counts.append(await ended(before))
        return context, stop, load, netra

    async def ended(running):
        context, stop, load, _ = running
        stop.set()
        count = await load  # raises what any call has raised
        await context.__aexit__(None, None, None)
        return count

    counts: list[int] = []
    async with Provider("idempotent-grace", lifetime_s=3600) as provider:
        ring.write_text(old)
        async with vault(prepared) as first:
            await connect(first, provider)
        running = await under(old, None)
        running = await under(old + new, running)
        running = await under(new + old, running)
        both = running[3]

        async def is_moved():
            every, moved = await both.database.read(both.sealer.rewrap_progress, scope=SYSTEM)
            return every == moved > 0

        await eventually(is_moved, 20)
        running = await under(new, running)
        counts.append(await ended(running))
        assert len(counts) == 4 and all(count >= 3 for count in counts)
        assert provider.most_in_flight == 1
