"""Webhooks end to end against receivers that misbehave, on a schedule of milliseconds."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from standardwebhooks import Webhook

from netra_backend.kernel.scope import Scope
from netra_backend.storage.statements import Statements
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import endpoints, store
from netra_backend.webhooks.intake import Accepted
from netra_backend.webhooks.model import NewMessage

from ..support.platform import SCOPE, accept, add_endpoint, attempts, becomes, change_endpoint, platform, row, secrets_of, send
from ..support.storage import Gate, eventually, let_run, outcome_of

SCHEDULE = "30ms,30ms,30ms"
"""Four attempts."""
SUBSTRATE = Statements("netra_backend.storage")


@pytest.fixture
async def netra(request, tmp_path):
    """Impatient only where nobody answers: a busy machine must not look like that."""
    late = "hung" in request.node.name or "hang" in request.node.name or "slow" in request.node.name
    async with platform(tmp_path, webhooks_schedule=SCHEDULE, webhooks_timeout="250ms" if late else "5s") as netra:
        yield netra


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint() as receiver:
        yield receiver


async def audited(netra, action):
    async def entries(tx):
        return [entry for entry in await tx.all(SUBSTRATE.list_audit_entries, after=b"", limit=1000) if entry[3] == action]

    return await netra.database.read(entries, scope=SCOPE)


async def test_a_message_arrives_as_it_was_given_and_verifies_with_the_official_library(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url, headers={"X-Team": "billing", "Webhook-Id": "forged"})
    (secret,) = await secrets_of(netra, endpoint)
    message = await send(netra, payload := {"amount": 12.5, "who": "Zoë \U0001f680", "deep": [{"x": None}]})
    await becomes(netra, message, endpoint, "delivered")
    (got,) = receiver.received
    assert Webhook(secret).verify(got.body, got.headers) == payload
    assert got.headers["x-team"] == "billing"
    (attempt,) = await attempts(netra, message)
    assert (attempt.outcome, attempt.status, attempt.number, attempt.late) == ("delivered", 200, 1, False)
    assert attempt.response == '{"ok":true}'


async def test_what_is_signed_and_sent_is_the_exact_text_that_was_given(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    (secret,) = await secrets_of(netra, endpoint)
    text = '{ "b": 1.50,\t"a": "\\u00e9", "a": 1e2 }'
    (answer,) = await netra.webhooks.accept(SCOPE, [netra.webhooks.checked(NewMessage("thing.happened", text))])
    await becomes(netra, answer.message.id, endpoint, "delivered")
    (got,) = receiver.received
    assert got.body.decode() == text
    Webhook(secret).verify(got.body, got.headers)


@pytest.mark.parametrize("batch", [1, 3])
async def test_no_message_is_acknowledged_before_its_commit(netra, receiver, batch):
    await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get("acme")
    gate = Gate()
    news = [netra.webhooks.new_message("acme", "thing.happened", {"n": n}) for n in range(batch)]
    async with gate.closed(netra.database):
        sending = asyncio.create_task(netra.webhooks.accept(SCOPE, news))
        await eventually(lambda: [job for job in netra.database.writer._lanes["normal"] if job.weight])  # the message, not a beat
        await let_run(50)
        assert not sending.done(), "acknowledged, and nothing is written"
        assert receiver.accepted == 0
    assert len(await sending) == batch
    await receiver.until(lambda got: len(got) == batch)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("500", ""),
        ("503", ""),
        ("404", ""),
        ("redirect:http://127.0.0.1:1/", ""),
        ("hang", "timeout"),
        ("reset", "reset"),
        ("close", "reset"),
        ("garbage", "protocol"),
        ("slow-headers", "timeout"),
    ],
)
async def test_what_fails_is_retried_by_the_schedule_and_becomes_a_dead_letter_after_the_last_attempt(netra, receiver, behaviour, kind):
    receiver.behave(behaviour)
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    dead = await becomes(netra, message, endpoint, "dead")
    assert dead.number == 4
    assert "4 attempts failed" in dead.reason
    log = await attempts(netra, message)
    assert [(attempt.number, attempt.outcome, attempt.error_kind) for attempt in log] == [(n, "failed", kind) for n in (1, 2, 3, 4)]
    waits = [(later.started_us - earlier.started_us - earlier.duration_us) / 1e6 for earlier, later in pairwise(log)]
    assert all(wait >= 0.03 * 0.8 for wait in waits), waits
    assert [letter.message_id for letter in await netra.database.read(store.dead_letters, (b"", b""), 10, scope=SCOPE)] == [message]


async def test_a_receiver_that_recovers_gets_the_message_and_a_steady_webhook_id(netra, receiver):
    receiver.behave("503-then-ok:2")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    assert (await becomes(netra, message, endpoint, "delivered")).number == 3
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len({got.headers["netra-attempt"] for got in receiver.received}) == 3
    assert [got.status for got in receiver.received] == [503, 503, 200]


async def test_an_endless_body_is_cut_and_its_2xx_counts(netra, receiver):
    receiver.behave("endless")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await becomes(netra, message, endpoint, "delivered")
    (attempt,) = await attempts(netra, message)
    assert len(attempt.response) == 16 * 1024


async def test_a_dead_letter_is_sent_again_on_demand_and_the_trail_says_so(netra, receiver):
    receiver.behave("500")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await becomes(netra, message, endpoint, "dead")
    receiver.behave("ok")
    await netra.database.write(store.resend, message, endpoint.id, 3600.0, scope=SCOPE)
    await becomes(netra, message, endpoint, "delivered")
    assert [attempt.manual for attempt in await attempts(netra, message)] == [False] * 4 + [True]
    (entry,) = await audited(netra, "delivery.resend")
    assert entry[2] == "tester"


async def test_an_address_that_egress_denies_burns_no_attempt_and_shows_the_fix(tmp_path, receiver):
    async with platform(tmp_path, dev=False, webhooks_schedule=SCHEDULE) as netra:
        endpoint = await add_endpoint(netra, receiver.url)
        message = await send(netra)
        await eventually(lambda: _has_attempts(netra, message))
        (attempt,) = await attempts(netra, message)
        assert (attempt.outcome, attempt.error_kind, attempt.status) == ("refused", "egress_denied", 0)
        assert "NETRA_EGRESS" in attempt.error
        waiting = await becomes(netra, message, endpoint, "due")
        assert waiting.number == 0
        assert "NETRA_EGRESS" in waiting.reason
        assert receiver.accepted == 0


async def _has_attempts(netra, message):
    return bool(await attempts(netra, message))


async def test_a_hung_endpoint_delays_no_other(netra, receiver):
    async with MisbehavingEndpoint("hang") as hung:
        stuck = await add_endpoint(netra, hung.url)
        await add_endpoint(netra, receiver.url)
        messages = [await send(netra, {"n": number}) for number in range(60)]
        await receiver.until(lambda got: len(got) == 60)
        hanging = [await row(netra, message, stuck) for message in messages]
        assert {each.state for each in hanging} & {"due", "leased"}, "the healthy one had to wait for the hung one"
        assert len(hung.received) <= 60


async def test_a_hung_endpoint_has_ten_attempts_on_their_way_and_no_more(tmp_path):
    async with MisbehavingEndpoint("hang") as hung, platform(tmp_path, webhooks_timeout="20s") as netra:
        await add_endpoint(netra, hung.url)
        for number in range(30):
            await send(netra, {"n": number})
        await hung.until(lambda got: len(got) == 10)
        assert netra.webhooks.sender.lanes.in_flight == 10
        await netra.webhooks.dispatcher.scan()
        assert hung.open_connections == len(hung.received) == 10
        await netra.webhooks.dispatcher.stop(grace_s=0.0)


@pytest.mark.parametrize("key", ["event_id", "idempotency_key", "content_key"])
async def test_concurrent_copies_under_one_key_are_one_message(netra, receiver, key):
    endpoint = await add_endpoint(netra, receiver.url)
    options = {"content_key": True} if key == "content_key" else {key: "k-1"}
    answers = await asyncio.gather(*(accept(netra, {"b": 1, "a": 2}, **options) for _ in range(12)))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert len({answer.message.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    await becomes(netra, answers[0].message.id, endpoint, "delivered")
    assert len(receiver.received) == 1


async def test_a_key_with_another_body_is_422_and_delivers_nothing_twice(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra, {"n": 1}, event_id="k-1")
    refused = await accept(netra, {"n": 2}, event_id="k-1")
    assert (refused.code, refused.status) == ("key_reused", 422)
    async with netra.transaction(tenant="acme") as tx:
        again = await netra.webhooks.send(tx, "thing.happened", {"n": 1}, event_id="k-1")
        assert (await outcome_of(netra.webhooks.send(tx, "thing.happened", {"n": 2}, event_id="k-1"))).status == 422
    assert again == (await netra.database.read(store.message, message, scope=SCOPE)).text_id
    await becomes(netra, message, endpoint, "delivered")
    assert len(receiver.received) == 1


async def test_a_message_for_later_waits_for_its_time_and_no_longer(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    clock = netra.runtime.clock
    then_us = clock.wall_us() + 400_000
    message = await send(netra, deliver_at=then_us / 1e6)
    await becomes(netra, message, endpoint, "delivered")
    (attempt,) = await attempts(netra, message)
    assert then_us <= attempt.started_us < then_us + 1_000_000


async def test_what_a_disabled_endpoint_would_have_got_is_recorded_as_skipped(netra, receiver):
    receiver.behave("503")
    endpoint = await add_endpoint(netra, receiver.url)
    waiting = await send(netra, deliver_at=netra.runtime.clock.wall_us() / 1e6 + 0.3)
    await change_endpoint(netra, endpoint, disabled=True)
    await netra.webhooks.snapshots.look()
    fresh = await send(netra)
    for message in (waiting, fresh):
        skipped = await becomes(netra, message, endpoint, "skipped")
        assert "disabled" in skipped.reason and skipped.number == 0
    assert receiver.received == []


async def test_what_was_due_for_a_deleted_endpoint_is_cancelled_with_the_reason(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra, deliver_at=netra.runtime.clock.wall_us() / 1e6 + 0.3)
    await netra.database.write(endpoints.bury, endpoint.text_id, scope=SCOPE)
    await netra.webhooks.snapshots.look()
    cancelled = await becomes(netra, message, endpoint, "cancelled")
    assert "deleted" in cancelled.reason
    assert receiver.received == []


async def test_a_deadline_makes_a_dead_letter_of_what_is_still_failing(tmp_path, receiver):
    receiver.behave("503")
    async with platform(tmp_path, webhooks_schedule="300ms,300ms,300ms,300ms,300ms,300ms", webhooks_deadline="1s") as netra:
        endpoint = await add_endpoint(netra, receiver.url)
        message = await send(netra)
        dead = await becomes(netra, message, endpoint, "dead")
        assert "deadline" in dead.reason
        assert 2 <= dead.number < 7


async def test_an_endpoint_made_or_enabled_by_another_process_a_moment_ago_gets_its_messages(tmp_path, receiver):
    async with platform(tmp_path, workers=False) as api, platform(tmp_path) as worker:
        old = await add_endpoint(api, receiver.url, disabled=True)
        await worker.webhooks.snapshots.get("acme")
        worker.webhooks.snapshots.look = _nothing  # its copy stays as old as it is
        await change_endpoint(api, old, disabled=False)
        new = await add_endpoint(api, receiver.url)
        message = await send(api)
        for endpoint in (old, new):
            await becomes(worker, message, endpoint, "delivered")


async def _nothing():
    return


async def test_messages_go_where_their_type_and_channels_say(netra, receiver):
    async with MisbehavingEndpoint() as other:
        await add_endpoint(netra, receiver.url, event_types=("invoice.paid",))
        await add_endpoint(netra, other.url, channels=("eu",))
        for type_, channels in (("invoice.paid", None), ("invoice.sent", ["eu"]), ("invoice.sent", ["us"]), ("invoice.paid", ["eu", "us"])):
            await send(netra, {"type": type_, "channels": channels}, type=type_, channels=channels)
        await receiver.until(lambda got: len(got) == 2)
        await other.until(lambda got: len(got) == 2)
        await eventually(lambda: not netra.webhooks.sender.lanes.held)
        assert (len(receiver.received), len(other.received)) == (2, 2)


async def test_what_is_sent_in_a_transaction_is_delivered_if_and_only_if_it_commits(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    with pytest.raises(ZeroDivisionError):
        async with netra.transaction(tenant="acme") as tx:
            await netra.webhooks.send(tx, "thing.happened", {"n": "lost"})
            raise ZeroDivisionError
    async with netra.transaction(tenant="acme") as tx:
        await netra.webhooks.send_many(tx, [{"type": "thing.happened", "payload": {"n": n}} for n in range(3)])
        assert receiver.received == []
    await receiver.until(lambda got: len(got) == 3)
    assert all(b"lost" not in got.body for got in receiver.received)
    (page,) = [await netra.database.read(store.messages, None, 10, scope=Scope("acme"))]
    for message in page:
        await becomes(netra, message.id, endpoint, "delivered")
    lanes = netra.webhooks.sender.lanes
    await eventually(lambda: not lanes.held)
    assert not lanes.expected and not any(state.reserved for state in lanes._lanes.values())
