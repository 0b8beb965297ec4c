"""The official Svix SDK as the client, unmodified: only its URL and its token are ours."""

from __future__ import annotations

import datetime as dt
from contextlib import asynccontextmanager

import pytest
from standardwebhooks import Webhook
from svix.api import (
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EndpointUpsertIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    EventTypeUpsertIn,
    MessageAttemptListByEndpointOptions,
    MessageCreateOptions,
    MessageIn,
    MessageListOptions,
    SvixAsync,
    SvixOptions,
)
from svix.api.errors.http_error import HttpError
from svix.api.errors.http_validation_error import HTTPValidationError
from svix.models import MessageStatus, Ordering

from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.server import OPERATOR, new_netra, serving
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
HOUR = dt.timedelta(hours=1)


@asynccontextmanager
async def sdk(url, token=OPERATOR):
    """The SDK's client; it has no close of its own."""
    client = SvixAsync(token, SvixOptions(server_url=url, retry_schedule=[]))
    try:
        yield client
    finally:
        await client._httpx_client.aclose()


@pytest.fixture
async def svix(tmp_path):
    async with new_netra(tmp_path, workers=True, webhooks_schedule="50ms") as netra, serving(netra) as url:
        async with sdk(url) as client:
            yield client


@pytest.fixture
async def acme(svix):
    return await svix.application.create(ApplicationIn(name="Acme", uid="acme"))


async def test_applications_are_made_found_changed_and_deleted(svix):
    made = await svix.application.create(ApplicationIn(name="Acme", uid="acme", metadata={"plan": "free"}, throttle_rate=7))
    assert (made.uid, made.name, made.throttle_rate, made.metadata) == ("acme", "Acme", 7, {"plan": "free"})
    assert (await svix.application.get_or_create(ApplicationIn(name="Other", uid="acme"))).id == made.id
    assert (await svix.application.get(made.id)).uid == "acme"
    assert (await svix.application.patch("acme", ApplicationPatch(name="Acme Inc."))).name == "Acme Inc."
    replaced = await svix.application.upsert("acme", ApplicationIn(name="Acme 2"))
    assert (replaced.id, replaced.metadata, replaced.throttle_rate) == (made.id, {}, None)
    assert (await svix.application.upsert("fresh", ApplicationIn(name="Fresh"))).uid == "fresh"
    with pytest.raises(HttpError) as refused:
        await svix.application.create(ApplicationIn(name="Acme", uid="acme"))
    assert (refused.value.status_code, refused.value.code) == (409, "conflict")
    assert await svix.application.delete("acme") is None
    with pytest.raises(HttpError) as gone:
        await svix.application.get("acme")
    assert (gone.value.status_code, gone.value.code) == (404, "not_found")


async def test_applications_are_listed_page_by_page_in_both_directions(svix):
    for number in range(5):
        await svix.application.create(ApplicationIn(name=f"n{number}", uid=f"n{number}"))
    first = await svix.application.list(ApplicationListOptions(limit=2))
    second = await svix.application.list(ApplicationListOptions(limit=2, iterator=first.iterator))
    third = await svix.application.list(ApplicationListOptions(limit=2, iterator=second.iterator))
    assert [[app.uid for app in page.data] for page in (first, second, third)] == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    assert [page.done for page in (first, second, third)] == [False, False, True]
    back = await svix.application.list(ApplicationListOptions(limit=2, iterator=third.prev_iterator))
    assert [app.uid for app in back.data] == ["n2", "n3"]
    newest = await svix.application.list(ApplicationListOptions(limit=2, order=Ordering.DESCENDING))
    assert [app.uid for app in newest.data] == ["n4", "n3"]


async def test_endpoints_are_made_found_changed_and_deleted(svix, acme):
    made = await svix.endpoint.create(
        "acme",
        EndpointIn(url="https://example.com/a", uid="e1", event_types=["a.b"], channels=["c1"], throttle_rate=9, headers={"x-a": "1"}),
    )
    assert (made.event_types, made.channels, made.throttle_rate, made.disabled) == (["a.b"], ["c1"], 9, False)
    assert (await svix.endpoint.get(acme.id, "e1")).id == made.id
    patched = await svix.endpoint.patch("acme", made.id, EndpointPatch(disabled=True, event_types=None))
    assert (patched.disabled, patched.event_types, patched.channels) == (True, None, ["c1"])
    replaced = await svix.endpoint.upsert("acme", "e1", EndpointUpsertIn(url="https://example.com/b"))
    assert (replaced.id, replaced.url, replaced.channels, replaced.uid) == (made.id, "https://example.com/b", None, "e1")
    other = await svix.endpoint.upsert("acme", "e2", EndpointUpsertIn(url="https://example.com/c"))
    assert [each.id for each in (await svix.endpoint.list("acme")).data] == [made.id, other.id]
    assert [each.id for each in (await svix.endpoint.list("acme", EndpointListOptions(order=Ordering.DESCENDING, limit=1))).data] == [
        other.id
    ]
    await svix.endpoint.delete("acme", made.id)
    with pytest.raises(HttpError) as gone:
        await svix.endpoint.get("acme", "e1")
    assert gone.value.status_code == 404


async def test_a_secret_is_read_and_rotated(svix, acme):
    endpoint = await svix.endpoint.create("acme", EndpointIn(url="https://example.com/"))
    first = (await svix.endpoint.get_secret("acme", endpoint.id)).key
    made = await svix.endpoint.rotate_secret("acme", endpoint.id, EndpointSecretRotateIn())
    assert made.key not in {first, ""}
    assert (await svix.endpoint.get_secret("acme", endpoint.id)).key == made.key
    given = await svix.endpoint.rotate_secret("acme", endpoint.id, EndpointSecretRotateIn(key=first))
    assert given.key == first


async def test_event_types_are_made_listed_archived_and_brought_back(svix):
    made = await svix.event_type.create(EventTypeIn(name="invoice.paid", description="d", schemas={"1": {"type": "object"}}))
    assert (made.schemas, made.archived, made.deprecated) == ({"1": {"type": "object"}}, False, False)
    assert (await svix.event_type.patch("invoice.paid", EventTypePatch(deprecated=True))).deprecated
    await svix.event_type.delete("invoice.paid")
    assert (await svix.event_type.list()).data == []
    assert [each.name for each in (await svix.event_type.list(EventTypeListOptions(include_archived=True))).data] == ["invoice.paid"]
    assert not (await svix.event_type.create(EventTypeIn(name="invoice.paid", description="again"))).archived
    assert (await svix.event_type.upsert("invoice.paid", EventTypeUpsertIn(description="new"))).description == "new"
    assert (await svix.event_type.get("invoice.paid")).description == "new"


async def test_a_message_is_delivered_signed_and_its_attempts_are_listed(svix, acme):
    async with MisbehavingEndpoint(keep=True) as receiver:
        endpoint = await svix.endpoint.create("acme", EndpointIn(url=receiver.url))
        secret = (await svix.endpoint.get_secret("acme", endpoint.id)).key
        sent = await svix.message.create("acme", MessageIn(event_type="a.b", event_id="e-1", payload={"n": 1}, tags=["t"], channels=["c"]))
        assert (sent.event_id, sent.tags, sent.channels, sent.payload) == ("e-1", ["t"], ["c"], {})
        await eventually(lambda: receiver.received)
        got = receiver.received[0]
        assert Webhook(secret).verify(got.body, got.headers) == {"n": 1}
        assert got.headers["webhook-id"] == sent.id

        async def delivered():
            return (await svix.message_attempt.list_attempted_destinations("acme", sent.id)).data[0].status == MessageStatus.SUCCESS

        await eventually(delivered)
        attempts = (await svix.message_attempt.list_by_msg("acme", sent.id)).data
        assert [(each.status, each.response_status_code, each.endpoint_id) for each in attempts] == [(0, 200, endpoint.id)]
        by_endpoint = (
            await svix.message_attempt.list_by_endpoint("acme", endpoint.id, MessageAttemptListByEndpointOptions(with_msg=True, tag="t"))
        ).data
        assert [(each.id, each.msg.event_type) for each in by_endpoint] == [(attempts[0].id, "a.b")]
        assert (await svix.message_attempt.get("acme", sent.id, attempts[0].id)).url == receiver.url
        await svix.message_attempt.resend("acme", sent.id, endpoint.id)
        await eventually(lambda: len(receiver.received) == 2)


async def test_messages_are_found_by_id_by_event_id_and_by_filter(svix, acme):
    sent = [
        await svix.message.create(
            "acme", MessageIn(event_type=f"a.{n}", event_id=f"e{n}", payload={"n": n}, tags=[f"t{n}"], channels=["c"])
        )
        for n in range(3)
    ]
    assert (await svix.message.get("acme", "e1")).id == sent[1].id
    assert (await svix.message.get("acme", sent[1].id)).event_id == "e1"
    listed = await svix.message.list("acme", MessageListOptions(with_content=True))
    assert [each.payload for each in listed.data] == [{"n": 2}, {"n": 1}, {"n": 0}]

    async def found(**options):
        return [each.event_id for each in (await svix.message.list("acme", MessageListOptions(**options))).data]

    assert await found(event_types=["a.0", "a.2"]) == ["e2", "e0"]
    assert await found(tag="t1") == ["e1"]
    assert await found(channel="c", limit=1) == ["e2"]
    assert await found(channel="d") == []
    assert await found(before=sent[2].timestamp, after=sent[0].timestamp) == ["e1"]
    assert await found(after=sent[2].timestamp + HOUR) == []


async def test_an_application_may_come_with_its_first_message(svix):
    sent = await svix.message.create("new", MessageIn(event_type="a.b", payload={}, application=ApplicationIn(name="New")))
    assert (await svix.application.get("new")).name == "New"
    assert (await svix.message.get("new", sent.id)).event_type == "a.b"


async def test_the_same_idempotency_key_gives_the_same_answer(svix, acme):
    options = MessageCreateOptions(idempotency_key="k1")
    first = await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": 1}), options)
    second = await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": 1}), options)
    assert first.id == second.id
    with pytest.raises(HTTPValidationError) as refused:
        await svix.message.create("acme", MessageIn(event_type="a.b", payload={"n": 2}), options)
    assert refused.value.detail[0].type == "key_reused"


async def test_what_is_wrong_is_told_as_the_sdk_reads_it(svix, acme):
    with pytest.raises(HTTPValidationError) as refused:
        await svix.endpoint.create("acme", EndpointIn(url="ftp://example.com"))
    assert refused.value.detail[0].loc == ["body", "url"]
    async with sdk(svix._client.base_url, "netra_op_nobody") as stranger:
        with pytest.raises(HttpError) as unknown:
            await stranger.application.list()
    assert (unknown.value.status_code, unknown.value.code) == (401, "authentication_failed")


async def test_the_server_says_that_it_is_healthy(svix):
    assert await svix.health.get() is None
