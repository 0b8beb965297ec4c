"""Hostile requests get a 4xx, quickly, never a 5xx; and what they say reaches no log with its control bytes."""

from __future__ import annotations

import json

import pytest

from ..support.server import API, client_of, endpoint, message

pytestmark = pytest.mark.usefixtures("every_server_engine")
JSON = {"content-type": "application/json"}
MSG = f"{API}/app/acme/msg"
BATCH = f"{MSG}/batch"
DEEP = 100_000


def around(value: bytes) -> bytes:
    """A message whose payload holds that value."""
    return b'{"eventType":"a.b","payload":{"x":' + value + b"}}"


MALFORMED = {
    "nothing": b"",
    "not json": b"hello",
    "trailing garbage": around(b"1") + b"x",
    "two documents": around(b"1") * 2,
    "NaN": around(b"NaN"),
    "Infinity": around(b"-Infinity"),
    "a number beyond a double": around(b"1e999"),
    "a huge integer": around(b"9" * 10_000),
    "bad UTF-8": around(b'"\xff\xfe"'),
    "overlong UTF-8": around(b'"\xc0\x80"'),
    "a surrogate in UTF-8": around(b'"\xed\xa0\x80"'),
    "a lone surrogate": around(rb'"\ud800"'),
    "a NUL": around(b'"\x00"'),
    "an escaped NUL": around(rb'"\u0000"'),
    "UTF-16": around(b"1").decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + around(b"1"),
    "deep arrays": around(b"[" * DEEP + b"]" * DEEP),
    "deep objects": around(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "never closed": around(b"[" * DEEP),
}
WRONG = {
    "twice the same member": b'{"eventType":"a.b","eventType":"a.c","payload":{}}',
    "twice, once escaped": rb'{"eventType":"a.b","payload":{},"\u0070ayload":{}}',
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "nothing known": b"{}",
    "wrong types": b'{"eventType":{},"payload":5,"channels":{},"tags":1,"eventId":[],"deliverAt":{},"application":1}',
    "bidi in an event type": '{"eventType":"a\u202eb","payload":{}}'.encode(),
    "bidi in an eventId": '{"eventType":"a.b","payload":{},"eventId":"\u202ex"}'.encode(),
}


async def test_a_message_that_is_not_json_is_a_400(operator):
    for name, body in MALFORMED.items():
        answer = await operator.post(MSG, content=body, headers=JSON)
        assert (name, answer.status_code, answer.json()["code"]) == (name, 400, "malformed_body")
        many = await operator.post(BATCH, content=b"[" + body + b"]" if body else b"", headers=JSON)
        assert (name, many.status_code) == (name, 400)


async def test_a_message_that_makes_no_sense_is_a_422(operator):
    for name, body in WRONG.items():
        answer = await operator.post(MSG, content=body, headers=JSON)
        assert (name, answer.status_code) == (name, 422)
        assert {"loc", "msg", "type"} <= set(answer.json()["detail"][0])
    assert (await operator.get(MSG)).json()["data"] == []


WRITES = [
    ("POST", "/app", {"name": "n"}),
    ("PUT", "/app/acme", {"name": "n"}),
    ("PATCH", "/app/acme", {"name": "n"}),
    ("POST", "/app/acme/endpoint", {"url": "http://example.com/"}),
    ("PUT", "/app/acme/endpoint/x", {"url": "http://example.com/"}),
    ("PATCH", "/app/acme/endpoint/{ep}", {"description": "d"}),
    ("POST", "/app/acme/endpoint/{ep}/secret/rotate", {"key": None}),
    ("POST", "/event-type", {"name": "a", "description": "d"}),
    ("PUT", "/event-type/a", {"description": "d"}),
    ("PATCH", "/event-type/a", {"description": "d"}),
    ("POST", "/keys", {"name": "n"}),
    ("POST", "/tenants", {"uid": "u"}),
    ("POST", "/tenants/acme/keys", {"name": "n"}),
]
VALUES = [None, 5, -1, 10**30, 1.5, True, "", "x" * 100_000, "\u202e", "\ud83d", "a\nb", [], [[]], {}, {"a": {"b": []}}, ["\x1f"]]


async def test_every_other_route_refuses_hostile_documents_too(operator):
    made = await endpoint(operator)
    for method, path, body in WRITES:
        path = API + path.format(ep=made["id"])
        for name, hostile in {**MALFORMED, "an array": b"[1]", "a string": b'"x"'}.items():
            if not hostile and method == "POST" and path.endswith("rotate"):
                continue  # its body is optional
            answer = await operator.request(method, path, content=hostile, headers=JSON)
            assert (path, name, answer.status_code // 100) == (path, name, 4)
        member = next(iter(body))
        twice = f'{{"{member}":1,"{member}":2}}'
        assert (await operator.request(method, path, content=twice, headers=JSON)).status_code == 422
        for value in VALUES:
            text = json.dumps({**body, member: value})
            answer = await operator.request(method, path, content=text, headers=JSON)
            assert (method, path, repr(value)[:40], answer.status_code < 500) == (method, path, repr(value)[:40], True)


async def test_a_body_of_another_type_is_a_415(operator):
    for kind in (
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/x-ndjson",
    ):
        for path in (MSG, BATCH, f"{API}/app"):
            if (kind, path) == ("application/x-ndjson", BATCH):
                continue  # the one place that takes it
            answer = await operator.post(path, content=b"a=b", headers={"content-type": kind})
            assert (kind, path, answer.status_code) == (kind, path, 415)
    assert (await operator.post(MSG, content=around(b"1"), headers={"content-type": "application/json; charset=utf-8"})).status_code == 202
    assert (await operator.post(MSG, content=around(b"1"))).status_code == 202


IDS = [
    "x",
    "msg_",
    "msg_" + "0" * 26,
    "ep_" + "z" * 26,
    "atmpt_" + "7" * 26,
    "'; drop table x; --",
    "..",
    "%",
    "\u202e",
    "e" * 3000,
    "*",
    "-1",
]


async def test_ids_that_nothing_has_are_a_4xx_everywhere(operator):
    made, sent = await endpoint(operator), await message(operator)
    paths = [
        ("GET", "/app/{x}"),
        ("PATCH", "/app/{x}"),
        ("DELETE", "/app/{x}"),
        ("GET", "/app/{x}/msg"),
        ("GET", "/app/acme/endpoint/{x}"),
        ("PATCH", "/app/acme/endpoint/{x}"),
        ("DELETE", "/app/acme/endpoint/{x}"),
        ("GET", "/app/acme/endpoint/{x}/secret"),
        ("POST", "/app/acme/endpoint/{x}/secret/rotate"),
        ("GET", "/app/acme/msg/{x}"),
        ("GET", "/app/acme/msg/{x}/endpoint"),
        ("GET", f"/app/acme/msg/{sent['id']}/attempt/{{x}}"),
        ("GET", "/app/acme/attempt/msg/{x}"),
        ("GET", "/app/acme/attempt/endpoint/{x}"),
        ("POST", f"/app/acme/msg/{{x}}/endpoint/{made['id']}/resend"),
        ("POST", f"/app/acme/msg/{sent['id']}/endpoint/{{x}}/resend"),
        ("GET", "/event-type/{x}"),
        ("DELETE", "/event-type/{x}"),
        ("POST", "/keys/{x}/revoke"),
        ("POST", "/keys/{x}/rotate"),
        ("GET", "/tenants/{x}/audit"),
        ("GET", "/tenants/{x}/keys"),
    ]
    for method, path in paths:
        for each in IDS:
            answer = await operator.request(method, (API + path).replace("{x}", _quoted(each)))
            assert (method, path, each[:30], answer.status_code // 100) == (method, path, each[:30], 4)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


async def test_hostile_queries_are_a_4xx(operator):
    sent = await message(operator)
    queries = ["limit=x", "iterator=%00", "before=yesterday", "before=9999-12-31T23:59:59-14:00", "after=0001-01-01T00:00:00Z",
               "after=-1e999", "channel=a,b", "tag=%22", "status_code_class=7", "with_content=maybe", "limit=1&limit=x"]  # fmt: skip
    for query in queries:
        path = f"{API}/app/acme/attempt/msg/{sent['id']}" if "status" in query else MSG
        answer = await operator.get(f"{path}?{query}")
        assert (query, answer.status_code // 100) == (query, 4)
    made = await endpoint(operator)
    for path in ("/app", "/app/acme/endpoint", "/app/acme/msg", f"/app/acme/attempt/msg/{sent['id']}", f"/app/acme/attempt/endpoint/{made['id']}",
                 "/event-type", "/tenants", "/tenants/acme/audit", "/tenants/acme/webhooks/dead"):  # fmt: skip
        for name in ("iterator", "tag", "channel", "event_types", "order", "status", "after", "before", "limit", "name"):
            for value in ("%00", "%ED%A0%80", "a%00b", "%FF", "%E2%80%AE"):
                answer = await operator.get(f"{API}{path}?{name}={value}")
                assert (path, name, value, answer.status_code < 500) == (path, name, value, True)
    assert (await operator.post(f"{MSG}?with_content=maybe", content=around(b"1"))).status_code == 422


async def test_a_hundred_megabytes_are_refused_before_they_are_read(app, operator):
    taken = 0

    async def endless():
        nonlocal taken
        chunk = b"x" * 65536
        while taken < 100 * 1024 * 1024:
            taken += len(chunk)
            yield chunk

    for path in (MSG, BATCH, f"{API}/app"):
        declared = await operator.post(path, content=b"", headers={**JSON, "content-length": str(100 * 1024 * 1024)})
        assert declared.status_code == 413
    async with client_of(app, None) as nobody:
        assert (await nobody.post(MSG, content=endless(), headers=JSON)).status_code == 401


@pytest.mark.parametrize(("path", "most"), [(MSG, 1024 * 1024 + 64 * 1024), (BATCH, 16 * 1024 * 1024), (f"{API}/app", 1024 * 1024)])
async def test_a_streamed_body_is_refused_at_its_bound_and_not_held(app, path, most):
    """ASGI's own side, for the client of these tests collects a body before it sends it."""
    given = 0

    async def receive():
        nonlocal given
        given += 65536
        return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    sent = []

    async def send(part):
        sent.append(part)

    from ..support.server import OPERATOR

    headers = [(b"authorization", b"Bearer " + OPERATOR.encode()), (b"content-type", b"application/json")]
    async with client_of(app) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert given <= most + 65536


async def test_no_control_byte_of_a_request_reaches_the_log(app, operator, caplog):
    caplog.set_level("DEBUG")
    await operator.get(f"{API}/app/%1b%5b31mred")
    await operator.get(f"{API}/app/acme/endpoint/%E2%80%AE")
    await operator.post(MSG, content=around(rb'"\u001b[31m"').replace(b"a.b", rb"\u001b[31m"), headers=JSON)
    netra_lines = [record.getMessage() for record in caplog.records if record.name.startswith("netra")]
    assert not any("\x1b" in line or "\u202e" in line for line in netra_lines)
