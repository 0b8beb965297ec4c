"""The two ingest routes: what is stored is what was sent, once per key, and nothing is acknowledged falsely."""

from __future__ import annotations

import json

import pytest

from netra_backend.errors import Unavailable
from netra_backend.kernel.ids import try_from_text
from netra_backend.server import svix_app
from netra_backend.server.app import create_app
from netra_backend.server.pagination import FIRST
from netra_backend.webhooks import endpoints, service, store

from ...support.server import API, SYSTEM, client_of, endpoint, message, new_netra, tenant_key

pytestmark = pytest.mark.usefixtures("every_server_engine")
MSG = f"{API}/app/acme/msg"
BATCH = f"{MSG}/batch"
JSON = {"content-type": "application/json"}


def a_message(payload: str, more: str = "") -> bytes:
    return f'{{ "eventType" : "thing.happened" ,{more} "payload" :{payload} }}'.encode()


async def stored(netra, answer, tenant="acme"):
    """The payload as it stands in the table, which is what is signed and sent."""
    id_ = try_from_text("msg", answer["id"])
    return (await netra.database.read(store.message, id_, scope=SYSTEM.with_tenant(tenant))).payload


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{ "b" : 1.0e0,\t"a": -0 , "z":12345678901234567890123 }',
        r'{"\u00e9":"\/ \ud83d\ude00","é":"}],{"}',
        '{"a":1,"a":2}',
        '{"bidi":"\u202eabc","zero":"\u200b"}',
        '{"x":' + "[" * 500 + "]" * 500 + "}",
    ],
    ids=["empty", "numbers", "escapes", "duplicates", "bidi", "deep"],
)
async def test_the_payload_is_kept_as_it_is_written(netra, operator, payload):
    one = await operator.post(MSG, content=a_message(payload), headers=JSON)
    many = await operator.post(BATCH, content=b"[" + a_message(payload) + b" , " + a_message(payload) + b"]", headers=JSON)
    assert (one.status_code, many.status_code) == (202, 202)
    for answer in [one.json(), *many.json()]:
        assert await stored(netra, answer) == payload
    assert f'"payload":{payload}' in one.text


async def test_a_raw_payload_is_sent_as_it_is(netra, operator):
    raw = '{"a" :  1.50}'
    sent = {"eventType": "a.b", "payload": {}, "transformationsParams": {"rawPayload": raw}}
    answer = await operator.post(MSG, json=sent)
    assert answer.status_code == 202
    assert await stored(netra, answer.json()) == raw


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rawPayload": "not json"}, "not a string of JSON"),
        ({"rawPayload": 5}, "not a string of JSON"),
        ({"rawPayload": "{}", "headers": {"content-type": "text/xml"}}, "the only header supported"),
        ({"script": "x"}, "there are no transformations"),
        ([1], "there are no transformations"),
    ],
)
async def test_what_of_a_raw_payload_cannot_be_honoured_is_refused(operator, parameters, words):
    answer = await operator.post(MSG, json={"eventType": "a.b", "payload": {}, "transformationsParams": parameters})
    assert answer.status_code == 422
    assert words in answer.json()["detail"][0]["msg"]


WRONG = [
    ({"eventType": None}, "eventType"),
    ({"eventType": 5}, "eventType"),
    ({"eventType": "a b"}, "eventType"),
    ({"eventType": "x" * 257}, "eventType"),
    ({"payload": None}, "payload"),
    ({"payload": []}, "payload"),
    ({"payload": "x"}, "payload"),
    ({"eventId": ""}, "eventId"),
    ({"eventId": "x" * 257}, "eventId"),
    ({"eventId": 7}, "eventId"),
    ({"eventId": "a\nb"}, "eventId"),
    ({"channels": "x"}, "channels"),
    ({"channels": [1]}, "channels"),
    ({"channels": ["a,b"]}, "channels"),
    ({"channels": [f"c{n}" for n in range(11)]}, "channels"),
    ({"tags": [""]}, "tags"),
    ({"deliverAt": "tomorrow"}, "deliverAt"),
    ({"deliverAt": 5}, "deliverAt"),
    ({"deliverAt": "0001-01-01T00:00:00+14:00"}, "deliverAt"),
    ({"deliverAt": "9999-12-31T23:59:59-14:00"}, "deliverAt"),
    ({"payloadRetentionPeriod": 0}, "payloadRetentionPeriod"),
    ({"payloadRetentionPeriod": 10**30}, "payloadRetentionPeriod"),
    ({"payloadRetentionHours": True}, "payloadRetentionHours"),
]


async def test_each_wrong_member_is_named(operator):
    for change, loc in WRONG:
        sent = {"eventType": "a.b", "payload": {}, **change}
        body = json.dumps({name: value for name, value in sent.items() if value is not None}).encode()
        one = await operator.post(MSG, content=body, headers=JSON)
        assert (change, one.status_code) == (change, 422)
        assert one.json()["detail"][0]["loc"] == ["body", loc]
        many = await operator.post(BATCH, content=b'[{"eventType":"a.b","payload":{}},' + body + b"]", headers=JSON)
        assert (change, many.status_code) == (change, 422)
        assert many.json()["detail"][0]["loc"] == ["body", "1", loc]
    assert (await operator.get(MSG)).json()["data"] == []


async def test_a_batch_with_a_malformed_message_stores_nothing(operator):
    answer = await operator.post(BATCH, json=[{"eventType": "a.b", "payload": {}}, {"eventType": "a.b"}])
    assert answer.status_code == 422
    assert (await operator.get(MSG)).json()["data"] == []


async def test_a_batch_answers_in_order_and_says_which_message_alone_was_refused(operator):
    await message(operator, eventId="taken")
    batch = [
        {"eventType": "a.b", "payload": {"n": 1}, "eventId": "one"},
        {"eventType": "thing.happened", "payload": {"other": True}, "eventId": "taken"},
        {"eventType": "a.b", "payload": {"n": 3}},
    ]
    answer = await operator.post(BATCH, json=batch)
    first, second, third = answer.json()
    assert answer.status_code == 207
    assert (first["eventId"], third["payload"]) == ("one", {"n": 3})
    assert (second["error"]["status"], second["error"]["code"]) == (422, "key_reused")
    assert (await operator.get(f"{MSG}/{third['id']}")).status_code == 200


NDJSON = {"content-type": "application/x-ndjson"}


async def test_a_batch_may_come_as_json_texts_one_a_line(netra, operator):
    payloads = ['{ "b" : 1.0e0}', '{"a":"\\n"}']
    lines = b"\n\n".join(a_message(payload) for payload in payloads) + b"\r\n"
    answer = await operator.post(BATCH, content=lines, headers=NDJSON)
    assert answer.status_code == 202
    assert [await stored(netra, each) for each in answer.json()] == payloads
    again = [await operator.post(BATCH, content=lines, headers={**NDJSON, "idempotency-key": "k"}) for _ in range(2)]
    assert again[0].json() == again[1].json()
    assert (await operator.post(BATCH, content=b"", headers=NDJSON)).json() == []


async def test_a_line_that_is_wrong_is_named_and_nothing_is_stored(operator):
    for line, status, words in ((b"{", 400, "message 1"), (b"[]", 422, "'1'"), (b'{"eventType":"a.b"}', 422, "'payload'")):
        answer = await operator.post(BATCH, content=a_message("{}") + b"\n" + line, headers=NDJSON)
        assert (answer.status_code, words in str(answer.json())) == (status, True), answer.text
    assert (await operator.get(MSG)).json()["data"] == []
    assert (await operator.post(MSG, content=a_message("{}"), headers=NDJSON)).status_code == 415


async def test_an_empty_batch_is_accepted_and_a_batch_of_anything_else_is_not(operator):
    assert (await operator.post(BATCH, json=[])).json() == []
    for wrong in (b"{}", b"[1]", b"[[]]", b'"x"', b"null"):
        assert (await operator.post(BATCH, content=wrong, headers=JSON)).status_code == 422


async def test_a_repeated_request_gets_the_first_answer(operator):
    headers = {"idempotency-key": "k", **JSON}
    first = await operator.post(MSG, content=a_message("{}"), headers=headers)
    again = await operator.post(MSG, content=a_message("{}"), headers=headers)
    other = await operator.post(MSG, content=a_message('{"n":1}'), headers=headers)
    assert first.json() == again.json()
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert len((await operator.get(MSG)).json()["data"]) == 1


async def test_a_repeated_batch_gets_the_first_answers(operator):
    batch = [{"eventType": "a.b", "payload": {"n": n}} for n in range(3)]
    headers = {"idempotency-key": "k"}
    first = await operator.post(BATCH, json=batch, headers=headers)
    again = await operator.post(BATCH, json=batch, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    single = await operator.post(MSG, json=batch[0], headers=headers)
    assert single.json()["id"] not in {each["id"] for each in first.json()}


async def test_a_known_event_id_is_answered_as_svix_does_if_asked_to(tmp_path):
    async with new_netra(tmp_path, svix_strict=True) as netra, client_of(create_app(netra)) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        await message(operator, eventId="e")
        again = await operator.post(MSG, json={"eventType": "thing.happened", "payload": {"n": 1}, "eventId": "e"})
        assert again.status_code == 409


async def test_a_key_that_no_header_should_hold_is_refused(operator):
    for key in ("", "x" * 257, "a\tb"):
        answer = await operator.post(MSG, content=a_message("{}"), headers={**JSON, "idempotency-key": key})
        assert answer.status_code == 422


async def test_the_callers_trace_is_kept_and_a_root_made_where_there_is_none(netra, operator):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = await operator.post(MSG, content=a_message("{}"), headers={**JSON, "traceparent": parent})
    made = await operator.post(MSG, content=a_message("{}"), headers={**JSON, "traceparent": "00-junk"})

    async def trace(answer):
        id_ = try_from_text("msg", answer.json()["id"])
        return (await netra.database.read(store.message, id_, scope=SYSTEM.with_tenant("acme"))).trace

    assert (await trace(given)).trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert len((await trace(made)).trace_id) == 32


async def test_an_application_that_comes_with_a_message_is_the_operators_to_make(operator, app):
    made = await tenant_key(operator)
    sent = {"eventType": "a.b", "payload": {}, "application": {"name": "New"}}
    async with client_of(app, made["key"]) as tenant:
        assert (await tenant.post(f"{API}/app/new/msg", json=sent)).status_code == 404
    assert (await operator.post(f"{API}/app/new/msg", json={**sent, "application": {"name": "N", "uid": "other"}})).status_code == 422
    assert (await operator.post(f"{API}/app/n%20w/msg", json=sent)).status_code == 422
    assert (await operator.post(f"{API}/app/new/msg", json=sent)).status_code == 202
    assert (await operator.get(f"{API}/app/new")).json()["name"] == "New"


async def test_a_deleted_application_takes_no_message_and_its_deliveries_are_cancelled(netra, operator):
    made = await endpoint(operator)
    sent = await message(operator)
    assert (await operator.delete(f"{API}/app/acme")).status_code == 204
    assert (await operator.post(MSG, content=a_message("{}"), headers=JSON)).status_code == 404
    scope = SYSTEM.with_tenant("acme")
    delivery = await netra.database.read(store.delivery, try_from_text("msg", sent["id"]), try_from_text("ep", made["id"]), scope=scope)
    assert delivery.state == "due"  # and no endpoint: what looks at it next cancels it
    assert (await netra.webhooks.snapshots.refresh("acme")).endpoints == {}


async def test_an_application_of_very_many_endpoints_is_deleted_part_by_part(netra, operator, monkeypatch):
    """Else it would keep everybody else from writing for as long as all of it takes."""
    monkeypatch.setattr(svix_app, "_AT_ONCE", 2)
    for _ in range(7):
        await endpoint(operator)
    left = []
    write = netra.database.write

    async def watched(fn, *arguments, **options):
        done = await write(fn, *arguments, **options)
        left.append(len(await netra.database.read(endpoints.page, FIRST, 100, scope=SYSTEM.with_tenant("acme"))))
        return done

    monkeypatch.setattr(netra.database, "write", watched)
    assert (await operator.delete(f"{API}/app/acme")).status_code == 204
    assert [*dict.fromkeys([7, *left])] == [7, 5, 3, 1, 0]
    assert (await operator.get(f"{API}/app/acme")).status_code == 404


async def test_nothing_is_acknowledged_while_intake_is_refused(netra, operator, monkeypatch):
    def refuse():
        raise Unavailable("the disk is full")

    monkeypatch.setattr(netra.database, "check_intake", refuse)
    answer = await operator.post(MSG, content=a_message("{}"), headers=JSON)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    ready = await operator.get("/ready")
    assert (ready.status_code, ready.json()["reasons"][0]["code"]) == (503, "unavailable")
    monkeypatch.undo()
    assert (await operator.get(MSG)).json()["data"] == []


async def test_a_payload_that_is_too_large_is_refused(tmp_path):
    async with new_netra(tmp_path, payload_max_bytes=2048, body_max_bytes=4096) as netra, client_of(create_app(netra)) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        for size, status in ((1000, 202), (2100, 413), (5000, 413)):
            assert (await operator.post(MSG, content=a_message('{"x":"' + "x" * size + '"}'), headers=JSON)).status_code == status
        assert (await operator.post(BATCH, content=b"[" + b" " * 5000 + b"]", headers=JSON)).status_code == 413


async def test_a_wide_fan_out_is_stored_part_by_part(netra, operator, monkeypatch):
    for _ in range(8):
        await endpoint(operator)
    monkeypatch.setattr(service, "DELIVERIES_AT_ONCE", 16)
    parts = []
    write = netra.database.write_item

    async def counted(verb, item, **weight):
        parts.append(item)
        return await write(verb, item, **weight)

    monkeypatch.setattr(netra.database, "write_item", counted)
    sent = await operator.post(BATCH, json=[{"eventType": "thing.happened", "payload": {}}] * 10)
    assert (sent.status_code, len(sent.json())) == (202, 10)
    assert len(parts) >= 5
