"""Debug sessions over REST: an operator's only, followed as server-sent events, exchanges of the API itself among what is recorded."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from netra_backend.kernel.ids import from_text
from netra_backend.kernel.scope import Scope
from netra_backend.observability.debug import store
from netra_backend.server.app import create_app

from ...support.server import API, OPERATOR, actions, client_of, new_netra, serving, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
SESSIONS = f"{API}/tenants/acme/debug/sessions"


@pytest.fixture
async def program(tmp_path):
    async with new_netra(tmp_path) as netra, client_of(create_app(netra)) as operator:
        for uid in ("acme", "globex"):
            await operator.post(f"{API}/app", json={"name": uid, "uid": uid})
        yield netra, operator


async def started(operator, **asked):
    made = await operator.post(SESSIONS, json={"reason": "deliveries fail", **asked})
    assert made.status_code == 201, made.text
    return made.json()


async def flush(netra):
    for live in netra.debug.hub.lives:
        await netra.debug.hub._flush(live)


async def page(operator, session, after=0):
    answer = await operator.get(f"{SESSIONS}/{session}/records", params={"after": after}, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_session_is_started_shown_extended_listed_and_ended(program):
    _, operator = program
    made = await started(operator, ttl="10m", user="key:x", logpoints=[{"at": "a.b:c", "where": "n == 1"}])
    assert (made["state"], made["tenant"], made["reason"]) == ("active", "acme", "deliveries fail")
    longer = (await operator.post(f"{SESSIONS}/{made['session']}/extend", json={"ttl": "1h"})).json()
    assert longer["expires_at"] > made["expires_at"]
    assert [each["session"] for each in (await operator.get(SESSIONS)).json()["data"]] == [made["session"]]
    assert "netra_debug_sessions 1.0" in (await operator.get("/metrics")).text
    assert (await operator.delete(f"{SESSIONS}/{made['session']}")).status_code == 204
    assert (await operator.get(SESSIONS)).json()["data"] == []
    (ended,) = (await operator.get(SESSIONS, params={"ended": True})).json()["data"]
    assert (ended["state"], ended["ended_by"]) == ("ended", "actor")
    assert (await operator.post(f"{SESSIONS}/{made['session']}/extend", json={})).json()["code"] == "session_ended"
    seen = [action for action in await actions(operator) if action.startswith("debug.")]
    assert seen == ["debug.start", "debug.extend", "debug.list", "debug.end", "debug.list", "debug.list"]
    assert "netra_debug_sessions 0.0" in (await operator.get("/metrics")).text


async def test_a_tenants_key_opens_none_of_it_and_another_tenants_path_finds_nothing(program):
    _, operator = program
    made = await started(operator)
    key = (await tenant_key(operator, scopes=["tenant"]))["key"]
    headers = {"authorization": f"Bearer {key}"}
    for method, path in [
        ("POST", ""),
        ("GET", ""),
        *(
            (m, f"/{made['session']}{p}")
            for m, p in (("GET", ""), ("DELETE", ""), ("GET", "/records"), ("GET", "/export"), ("POST", "/extend"))
        ),
    ]:
        answer = await operator.request(method, SESSIONS + path, json={"reason": "x"} if method == "POST" else None, headers=headers)
        assert answer.status_code == 403, (method, path)
        elsewhere = SESSIONS.replace("acme", "globex") + path
        if made["session"] in path:
            assert (await operator.request(method, elsewhere, json={} if method == "POST" else None)).status_code == 404


async def test_exchanges_of_the_api_are_recorded_without_their_secrets(program):
    netra, operator = program
    session = (await started(operator, capture=["http"]))["session"]
    for tenant in ("acme", "globex"):
        await operator.post(f"{API}/app/{tenant}/msg", json={"eventType": "a.b", "payload": {"note": tenant, "password": "hunter2"}})
    await operator.post(f"{API}/app/acme/msg", json={"payload": {}})  # refused
    await operator.get(f"{API}/app/acme/endpoint")
    await flush(netra)
    records = (await page(operator, session))["data"]
    shown = [(each["data"]["method"], each["data"]["url"].partition("/app/")[2], each["data"]["answer"]["status"]) for each in records]
    assert shown == [("POST", "acme/msg", 202), ("POST", "acme/msg", 422), ("GET", "acme/endpoint", 200)]
    text = json.dumps(records)
    assert "globex" not in text and "hunter2" not in text and OPERATOR not in text
    assert '\\"note\\":\\"acme\\"' in text


async def test_records_are_followed_as_events_until_the_session_is_over(program, tmp_path):
    netra, operator = program
    session = (await started(operator, capture=["http"]))["session"]
    async with serving(netra) as url, httpx.AsyncClient(headers={"authorization": f"Bearer {OPERATOR}"}, timeout=20) as client:
        events = []

        async def follow(after=""):
            headers = {"last-event-id": after} if after else {}
            async with client.stream("GET", f"{url}{SESSIONS}/{session}/records", headers=headers) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                async for line in stream.aiter_lines():
                    events.append(line)  # noqa: PERF401  (looked at while it grows)

        task = asyncio.create_task(follow())
        await operator.get(f"{API}/app/acme/endpoint")
        await eventually(lambda: any(line == "event: http" for line in events))
        await operator.delete(f"{SESSIONS}/{session}")
        await task
        assert events[0] == "id: 1"
        record = json.loads(next(line for line in events if line.startswith("data: "))[6:])
        assert {"session", "tenant", "kind", "at", "trace_id", "data"} <= record.keys()
        assert [line for line in events if line.startswith("event: ")][-1] == "event: ended"
        events.clear()
        await follow(after="1")
        assert [line for line in events if line.startswith("event: ")] == ["event: ended"]
    assert (await actions(operator)).count("debug.view") == 2


async def test_records_are_followed_no_longer_than_the_key_that_asked_for_them(program):
    netra, operator = program
    session = (await started(operator, capture=["http"]))["session"]
    await operator.get(f"{API}/app/acme/endpoint")
    await flush(netra)
    made = (await operator.post(f"{API}/keys", json={"name": "leaves"})).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    async with serving(netra) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client, asyncio.timeout(60):
        async with client.stream("GET", f"{SESSIONS}/{session}/records") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "id: 1"
            await operator.post(f"{API}/keys/{made['id']}/revoke")
            rest = [line async for line in lines]
        assert "event: ended" not in rest
        assert (await client.get(f"{SESSIONS}/{session}/records")).status_code == 401


async def test_every_view_leaves_an_entry_and_an_export_is_one_document(program):
    netra, operator = program
    session = (await started(operator, capture=["http"]))["session"]
    await operator.get(f"{API}/app/acme/endpoint")
    await flush(netra)
    before = len(await actions(operator))
    first = await page(operator, session)
    assert (await page(operator, session, first["after"]))["data"] == []
    exported = (await operator.get(f"{SESSIONS}/{session}/export")).json()
    assert exported["session"]["session"] == session
    assert exported["records"][0]["seq"] == 1
    assert (await actions(operator))[before:] == ["debug.view", "debug.view", "debug.export"]


async def test_a_deleted_tenants_captures_are_gone_and_its_sessions_over(program):
    netra, operator = program
    session = (await started(operator, capture=["http"]))["session"]
    await operator.get(f"{API}/app/acme/endpoint")
    await flush(netra)
    assert (await page(operator, session))["data"]
    assert (await operator.delete(f"{API}/app/acme")).status_code == 204
    await netra.debug.hub.look()
    assert netra.debug.hub.lives == ()

    view = await netra.database.read(store.view, from_text("dbg", session), 0, 10, None, scope=Scope("acme"))
    assert (view.rows, view.session.ended_by) == ([], "tenant")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"reason": ""},
        {"reason": "x", "ttl": "9h"},
        {"reason": "x", "capture": ["all"]},
        {"reason": "x", "more": 1},
        {"reason": "x", "logpoints": [{"at": "nowhere"}]},
    ],
)
async def test_a_start_that_is_asked_badly_is_422(program, wrong):
    _, operator = program
    assert (await operator.post(SESSIONS, json=wrong)).status_code == 422


async def test_one_key_is_one_session(program):
    _, operator = program
    made = [(await operator.post(SESSIONS, json={"reason": "x"}, headers={"idempotency-key": "one"})).json() for _ in range(2)]
    assert made[0]["session"] == made[1]["session"]
