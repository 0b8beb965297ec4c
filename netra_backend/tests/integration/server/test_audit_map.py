"""Every route with an effect is audited in its transaction, or stands on the reasoned list."""

from __future__ import annotations

import json

from netra_backend.batch import chunks, store
from netra_backend.batch.model import Chunk, Failure, Part
from netra_backend.batch.registry import Job
from netra_backend.kernel.ids import from_text
from netra_backend.kernel.scope import Scope
from netra_backend.server.audit_map import AUDITED, NOT_AUDITED
from netra_backend.storage import nodes

from ...support.server import API, client_of, endpoint, message

NODE = b"n" * 16
HIDDEN = {"HEAD /api/v1/health", "GET /openapi.json"}


async def routes_of(app) -> set[str]:
    async with client_of(app, None) as nobody:
        document = (await nobody.get("/openapi.json")).json()
    return {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item} | HIDDEN


async def test_each_route_is_decided(app):
    assert set(AUDITED) | set(NOT_AUDITED) == await routes_of(app)
    assert set(AUDITED) & set(NOT_AUDITED) == set()
    assert all(len(reason) > 10 for reason in NOT_AUDITED.values())


async def entries(operator) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    tenants = [each["uid"] for each in (await operator.get(f"{API}/tenants")).json()["data"]]
    for path in [f"{API}/audit", *(f"{API}/tenants/{tenant}/audit" for tenant in tenants)]:
        for entry in (await operator.get(path, params={"limit": 250})).json()["data"]:
            found.setdefault(entry["trace_id"], []).append(entry["action"])
    return found


async def with_a_dead_letter(tx, run_id):
    """A run that has begun, with one item that failed: what a rerun needs."""
    await store.plan(tx, run_id, [Part(None)], 10)
    await tx.execute(nodes.Q.insert_node, id=NODE, host="h", pid=1, role="r", started_us=1)
    (lease,) = await store.claim(tx, run_id, NODE, 1)
    chunk = Chunk(0, None, [1], [1], [None], {0: Failure("x", 1)}, last=False)
    await chunks.commit(tx, lease, Job("job", read=None, write=None), chunk, 1.0)


async def test_each_audited_route_writes_what_it_says(app, operator, netra):
    made = await endpoint(operator, uid="hook")
    sent = await message(operator)
    key = (await operator.post(f"{API}/keys", json={"name": "a"})).json()["id"]
    own = (await operator.post(f"{API}/tenants/acme/keys", json={"name": "a"})).json()["id"]
    run = (await operator.post(f"{API}/tenants/acme/batch/runs", json={"job": "nobody's"})).json()["run"]
    await netra.database.write(with_a_dead_letter, from_text("run", run), scope=Scope("acme", "tester"))
    values = {"app_id": "acme", "tenant": "acme", "endpoint_id": made["id"], "msg_id": sent["id"], "event_type_name": "a.b", "run": run}
    values |= {"client": "provider", "connection": "user"}
    bodies = {
        "POST /api/v1/app": {"name": "n", "uid": "fresh"},
        "PUT /api/v1/app/{app_id}": {"name": "n"},
        "PATCH /api/v1/app/{app_id}": {"name": "m"},
        "POST /api/v1/app/{app_id}/endpoint": {"url": "http://example.com/"},
        "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}": {"url": "http://example.com/"},
        "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}": {"description": "x"},
        "POST /api/v1/event-type": {"name": "a.b", "description": "d"},
        "PUT /api/v1/event-type/{event_type_name}": {"description": "d"},
        "PATCH /api/v1/event-type/{event_type_name}": {"description": "e"},
        "POST /api/v1/keys": {"name": "b"},
        "POST /api/v1/tenants": {"uid": "another"},
        "POST /api/v1/tenants/{tenant}/cache/invalidate": {"deps": ["org:7"]},
        "POST /api/v1/tenants/{tenant}/keys": {"name": "b"},
        "POST /api/v1/tenants/{tenant}/batch/runs": {"job": "another"},
        "PUT /api/v1/tenants/{tenant}/oauth/clients/{client}": {"client_id": "c", "endpoints": {"token": ["http://127.0.0.1/token"]}},
        "POST /api/v1/tenants/{tenant}/connections": {"name": "user", "client": "provider", "tokens": {"access_token": "a"}},
    }
    last = ["DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id}", "DELETE /api/v1/app/{app_id}"]
    rotations = [route for route in AUDITED if route.endswith("/keys/{key_id}/rotate")]  # before the key is revoked
    first = [route for route in AUDITED if route not in last and route not in rotations]
    traces = {}
    for number, route in enumerate([*rotations, *first, last[0]]):
        method, _, path = route.partition(" ")
        trace = f"{number + 1:032x}"
        path = path.format(**values, key_id=own if "/tenants/" in path else key)
        body = bodies.get(route)
        content = None if body is None else json.dumps(body)
        headers = {"traceparent": f"00-{trace}-{1:016x}-01", "content-type": "application/json"}
        answer = await operator.request(method, path, content=content, headers=headers)
        assert answer.status_code < 300, (route, answer.text)
        traces[route] = trace
    found = await entries(operator)
    for route, trace in traces.items():
        assert trace in found, f"{route} wrote no entry"
        assert set(found[trace]) <= set(AUDITED[route]), route
    assert (await operator.delete(f"{API}/app/acme")).status_code == 204
