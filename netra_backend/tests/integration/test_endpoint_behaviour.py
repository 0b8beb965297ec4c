"""Endpoints that fail, ask for time or want nothing more, over real HTTP; time is turned by hand."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from netra_backend.resilience.circuit_breaker import CLOSED
from netra_backend.storage.statements import Statements
from netra_backend.testing.clock import FakeClock
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import endpoints, health, store
from netra_backend.webhooks.model import WELL

from ..support.platform import SCOPE, add_endpoint, attempts, change_endpoint, on_a_clock, row, send, turned
from ..support.storage import SYSTEM

SUBSTRATE = Statements("netra_backend.storage")
DAY_S = 24 * 3600


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def netra(tmp_path, clock):
    async with on_a_clock(tmp_path, clock) as netra:
        yield netra


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint() as receiver:
        yield receiver


async def health_of(netra, endpoint):
    lane = endpoint.tenant, endpoint.id
    return (await netra.database.read(health.health_of, [lane], scope=SYSTEM)).get(lane, WELL)


async def entries(netra, action):
    async def read(tx):
        return [entry for entry in await tx.all(SUBSTRATE.list_audit_entries, after=b"", limit=1000) if entry[3] == action]

    return await netra.database.read(read, scope=SCOPE)


def http_date(clock, seconds):
    return format_datetime(datetime.fromtimestamp(clock.wall_us() / 1e6 + seconds, UTC), usegmt=True)


async def parked(netra, clock, receiver, messages=10):
    """An endpoint with so many messages due, whose breaker has just opened."""
    receiver.behave("503")
    endpoint = await add_endpoint(netra, receiver.url)
    news = [netra.webhooks.new_message("acme", "thing.happened", {"n": number}) for number in range(messages)]
    sent = [answer.message.id for answer in await netra.webhooks.accept(SCOPE, news)]
    await turned(clock, netra)
    assert (await health_of(netra, endpoint)).breaker.phase == "open"
    return endpoint, sent


@pytest.mark.parametrize("status", [500, 404, 302])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_retry_after_with_any_failure_is_never_undercut(netra, clock, receiver, status, form):
    value = "120" if form == "seconds" else http_date(clock, 120)
    receiver.behave(f"header:{status}:retry-after={value}")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await turned(clock, netra)
    receiver.behave("ok")
    for _ in range(119):
        await turned(clock, netra, seconds=1)
    assert len(receiver.received) == 1
    await turned(clock, netra, seconds=2)
    assert (await row(netra, message, endpoint)).state == "delivered"
    first, second = await attempts(netra, message)
    assert second.started_us - first.started_us >= 120e6
    assert (await health_of(netra, endpoint)).gate_us == 0, "it was about this one message"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_with_429_or_503_gates_the_whole_endpoint_and_no_other(netra, clock, receiver, status):
    async with MisbehavingEndpoint() as other:
        receiver.behave(f"header:{status}:retry-after=3600")
        endpoint, well = await add_endpoint(netra, receiver.url), await add_endpoint(netra, other.url)
        first = await send(netra)
        await turned(clock, netra)
        receiver.behave("ok")
        later = [await send(netra, {"n": number}) for number in range(20)]
        for seconds in (1, 60, 3000, 538):
            await turned(clock, netra, seconds=seconds)
        assert (len(receiver.received), len(other.received)) == (1, 21)
        assert {(await row(netra, message, endpoint)).number for message in later} == {0}, "a gated delivery burned an attempt"
        assert not netra.webhooks.sender.lanes.held, "what waits for an hour waits in the table"
        await turned(clock, netra, seconds=2)
        for message in (first, *later):
            assert (await row(netra, message, endpoint)).state == "delivered"
            assert (await row(netra, message, well)).state == "delivered"
        assert await health_of(netra, endpoint) == WELL


async def test_a_retry_after_of_a_year_gates_for_a_day(netra, clock, receiver):
    receiver.behave("header:429:retry-after=31536000")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await turned(clock, netra)
    receiver.behave("ok")
    await turned(clock, netra, seconds=DAY_S - 1)
    assert len(receiver.received) == 1
    await turned(clock, netra, seconds=2)
    assert (await row(netra, message, endpoint)).state == "delivered"


@pytest.mark.parametrize("value", ["-5", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_retry_after_that_says_nothing_leaves_the_schedule_as_it_is(netra, clock, receiver, value):
    receiver.behave(f"header:503:retry-after={value}")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await turned(clock, netra)
    receiver.behave("ok")
    await turned(clock, netra, seconds=1.2)
    assert (await row(netra, message, endpoint)).state == "delivered"


async def test_ten_failures_park_the_endpoint_and_what_is_parked_burns_no_attempt(netra, clock, receiver):
    endpoint, sent = await parked(netra, clock, receiver, messages=40)
    asked = len(receiver.received)
    assert 10 <= asked <= 19, "ten in a row, and what was under way beside them"
    until_us = (await health_of(netra, endpoint)).breaker.until_us
    assert 24e6 <= until_us - clock.wall_us() <= 36e6
    assert not netra.webhooks.sender.lanes.held
    while clock.wall_us() < until_us - 1_000_000:
        await turned(clock, netra, seconds=1)
    assert len(receiver.received) == asked
    waiting = [await row(netra, message, endpoint) for message in sent]
    assert {each.state for each in waiting} == {"due"}
    assert sorted(each.number for each in waiting) == [0] * (40 - asked) + [1] * asked


async def test_an_opening_ends_with_one_probe_and_a_failed_one_doubles_it(netra, clock, receiver):
    endpoint, _ = await parked(netra, clock, receiver)
    for nominal_s in (30, 60, 120, 240, 480, 960, 1800, 1800):
        asked, breaker = len(receiver.received), (await health_of(netra, endpoint)).breaker
        assert 0.8 * nominal_s <= (breaker.until_us - breaker.since_us) / 1e6 <= 1.2 * nominal_s
        await turned(clock, netra, seconds=(breaker.until_us - clock.wall_us()) / 1e6 - 0.001)
        assert len(receiver.received) == asked
        await turned(clock, netra, seconds=0.002)
        assert len(receiver.received) == asked + 1


async def test_the_probe_is_the_delivery_that_was_due_for_longest(netra, clock, receiver):
    _, sent = await parked(netra, clock, receiver, messages=30)
    asked = len(receiver.received)
    stands = [await row(netra, message, _) for message in sent]
    oldest = min(stands, key=lambda each: (each.due_us, each.message_id))
    await turned(clock, netra, seconds=37)
    probe = receiver.received[asked]
    assert probe.headers["webhook-id"] == (await netra.database.read(store.message, oldest.message_id, scope=SCOPE)).text_id


async def test_a_receiver_that_is_well_again_starts_slowly_and_gets_everything_once(netra, clock, receiver):
    endpoint, sent = await parked(netra, clock, receiver, messages=60)
    asked = len(receiver.received)
    receiver.behave("ok")
    await turned(clock, netra, seconds=37)
    for _ in range(10):
        await turned(clock, netra, seconds=1.5)
    assert {(await row(netra, message, endpoint)).state for message in sent} == {"delivered"}
    assert len(receiver.received) == asked + 60
    assert await health_of(netra, endpoint) == WELL


async def test_in_a_slow_start_one_two_four_and_eight_are_on_their_way(netra, clock, receiver):
    await parked(netra, clock, receiver, messages=60)
    lanes, most, begun = netra.webhooks.sender.lanes, [], lanes_start(netra)
    receiver.behave("ok")
    begun(lambda: most.append(lanes.in_flight))
    await turned(clock, netra, seconds=37)
    assert max(most[:2]) == 1 and max(most[:4]) <= 2 and max(most[:8]) <= 4 and max(most[:16]) <= 8
    assert max(most) > 2


def lanes_start(netra):
    """Have a function called at the start of each attempt."""
    sender = netra.webhooks.sender

    def call(back):
        request = sender._egress.request

        async def watched(*args, **options):
            back()
            return await request(*args, **options)

        sender._egress.request = watched

    return call


async def test_a_parked_delivery_dies_at_its_deadline_and_not_before(tmp_path, clock, receiver):
    async with on_a_clock(tmp_path, clock, webhooks_deadline="2h", webhooks_schedule="10m,10m,10m,10m,10m,10m") as netra:
        endpoint, sent = await parked(netra, clock, receiver, messages=25)
        for _ in range(110):
            await turned(clock, netra, seconds=60)
        waiting = [await row(netra, message, endpoint) for message in sent]
        assert Counter(each.state for each in waiting)["dead"] <= 1, "only probes were sent"
        for _ in range(60):
            await turned(clock, netra, seconds=60)
        ended = [await row(netra, message, endpoint) for message in sent]
        assert {each.state for each in ended} == {"dead"}
        assert sum(each.number for each in ended) == len(receiver.received)
        assert all(each.reason for each in ended)


async def test_410_disables_the_endpoint_at_once_with_an_entry(netra, clock, receiver):
    receiver.behave("410")
    endpoint = await add_endpoint(netra, receiver.url)
    first = await send(netra)
    await turned(clock, netra)
    gone = await row(netra, first, endpoint)
    assert (gone.state, gone.number, gone.last_status) == ("skipped", 1, 410) and "410" in gone.reason
    assert (await netra.database.read(endpoints.get, endpoint.text_id, scope=SCOPE)).disabled
    assert len(await entries(netra, "endpoint.disable")) == 1
    later = await send(netra)
    await turned(clock, netra, seconds=10)
    assert (await row(netra, later, endpoint)).state == "skipped"
    assert len(receiver.received) == 1


async def test_an_endpoint_that_was_disabled_by_410_takes_messages_again_when_somebody_enables_it(netra, clock, receiver):
    receiver.behave("410")
    endpoint = await add_endpoint(netra, receiver.url)
    await send(netra)
    await turned(clock, netra)
    receiver.behave("ok")
    await change_endpoint(netra, endpoint, disabled=False)
    await turned(clock, netra)
    message = await send(netra)
    await turned(clock, netra)
    assert (await row(netra, message, endpoint)).state == "delivered"


@pytest.mark.parametrize(("status", "state"), [(200, "delivered"), (404, "skipped"), (503, "skipped")])
async def test_a_receiver_disables_its_endpoint_by_a_header_with_any_status(netra, clock, receiver, status, state):
    receiver.behave(f"header:{status}:webhook-delivery=disable")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await turned(clock, netra)
    assert (await row(netra, message, endpoint)).state == state
    assert (await netra.database.read(endpoints.get, endpoint.text_id, scope=SCOPE)).disabled
    (entry,) = await entries(netra, "endpoint.disable")
    assert "webhook-delivery" in entry[9]


async def test_a_receiver_ends_a_message_and_gets_the_next_one(netra, clock, receiver):
    receiver.behave("header:500:webhook-delivery=abort-message")
    endpoint = await add_endpoint(netra, receiver.url)
    ended = await send(netra)
    await turned(clock, netra)
    stands = await row(netra, ended, endpoint)
    assert (stands.state, stands.number) == ("dead", 1) and "no further attempt" in stands.reason
    receiver.behave("header:200:webhook-delivery=abort-message")
    taken = await send(netra)
    await turned(clock, netra, seconds=30)
    assert (await row(netra, taken, endpoint)).state == "delivered"
    assert len(receiver.received) == 2


async def test_answers_that_refuse_the_message_park_nobody(netra, clock, receiver):
    receiver.behave("404")
    endpoint = await add_endpoint(netra, receiver.url)
    for number in range(30):
        await send(netra, {"n": number})
    await turned(clock, netra)
    assert len(receiver.received) == 30
    assert (await health_of(netra, endpoint)).breaker == CLOSED


async def test_another_url_ends_the_parking_at_once(netra, clock, receiver):
    endpoint, sent = await parked(netra, clock, receiver)
    async with MisbehavingEndpoint() as new:
        await change_endpoint(netra, endpoint, url=new.url)
        await turned(clock, netra, seconds=1.5)
        assert len(new.received) == len(sent)


async def test_a_healthy_endpoint_writes_nothing_about_its_health(netra, clock, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    for number in range(50):
        await send(netra, {"n": number})
    await turned(clock, netra)
    assert len(receiver.received) == 50
    assert await netra.database.read(health.health_of, [(endpoint.tenant, endpoint.id)], scope=SYSTEM) == {}


async def test_an_endpoint_that_stumbled_is_well_again_and_nobody_looks_at_it(netra, clock, receiver):
    receiver.behave("503-then-ok:3")
    endpoint = await add_endpoint(netra, receiver.url)
    for number in range(20):
        await send(netra, {"n": number})
    await turned(clock, netra, seconds=2)
    assert len(receiver.received) == 23
    assert await health_of(netra, endpoint) == WELL
    assert await netra.database.read(health.unwell, ("", b""), scope=SYSTEM) == []


async def test_an_endpoint_that_fails_for_long_is_warned_of_disabled_and_its_messages_are_skipped(tmp_path, clock, receiver):
    receiver.behave("404")
    options = {"webhooks_disable_after": "5h", "webhooks_disable_attempts": 6, "webhooks_failing_warnings": "1h"}
    async with on_a_clock(tmp_path, clock, webhooks_schedule="1h,1h,1h,1h,1h,1h,1h", webhooks_jitter=0, **options) as netra:
        endpoint = await add_endpoint(netra, receiver.url)
        first = await send(netra)
        while not (found := await entries(netra, "endpoint.disable")):
            await turned(clock, netra, seconds=3601)
            assert len(receiver.received) <= 8
        assert (attempts := len(receiver.received)) >= 6
        await turned(clock, netra, seconds=3601)
        assert len(receiver.received) == attempts, "nothing is sent to an endpoint that was disabled"
        (entry,) = found
        assert entry[2] == "system"
        assert (await row(netra, first, endpoint)).state == "skipped"
        later = await send(netra)
        assert (await row(netra, later, endpoint)).state == "skipped"
        receiver.behave("ok")
        await change_endpoint(netra, endpoint, disabled=False)
        await turned(clock, netra, seconds=1)
        again = await send(netra)
        await turned(clock, netra)
        assert (await row(netra, again, endpoint)).state == "delivered"


async def test_processes_share_the_breaker_the_gate_and_the_limit_per_endpoint(tmp_path, clock, receiver):
    async with on_a_clock(tmp_path, clock) as one, on_a_clock(tmp_path, clock) as two, on_a_clock(tmp_path, clock, workers=False):
        for netra in (one, two):
            await netra.membership._observe_once()
        endpoint, sent = await parked(one, clock, receiver, messages=30)
        assert sum(netra.webhooks.sender.breakers.allowance((endpoint.tenant, b"e" * 16)) for netra in (one, two)) == 10
        asked = len(receiver.received)
        await turned(clock, two, one, seconds=20)
        assert len(receiver.received) == asked
        await turned(clock, two, one, seconds=17)
        assert len(receiver.received) == asked + 1, "one probe in the fleet"
        receiver.behave("ok")
        for _ in range(40):
            await turned(clock, two, one, seconds=5)
        assert {(await row(one, message, endpoint)).state for message in sent} == {"delivered"}
        assert len(receiver.received) == asked + 1 + 30
