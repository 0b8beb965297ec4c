"""Headers, examples, figures and lists of an endpoint, by the official SDK."""

from __future__ import annotations

import datetime as dt
from contextlib import asynccontextmanager
from functools import partial

import pytest
from standardwebhooks import Webhook as StandardReceiver
from svix.api import (
    ApplicationIn,
    EndpointGetAttemptStatsOptions,
    EndpointGetStatsOptions,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointPatch,
    EventExampleIn,
    EventTypeIn,
    MessageAttemptListAttemptedMessagesOptions,
    MessageIn,
    MessageListOptions,
    MessagePrecheckIn,
)
from svix.api.errors.http_validation_error import HTTPValidationError
from svix.models import MessageStatus
from svix.webhooks import Webhook as SvixReceiver
from svix.webhooks import WebhookVerificationError

from netra_backend.server.app import create_app
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import search

from ...support.server import API, client_of, new_netra, serving
from ...support.storage import eventually
from .test_svix_sdk import sdk

pytestmark = pytest.mark.usefixtures("every_server_engine")
AGO = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@asynccontextmanager
async def platform(tmp_path, **settings):
    async with new_netra(tmp_path, workers=True, webhooks_schedule="50ms", **settings) as netra, serving(netra) as url, sdk(url) as svix:
        await svix.application.create(ApplicationIn(name="Acme", uid="acme"))
        yield svix


@pytest.fixture
async def svix(tmp_path):
    async with platform(tmp_path) as svix:
        yield svix


async def test_headers_are_set_changed_and_removed_and_reach_the_receiver(svix):
    async with MisbehavingEndpoint(keep=True) as receiver:
        made = await svix.endpoint.create("acme", EndpointIn(url=receiver.url, headers={"X-First": "1", "Authorization": "Bearer s3"}))
        shown = await svix.endpoint.get_headers("acme", made.id)
        assert (shown.headers, shown.sensitive) == ({"X-First": "1"}, ["Authorization"])
        await svix.endpoint.patch_headers("acme", made.id, EndpointHeadersPatchIn(headers={"x-second": "2"}, delete_headers=["x-first"]))
        await svix.message.create("acme", MessageIn(event_type="a.b", payload={}))
        await eventually(lambda: receiver.received)
        sent = receiver.received[0].headers
        assert (sent["x-second"], sent["authorization"], "x-first" in sent) == ("2", "Bearer s3", False)
        await svix.endpoint.set_headers("acme", made.id, EndpointHeadersIn(headers={"x-third": "3"}))
        assert (await svix.endpoint.get_headers("acme", made.id)).headers == {"x-third": "3"}


async def test_a_header_of_the_senders_own_is_refused(svix):
    made = await svix.endpoint.create("acme", EndpointIn(url="https://example.com/"))
    with pytest.raises(HTTPValidationError) as refused:
        await svix.endpoint.patch_headers("acme", made.id, EndpointHeadersPatchIn(headers={"webhook-id": "x"}))
    assert refused.value.detail[0].loc == ["body", "headers"]


async def test_an_example_goes_to_its_endpoint_alone_whatever_that_takes(svix):
    await svix.event_type.create(
        EventTypeIn(name="a.b", description="d", schemas={"1": {"type": "object", "examples": [{"n": 1}, {"n": 2}]}})
    )
    async with MisbehavingEndpoint(keep=True) as wanted, MisbehavingEndpoint(keep=True) as other:
        made = await svix.endpoint.create("acme", EndpointIn(url=wanted.url, event_types=["nothing.else"]))
        await svix.endpoint.create("acme", EndpointIn(url=other.url))
        first = await svix.endpoint.send_example("acme", made.id, EventExampleIn(event_type="a.b"))
        second = await svix.endpoint.send_example("acme", made.id, EventExampleIn(event_type="a.b", example_index=1))
        ping = await svix.endpoint.send_example("acme", made.id, EventExampleIn(event_type="svix.ping"))
        assert [each.payload for each in (first, second)] == [{"n": 1}, {"n": 2}]
        await eventually(lambda: len(wanted.received) == 3)
        assert {each.headers["webhook-id"] for each in wanted.received} == {first.id, second.id, ping.id}
        assert other.received == []
    with pytest.raises(HTTPValidationError) as refused:
        await svix.endpoint.send_example("acme", made.id, EventExampleIn(event_type="a.b", example_index=2))
    assert "no example 2" in refused.value.detail[0].msg


async def test_a_message_is_prechecked_by_type_channel_and_state(svix):
    made = await svix.endpoint.create("acme", EndpointIn(url="https://example.com/", event_types=["a.b"], channels=["c"]))

    async def active(event_type, channels=None):
        return (await svix.message.precheck("acme", MessagePrecheckIn(event_type=event_type, channels=channels))).active

    assert [await active("a.b", ["c"]), await active("a.b"), await active("a.c", ["c"])] == [True, False, False]
    await svix.endpoint.patch("acme", made.id, EndpointPatch(disabled=True))
    assert not await active("a.b", ["c"])


async def test_an_endpoints_messages_are_listed_with_how_they_stand(svix):
    async with MisbehavingEndpoint() as receiver:
        made = await svix.endpoint.create("acme", EndpointIn(url=receiver.url))
        sent = [
            await svix.message.create("acme", MessageIn(event_type=f"a.{n}", payload={"n": n}, tags=[f"t{n}"], channels=["c"]))
            for n in range(3)
        ]

        async def listed(**options):
            return (
                await svix.message_attempt.list_attempted_messages("acme", made.id, MessageAttemptListAttemptedMessagesOptions(**options))
            ).data

        async def all_delivered():
            return [each.status for each in await listed()] == [MessageStatus.SUCCESS] * 3

        await eventually(all_delivered)
        assert {each.id for each in await listed()} == {each.id for each in sent}
        assert [each.payload for each in await listed(with_content=True, tag="t1")] == [{"n": 1}]
        assert [each.event_type for each in await listed(event_types=["a.2"], channel="c")] == ["a.2"]
        assert [each.id for each in await listed(status=MessageStatus.FAIL)] == []
        assert len(await listed(status=MessageStatus.SUCCESS, after=AGO)) == 3
        assert await listed(before=AGO) == []


async def test_an_endpoints_messages_are_paged_in_both_directions(svix):
    made = await svix.endpoint.create("acme", EndpointIn(url="http://127.0.0.1:9/", disabled=True))
    for n in range(5):
        await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": n}))

    async def page(iterator=None):
        return await svix.message_attempt.list_attempted_messages(
            "acme", made.id, MessageAttemptListAttemptedMessagesOptions(limit=2, iterator=iterator)
        )

    first = await page()
    second = await page(first.iterator)
    third = await page(second.iterator)
    ids = [[each.id for each in found.data] for found in (first, second, third)]
    assert sorted((id_ for found in ids for id_ in found), reverse=True) == [id_ for found in ids for id_ in found]
    assert ([len(found) for found in ids], third.done) == ([2, 2, 1], True)
    assert [each.id for each in (await page(third.prev_iterator)).data] == ids[1]
    assert {each.status for each in first.data} == {MessageStatus.CANCELED}


@pytest.fixture
def short_pages(monkeypatch):
    """Pages of 100 characters of payload."""
    monkeypatch.setattr(search, "PAGE_CHARS", 100)


async def of_lengths(svix, lengths):
    """Messages whose payloads are that long, the newest first."""
    made = [await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": "x" * (n - 8)})) for n in lengths]
    return [each.id for each in reversed(made)]


async def walked(page):
    """The ids of every page from the first to the one that is done."""
    pages = [await page(None)]
    while not pages[-1].done:
        pages.append(await page(pages[-1].iterator))
    return [[each.id for each in found.data] for found in pages]


@pytest.mark.usefixtures("short_pages")
async def test_a_page_ends_before_payloads_are_too_much_and_whoever_goes_by_done_gets_them_all(svix):
    ids = await of_lengths(svix, [30, 60, 60, 500, 40, 40, 30])

    async def page(iterator, *, with_content=True):
        return await svix.message.list("acme", MessageListOptions(limit=250, iterator=iterator, with_content=with_content))

    assert await walked(page) == [ids[:2], ids[2:3], ids[3:4], ids[4:5], ids[5:]]
    assert await walked(partial(page, with_content=False)) == [ids]
    assert [len(each.payload["n"]) for each in (await page(None)).data] == [22, 32]


@pytest.mark.usefixtures("short_pages")
async def test_a_page_of_an_endpoints_messages_ends_as_early_in_both_directions(svix):
    made = await svix.endpoint.create("acme", EndpointIn(url="http://127.0.0.1:9/", disabled=True))
    ids = await of_lengths(svix, [30, 60, 60, 500, 40])

    async def page(iterator=None, *, with_content=True):
        options = MessageAttemptListAttemptedMessagesOptions(limit=250, iterator=iterator, with_content=with_content)
        return await svix.message_attempt.list_attempted_messages("acme", made.id, options)

    assert await walked(page) == [ids[:1], ids[1:2], ids[2:3], ids[3:]]
    assert await walked(partial(page, with_content=False)) == [ids]
    last = await page((await page((await page((await page()).iterator)).iterator)).iterator)
    before = [await page(last.prev_iterator)]
    while not before[-1].done:
        before.append(await page(before[-1].prev_iterator))
    assert [[each.id for each in found.data] for found in before] == [ids[2:3], ids[1:2], ids[:1]]


async def test_a_page_that_shows_no_payload_reads_none(svix, monkeypatch):
    """Also that of an endpoint's attempts, which shows messages without theirs."""
    monkeypatch.setattr(search.Q, "payloads", None)
    made = await svix.endpoint.create("acme", EndpointIn(url="http://127.0.0.1:9/", disabled=True))
    (id_,) = await of_lengths(svix, [30])
    found = await svix.message.list("acme", MessageListOptions(with_content=False))
    stood = await svix.message_attempt.list_attempted_messages(
        "acme", made.id, MessageAttemptListAttemptedMessagesOptions(with_content=False)
    )
    assert [(each.id, each.payload) for each in (*found.data, *stood.data)] == [(id_, {}), (id_, {})]


async def test_figures_of_an_endpoint_are_those_of_their_time(svix):
    async with MisbehavingEndpoint() as receiver:
        made = await svix.endpoint.create("acme", EndpointIn(url=receiver.url))
        gone = await svix.endpoint.create("acme", EndpointIn(url="http://127.0.0.1:9/", disabled=True))
        for n in range(3):
            await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": n}))

        async def delivered():
            return (await svix.endpoint.get_stats("acme", made.id)).success == 3

        await eventually(delivered)
        assert (await svix.endpoint.get_stats("acme", gone.id)).model_dump() == {
            "success": 0,
            "pending": 0,
            "sending": 0,
            "fail": 0,
            "canceled": 3,
        }
        assert (await svix.endpoint.get_stats("acme", made.id, EndpointGetStatsOptions(until=AGO))).success == 0
        assert (await svix.endpoint.get_stats("acme", made.id, EndpointGetStatsOptions(since=AGO))).success == 3
        assert (await svix.endpoint.get_attempt_stats("acme", made.id)).model_dump() == {"success": 3, "fail": 0, "canceled": 0}
        before = EndpointGetAttemptStatsOptions(until=AGO)
        assert (await svix.endpoint.get_attempt_stats("acme", made.id, before)).success == 0


async def test_a_payload_that_does_not_match_the_newest_schema_is_refused(svix):
    schemas = {"2": {"type": "object", "required": ["id"]}, "10": {"type": "object", "properties": {"id": {"type": "string"}}}}
    await svix.event_type.create(EventTypeIn(name="a.b", description="d", schemas=schemas))
    assert (await svix.message.create("acme", MessageIn(event_type="a.b", payload={"id": "x"}))).id
    with pytest.raises(HTTPValidationError) as refused:
        await svix.message.create("acme", MessageIn(event_type="a.b", payload={"id": 7}))
    assert (refused.value.detail[0].type, "$.id: 7 is not of type 'string'" in refused.value.detail[0].msg) == ("schema_mismatch", True)
    with pytest.raises(HTTPValidationError) as wrong:
        await svix.event_type.create(EventTypeIn(name="c", description="d", schemas={"1": {"type": "nonsense"}}))
    assert wrong.value.detail[0].loc == ["body", "schemas"]


async def test_a_schema_that_leads_elsewhere_is_refused_and_nothing_is_fetched(svix):
    async with MisbehavingEndpoint(keep=True) as elsewhere:
        with pytest.raises(HTTPValidationError) as refused:
            await svix.event_type.create(EventTypeIn(name="a", description="d", schemas={"1": {"allOf": [{"$ref": elsewhere.url}]}}))
        assert "leads out of the schema" in refused.value.detail[0].msg
        assert elsewhere.received == []


async def test_of_a_batch_only_what_does_not_match_is_refused(tmp_path):
    async with new_netra(tmp_path) as netra, client_of(create_app(netra)) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        await operator.post(f"{API}/event-type", json={"name": "a.b", "description": "", "schemas": {"1": {"required": ["id"]}}})
        batch = [{"eventType": "a.b", "payload": payload} for payload in ({"id": 1}, {}, {"id": 2})]
        answer = await operator.post(f"{API}/app/acme/msg/batch", json=batch)
        assert (answer.status_code, ["error" in each for each in answer.json()]) == (207, [False, True, False])
        assert answer.json()[1]["error"]["code"] == "schema_mismatch"


async def test_what_arrives_verifies_with_the_official_receivers_under_both_names(svix):
    async with MisbehavingEndpoint(keep=True) as receiver:
        made = await svix.endpoint.create("acme", EndpointIn(url=receiver.url))
        secret = (await svix.endpoint.get_secret("acme", made.id)).key
        await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": 1}))
        await eventually(lambda: receiver.received)
    got = receiver.received[0]
    for brand in ("svix", "webhook"):
        own = {name: value for name, value in got.headers.items() if name.startswith(f"{brand}-")}
        assert {f"{brand}-{name}" for name in ("id", "timestamp", "signature")} <= own.keys()
        SvixReceiver(secret).verify(got.body, own)  # raises, or returns whatever its version does
        with pytest.raises(WebhookVerificationError):
            SvixReceiver(secret).verify(got.body + b" ", own)
    assert StandardReceiver(secret).verify(got.body, got.headers) == {"n": 1}


async def test_svixs_headers_are_left_out_where_nobody_wants_them(tmp_path):
    async with platform(tmp_path, svix_headers=False) as svix, MisbehavingEndpoint(keep=True) as receiver:
        await svix.endpoint.create("acme", EndpointIn(url=receiver.url))
        await svix.message.create("acme", MessageIn(event_type="a.b", payload={}))
        await eventually(lambda: receiver.received)
        assert [name for name in receiver.received[0].headers if name.startswith("svix-")] == []


ODD_SCHEMAS = [
    {"9" * 5000: {}},
    {"1": {"$schema": 5}},
    {"1": {"$schema": []}},
    {"1": {"maximum": 10**30}},
    {"1": {"$schema": "http://json-schema.org/draft-04/schema#", "patternProperties": {"(": {}}}},
    {"1": {"$schema": "http://json-schema.org/draft-04/schema#", "$ref": 5}},
    {"1": {"$ref": "#/x/y", "x": {"y": {"type": "nonsense"}}}},
    {"1": {"$ref": "#/nowhere"}},
]


@pytest.mark.parametrize("schemas", ODD_SCHEMAS, ids=[f"odd {number}" for number in range(len(ODD_SCHEMAS))])
async def test_an_odd_schema_is_refused_or_refuses_its_own_messages_and_nobody_elses(tmp_path, schemas):
    async with new_netra(tmp_path) as netra, client_of(create_app(netra)) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        made = await operator.post(f"{API}/event-type", json={"name": "odd", "description": "", "schemas": schemas})
        assert made.status_code in {201, 400, 422}, made.text
        batch = [{"eventType": name, "payload": {"n": 1}} for name in ("odd", "plain")]
        answer = await operator.post(f"{API}/app/acme/msg/batch", json=batch)
        assert answer.status_code in {202, 207}, answer.text
        assert "error" not in answer.json()[1]
