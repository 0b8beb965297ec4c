"""The dashboard's pages, as answers: whose data they show, how lists go on, what a stream sends, and that no page counts a large table."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from netra_backend.dashboard import places, routing
from netra_backend.errors import InvalidInput
from netra_backend.kernel.ids import from_text
from netra_backend.kernel.scope import Scope
from netra_backend.resilience.circuit_breaker import Breaker
from netra_backend.storage.sqlite_transaction import SqliteTx
from netra_backend.webhooks import health
from netra_backend.webhooks.model import WELL, EndpointHealth, News

from ...support.dashboard import furnish
from ...support.server import API, OPERATOR, SYSTEM, actions, client_of, endpoint, message, serving, tenant_key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


OPERATORS = ("overview", "kpis", "audit", "tenants", "settings")


async def test_every_page_of_a_tenant_is_shown_to_its_key_and_to_an_operator_who_names_it(netra, app, operator):
    own = await furnish(netra, "one")
    key = (await tenant_key(operator, own.tenant))["key"]
    async with client_of(app, key) as tenant:
        for path in own.paths:
            assert (await tenant.get(f"/ui/{path}")).status_code == 200, path
            shown = await operator.get(f"/ui/{path}", params={"tenant": own.tenant})
            assert shown.status_code == 200, path
            assert 'data-netra="' in shown.text, path
    for path in OPERATORS:
        assert (await operator.get(f"/ui/{path}")).status_code == 200, path
    assert (await operator.get("/ui/webhooks")).text.count(f"tenant={own.tenant}") == 1


@pytest.mark.usefixtures("every_server_engine")
async def test_a_tenant_sees_nothing_of_another(netra, app, operator):
    mine, other = await furnish(netra, "one"), await furnish(netra, "two")
    key = (await tenant_key(operator, mine.tenant))["key"]
    async with client_of(app, key) as tenant:
        for path in mine.paths:
            shown = await tenant.get(f"/ui/{path}", params={"tenant": other.tenant})
            assert not [mark for mark in other.marks if mark in shown.text], path
            assert shown.status_code == 200, path
        for path in set(other.paths) - set(mine.paths):
            assert (await tenant.get(f"/ui/{path}")).status_code == 404, path
        for path in ("tenants", "settings"):
            assert (await tenant.get(f"/ui/{path}")).status_code == 403, path


async def test_a_place_of_another_list_or_a_made_up_one_is_refused(operator):
    await message(operator)
    for text in ("x", "=", places.write((b"1" * 16,)), places.write((2**63, b"")), places.write(("1", b""))):
        answer = await operator.get("/ui/webhooks", params={"tenant": "acme", "after": text})
        assert answer.status_code == 422, text
    with pytest.raises(InvalidInput):
        places.read(places.write((True, b"")), "ib")


async def test_an_operator_who_names_nobody_chooses_and_a_wrong_name_is_told(operator):
    assert "Whose cache?" in (await operator.get("/ui/cache")).text
    assert (await operator.get("/ui/cache", params={"tenant": "nobody"})).status_code == 404


async def events(client, path, params=None):
    """The pages that a stream sends."""
    async with client.stream("GET", path, params=params, headers={"accept": "text/event-stream"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


async def test_a_live_page_is_sent_again_when_something_was_committed(netra, operator):
    await endpoint(operator)
    async with serving(netra) as url, httpx.AsyncClient(base_url=url, headers=bearer(OPERATOR)) as client, asyncio.timeout(60):
        pages = events(client, "/ui/webhooks", {"tenant": "acme"})
        assert "There is no message here." in await anext(pages)
        sent = await message(operator)
        async for page in pages:
            if sent["id"] in page:
                break
        await pages.aclose()


async def test_an_endpoints_page_shows_how_its_breaker_was_over_the_day(netra, operator):
    made = await endpoint(operator)
    page = f"/ui/webhooks/endpoints/{made['id']}"
    assert "the breaker over the last 24 hours: never open" in (await operator.get(page, params={"tenant": "acme"})).text
    lane = ("acme", from_text("ep", made["id"]))
    now_us, minute_us = netra.runtime.clock.wall_us(), 60_000_000
    breaker, seen = Breaker("open", now_us - 90 * minute_us, now_us - 89 * minute_us, openings=1), WELL
    for after in (breaker, Breaker("closed", now_us - 30 * minute_us)):
        await netra.database.write(health.settle, [News(*lane, seen, EndpointHealth(after))], scope=SYSTEM)
        seen = EndpointHealth(after)
    shown = (await operator.get(page, params={"tenant": "acme"})).text
    assert "the breaker over the last 24 hours: open once, for 1 h in all" in shown
    assert [shown.count(f">{word} since ") for word in ("closed", "open", "half open")] == [2, 1, 0]


async def test_a_live_page_ends_within_a_second_of_its_keys_revocation(netra, operator):
    made = await tenant_key(operator)
    async with serving(netra) as url, httpx.AsyncClient(base_url=url, headers=bearer(made["key"])) as client, asyncio.timeout(60):
        pages = events(client, "/ui/webhooks")
        await anext(pages)
        await operator.post(f"{API}/tenants/acme/keys/{made['id']}/revoke")
        async for _ in pages:
            pass
        assert (await client.get("/ui/webhooks")).status_code == 401


async def test_more_live_pages_than_the_bound_are_shown_as_they_are(operator, monkeypatch):
    monkeypatch.setattr(routing, "MOST_STREAMS", 0)
    refused = await operator.get("/ui/overview", headers={"accept": "text/event-stream"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await operator.get("/ui/overview")).status_code == 200


async def test_no_page_counts_a_large_table(netra, operator, monkeypatch):
    own = await furnish(netra, "one")
    asked = {}
    for name in ("one", "all"):
        plain = getattr(SqliteTx, name)

        async def noted(tx, statement, _plain=plain, **params):
            asked[statement.name] = statement
            return await _plain(tx, statement, **params)

        monkeypatch.setattr(SqliteTx, name, noted)
    for path in own.paths:
        assert (await operator.get(f"/ui/{path}", params={"tenant": own.tenant})).status_code == 200, path
    assert len(asked) > 15
    large = [each for each in asked.values() if re.search(r"netra_(message|delivery|attempt|item_failure|audit_entry)", each.text)]
    counting = {each.name for each in large if "count(" in each.text.lower()}
    assert len(large) > 8
    assert counting <= {"queued_deliveries"}, "it stops at its limit"


def test_ids_in_addresses_are_those_of_the_api():
    place = places.write((5, from_text("msg", "msg_01hq0000000000000000000000"), "x"))
    assert places.read(place, "ibs")[0] == 5


async def test_an_entry_of_the_trail_shows_its_proof_once_it_is_signed(netra, app, operator):
    mine, other = await furnish(netra, "one"), await furnish(netra, "two")
    listed = (await operator.get("/ui/audit", params={"tenant": mine.tenant, "action": "tenant.create"})).text
    (entry,) = set(re.findall(r"/ui/audit/(aud_\w+)", listed))
    await netra.audit.settle(Scope(mine.tenant, "tester"))
    shown = await operator.get(f"/ui/audit/{entry}", params={"tenant": mine.tenant})
    assert shown.status_code == 200 and "c2sp.org/tlog-proof@v1" in shown.text
    key = (await tenant_key(operator, other.tenant))["key"]
    async with client_of(app, key) as tenant:
        assert (await tenant.get(f"/ui/audit/{entry}")).status_code == 404


async def test_a_debug_sessions_page_is_the_operators_and_is_not_sent_again_by_itself(netra, app, operator):
    own = await furnish(netra, "one")
    at = f"{API}/tenants/{own.tenant}/debug/sessions"
    started = (await operator.post(at, json={"reason": "<b>why</b>", "ttl": "10m"})).json()["session"]
    for path in ("debug", f"debug/{started}"):
        shown = await operator.get(f"/ui/{path}", params={"tenant": own.tenant})
        assert shown.status_code == 200 and "&lt;b&gt;why" in shown.text, path
        live = await operator.get(f"/ui/{path}", params={"tenant": own.tenant}, headers={"accept": "text/event-stream"})
        assert live.status_code == 204, "a look is an entry of the trail: no page looks by itself"
        async with client_of(app, (await tenant_key(operator, own.tenant))["key"]) as tenant:
            assert (await tenant.get(f"/ui/{path}")).status_code == 403
    assert "debug.show" in await actions(operator, f"{API}/tenants/{own.tenant}/audit")


async def test_a_message_leads_to_its_trace_which_shows_its_tenants_spans_only(netra, app, operator):
    mine, other = await furnish(netra, "one"), await furnish(netra, "two")
    page = (await operator.get(f"/ui/{mine.paths[3]}", params={"tenant": mine.tenant})).text
    (trace,) = set(re.findall(r"/ui/traces/([0-9a-f]{32})", page))
    shown = await operator.get(f"/ui/traces/{trace}", params={"tenant": mine.tenant})
    assert shown.status_code == 200 and 'data-netra="trace.waterfall"' in shown.text
    assert (await operator.get("/ui/traces", params={"id": trace})).status_code == 200
    for key, status in (((await tenant_key(operator, mine.tenant))["key"], 200), ((await tenant_key(operator, other.tenant))["key"], 404)):
        async with client_of(app, key) as tenant:
            assert (await tenant.get(f"/ui/traces/{trace}")).status_code == status
