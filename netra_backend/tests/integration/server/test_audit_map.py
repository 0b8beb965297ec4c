"""Every route with an effect is audited in its transaction, or stands on the reasoned list."""

from __future__ import annotations

import json

from netra_backend.batch import chunks, store
from netra_backend.batch.model import Chunk, Failure, Part
from netra_backend.batch.registry import Job
from netra_backend.kernel.ids import from_text, to_text
from netra_backend.kernel.scope import Scope, TraceContext
from netra_backend.server.app import ROUTERS
from netra_backend.server.audit_map import AUDITED, NOT_AUDITED
from netra_backend.storage import nodes
from netra_backend.webhooks import store as webhooks_store
from netra_backend.webhooks.intake import Q as WEBHOOKS
from netra_backend.webhooks.model import Attempt

from ...support.server import API, client_of, endpoint, message

NODE = b"n" * 16
LOGIN_CLIENT = {
    "client_id": "c",
    "issuer": "http://127.0.0.1/first",
    "endpoints": {"token": ["http://127.0.0.1/token"], "authorize": "http://127.0.0.1/authorize"},
}
AGO = "2020-01-01T00:00:00Z"


async def routes_of(app) -> set[str]:
    async with client_of(app, None) as nobody:
        document = (await nobody.get("/openapi.json")).json()
    shown = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    hidden = [route for router in ROUTERS for route in router.routes if not route.include_in_schema]
    return shown | {f"{method} {route.path}" for route in hidden for method in route.methods} | {"GET /openapi.json"}


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


async def one_attempt(netra, message_id, endpoint_id):
    """An attempt of that message, as a sender would have written it."""
    ids = from_text("msg", message_id), from_text("ep", endpoint_id)
    made = Attempt("acme", ids[0], b"a" * 16, ids[1], 1, False, 1, 1, "failed", 500, "", "", "words", "u", late=False, trace=TraceContext())
    await netra.database.write(
        run, WEBHOOKS.insert_attempts, [webhooks_store._attempt_row(made, late=False)], scope=Scope("acme", "tester")
    )
    return to_text("atmpt", made.id)


async def invite(tx, netra):
    """An entry with personal data."""
    return await netra.audit.record(tx, "user.invite", "user_1", personal={"email": "a@b.example"})


async def run(tx, statement, rows):
    return await tx.execute(statement, rows=rows)


async def test_each_audited_route_writes_what_it_says(app, operator, netra):
    made = await endpoint(operator, uid="hook")
    told = (await operator.post(f"{API}/operational-webhook/endpoint", json={"url": "http://example.com/"})).json()["id"]
    sent = await message(operator)
    key = (await operator.post(f"{API}/keys", json={"name": "a"})).json()["id"]
    own = (await operator.post(f"{API}/tenants/acme/keys", json={"name": "a"})).json()["id"]
    run = (await operator.post(f"{API}/tenants/acme/batch/runs", json={"job": "nobody's"})).json()["run"]
    await netra.database.write(with_a_dead_letter, from_text("run", run), scope=Scope("acme", "tester"))
    attempt = await one_attempt(netra, sent["id"], made["id"])
    personal = [await netra.write(invite, netra, tenant="acme") for _ in range(2)]
    await netra.audit.settle(Scope("acme", "tester"))
    indices = {
        each["id"]: each["index"] for each in (await operator.get(f"{API}/tenants/acme/audit", params={"limit": 250})).json()["data"]
    }
    task = (await operator.post(f"{API}/app/acme/endpoint/hook/recover", json={"since": AGO})).json()["id"]
    other = {"message": (await message(operator))["id"], "endpoint": made["id"], "attempt_id": attempt, "task": task}
    values = {
        **other,
        "name": "nightly",
        "app_id": "acme",
        "tenant": "acme",
        "endpoint_id": made["id"],
        "msg_id": sent["id"],
        "event_type_name": "a.b",
        "run": run,
    }
    values |= {"client": "provider", "connection": "user", "provider": "first", "entry": personal[0]}
    other_issuer = {**LOGIN_CLIENT, "issuer": "http://127.0.0.1/backup"}
    for path, body in (("oauth/clients/backup", other_issuer), ("sso/providers/backup", {"client": "backup", "rank": 1})):
        assert (await operator.put(f"{API}/tenants/acme/{path}", json=body)).status_code == 200
    assert (await operator.put(f"{API}/sso/providers/backup", json={"client": other_issuer, "rank": 1})).status_code == 200
    values |= {"client": "provider", "connection": "user", "entry": personal[0]}
    values["session"] = (await operator.post(f"{API}/tenants/acme/debug/sessions", json={"reason": "look"})).json()["session"]
    bodies = {
        "POST /api/v1/app": {"name": "n", "uid": "fresh"},
        "POST /api/v1/tenants/{tenant}/audit/erase": {"index": indices[personal[1]], "reason": "asked"},
        "PUT /api/v1/app/{app_id}": {"name": "n"},
        "PATCH /api/v1/app/{app_id}": {"name": "m"},
        "POST /api/v1/app/{app_id}/endpoint": {"url": "http://example.com/"},
        "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}": {"url": "http://example.com/"},
        "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}": {"description": "x"},
        "POST /api/v1/operational-webhook/endpoint": {"url": "http://example.com/"},
        "PUT /api/v1/operational-webhook/endpoint/{endpoint_id}": {"url": "http://example.com/"},
        "PATCH /api/v1/operational-webhook/endpoint/{endpoint_id}": {"description": "x"},
        "PUT /api/v1/operational-webhook/endpoint/{endpoint_id}/headers": {"headers": {"X-A": "1"}},
        "PATCH /api/v1/operational-webhook/endpoint/{endpoint_id}/headers": {"headers": {"X-B": "1"}},
        "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers": {"headers": {"x-a": "1"}},
        "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers": {"headers": {"x-a": "2"}},
        "POST /api/v1/auth/app-portal-access/{app_id}": {},
        "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/recover": {"since": AGO},
        "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing": {"since": AGO},
        "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay": {"since": AGO},
        "POST /api/v1/tenants/{tenant}/webhooks/dead/redrive": {},
        "POST /api/v1/tenants/{tenant}/webhooks/messages/{message}/cancel": {"why": "a mistake"},
        "POST /api/v1/tenants/{tenant}/webhooks/endpoints/{endpoint}/cancel": {"why": "a mistake"},
        "POST /api/v1/event-type": {"name": "a.b", "description": "d"},
        "PUT /api/v1/event-type/{event_type_name}": {"description": "d"},
        "PATCH /api/v1/event-type/{event_type_name}": {"description": "e"},
        "POST /api/v1/keys": {"name": "b"},
        "POST /api/v1/tenants": {"uid": "another"},
        "POST /api/v1/tenants/{tenant}/cache/invalidate": {"deps": ["org:7"]},
        "POST /api/v1/tenants/{tenant}/keys": {"name": "b"},
        "POST /api/v1/tenants/{tenant}/debug/sessions": {"reason": "look"},
        "POST /api/v1/tenants/{tenant}/debug/sessions/{session}/extend": {},
        "POST /api/v1/tenants/{tenant}/batch/runs": {"job": "another"},
        "PUT /api/v1/tenants/{tenant}/oauth/clients/{client}": LOGIN_CLIENT,
        "PUT /api/v1/tenants/{tenant}/sso/providers/{provider}": {"client": "provider", "default_role": "viewer"},
        "POST /api/v1/tenants/{tenant}/sso/links": {"provider": "first", "subject": "u", "backup": "backup", "backup_subject": "b"},
        "POST /api/v1/tenants/{tenant}/sso/pin": {"provider": "first"},
        "PUT /api/v1/sso/providers/{provider}": {"client": LOGIN_CLIENT},
        "POST /api/v1/sso/links": {"provider": "first", "subject": "u", "backup": "backup", "backup_subject": "b"},
        "POST /api/v1/sso/pin": {"provider": "first"},
        "PUT /api/v1/tenants/{tenant}/batch/schedules/{name}": {"job": "another", "cron": "@daily"},
        "POST /api/v1/tenants/{tenant}/connections": {"name": "user", "client": "provider", "tokens": {"access_token": "a"}},
    }
    links = [(await operator.post(f"{API}/auth/app-portal-access/acme", json={})).json()["token"] for _ in range(2)]
    carried = {
        "POST /api/v1/auth/logout": {"authorization": f"Bearer {links[0]}"},
        "DELETE /ui/session": {"authorization": f"Bearer {links[1]}"},
    }
    last = ["DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id}", "DELETE /api/v1/app/{app_id}"]
    rotations = [route for route in AUDITED if route.endswith("/keys/{key_id}/rotate")]  # before the key is revoked
    first = [route for route in AUDITED if route not in last and route not in rotations]
    traces = {}
    for number, route in enumerate([*rotations, *first, last[0]]):
        method, _, path = route.partition(" ")
        trace = f"{number + 1:032x}"
        of_operator = {"endpoint_id": told} if "/operational-webhook/" in path else {}
        path = path.format(**{**values, **of_operator}, key_id=own if "/tenants/" in path else key)
        body = bodies.get(route)
        content = None if body is None else json.dumps(body)
        headers = {"traceparent": f"00-{trace}-{1:016x}-01", "content-type": "application/json", "accept": "application/json"}
        answer = await operator.request(method, path, content=content, headers=headers | carried.get(route, {}))
        assert answer.status_code < 300, (route, answer.text)
        traces[route] = trace
    found = await entries(operator)
    for route, trace in traces.items():
        assert trace in found, f"{route} wrote no entry"
        assert set(found[trace]) <= set(AUDITED[route]), route
    assert (await operator.delete(f"{API}/app/acme")).status_code == 204
