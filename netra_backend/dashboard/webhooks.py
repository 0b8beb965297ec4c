"""Pages of webhooks: endpoints and how they are, one of them, messages, one with its attempts, dead letters, tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter

from ..errors import NotFound
from ..kernel.ids import try_from_text
from ..storage.transaction import Tx
from ..webhooks import endpoints, search, store, tasks
from ..webhooks.health import Turn, turns, with_health
from ..webhooks.model import EVERY_DEAD, Attempt, DeliveryRow, Endpoint, Message
from ..webhooks.operators import dead_filter
from ..webhooks.search import AttemptFilter, MessageFilter
from . import charts, counting, places
from .activity import Activity, activity
from .rendering import moment, seconds
from .routing import page
from .visits import Visit

router: Final = APIRouter()

ENDPOINTS: Final = 250
ATTEMPTS: Final = 120
"""The last attempts of an endpoint, which its drawings are about."""

DESTINATIONS: Final = 100
STYLES: Final = {"delivered": "good", "failed": "bad", "refused": "bad"}
DAY_US: Final = 86_400_000_000
MOST_TURNS: Final = 100
"""Where a breaker has turned so often, what was before the oldest turn is not known any more."""

PHASES: Final = {"closed": ("good", "closed"), "half_open": ("warn", "half open"), "open": ("bad", "open")}


@page(router, "webhooks", "webhooks.html", "webhooks:view")
async def webhooks(visit: Visit) -> dict[str, Any]:
    """A tenant's endpoints, and its messages, the newest first."""
    found: dict[str, Any] = await visit.read(_endpoints)
    wanted = MessageFilter(tuple(name for name in [visit.asked("type")] if name))

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[Message]:  # noqa: FBT001  (as `places` asks)
        listed: Sequence[Message] = await visit.read(_messages, wanted, at, limit, back)
        return listed

    messages = await places.page(visit, "ib", fetch, lambda each: (each.created_us, each.id))
    seen = await activity(visit.netra)
    sparks = {target.id: _spark(seen, target) for target, _ in found["endpoints"]}
    return {**found, "messages": messages, "type": visit.asked("type"), "sparks": sparks}


def _spark(seen: Activity, target: Endpoint) -> Any:
    """The last hour of one endpoint."""
    good, bad = (seen.series(target.tenant, name, target.id.hex()) for name in ("delivered", "failed"))
    words = f"The last hour: {sum(good):,} delivered, {sum(bad):,} attempts failed"
    return charts.sparks(words, [charts.Series("delivered", "good", good), charts.Series("failed", "bad", bad)])


@page(router, "webhooks/endpoints/{endpoint}", "endpoint.html", "webhooks:view")
async def endpoint(visit: Visit) -> dict[str, Any]:
    """One endpoint: its health, what came of its last attempts, and the messages for it."""
    found: dict[str, Any] = await visit.read(_endpoint, visit.named("endpoint"))
    target: Endpoint = found["endpoint"]

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[tuple[DeliveryRow, Message]]:  # noqa: FBT001  (as `places` asks)
        listed: Sequence[tuple[DeliveryRow, Message]] = await visit.read(_deliveries, target.id, visit.asked("state"), at, limit, back)
        return listed

    listed = await places.page(visit, "b", fetch, lambda each: (each[1].id,))
    now_us = visit.netra.runtime.clock.wall_us()
    drawn = {**_drawn(found["attempts"]), **_day_of_breaker(found["turns"], target.created_us, now_us)}
    return {**found, **drawn, "listed": listed, "state": visit.asked("state")}


@page(router, "webhooks/dead", "dead.html", "webhooks:view")
async def dead(visit: Visit) -> dict[str, Any]:
    """Dead letters by endpoint and message, and the tasks that work on many messages."""

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[Any]:  # noqa: ARG001, FBT001  (this list goes one way)
        listed: Sequence[Any] = await visit.read(_dead, visit.asked("endpoint"), at, limit)
        return listed

    listed = await places.page(visit, "bb", fetch, lambda each: (each[0].endpoint_id, each[0].message_id))
    return {"listed": listed, "endpoint": visit.asked("endpoint"), **await visit.read(_tasks)}


@page(router, "webhooks/{message}", "message.html", "webhooks:view")
async def message(visit: Visit) -> dict[str, Any]:
    """One message, by id or eventId: its payload, how it stands at each endpoint, and its attempts."""
    found: dict[str, Any] = await visit.read(_message, visit.named("message"))
    return found


async def _endpoints(tx: Tx) -> dict[str, Any]:
    listed = await endpoints.page(tx, (-1, b""), ENDPOINTS + 1)
    return {
        "endpoints": await with_health(tx, listed[:ENDPOINTS]),
        "more_endpoints": len(listed) > ENDPOINTS,
        "queue": await counting.queue_of_tenant(tx),
    }


async def _messages(tx: Tx, wanted: MessageFilter, at: Any, limit: int, back: bool) -> list[Message]:  # noqa: FBT001  (positional, through `read`)
    return await search.messages(tx, wanted, at, limit, back=back, content=False)


async def _endpoint(tx: Tx, reference: str) -> dict[str, Any]:
    found = await endpoints.get(tx, reference)
    ((_, health),) = await with_health(tx, [found])
    attempts = await search.attempts_of_endpoint(tx, found.id, AttemptFilter(), None, ATTEMPTS, back=False)
    return {"endpoint": found, "health": health, "attempts": attempts, "turns": await turns(tx, found.id)}


def _drawn(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The drawings of an endpoint's page, of its last attempts."""
    took = [attempt.duration_us / 1_000_000 for attempt in attempts]
    marks = [(STYLES[each.outcome], f"attempt {each.number}: {each.status or each.error_kind}") for each in reversed(attempts)]
    good = sum(each.outcome == "delivered" for each in attempts)
    return {
        "good": good,
        "timeline": charts.strip(f"Outcomes of the last {len(attempts)} attempts, the oldest first: {good} delivered", marks),
        "latency": charts.latencies(f"How long the last {len(attempts)} attempts took", took),
        "p50": charts.quantile(took, 0.5),
        "p99": charts.quantile(took, 0.99),
    }


def _day_of_breaker(found: Sequence[Turn], made_us: int, now_us: int) -> dict[str, Any]:
    """The band of an endpoint's breaker over the last day, and in words how often and for how long it was open."""
    since_us = now_us - DAY_US
    known = [Turn("closed", made_us), *reversed(found)] if len(found) < MOST_TURNS else list(reversed(found))
    bands = [(turn.at_us, PHASES[turn.phase][0], f"{PHASES[turn.phase][1]} since {moment(turn.at_us).striptags()}") for turn in known]
    ends = [*(turn.at_us for turn in known[1:]), now_us]
    open_us = [end - max(turn.at_us, since_us) for turn, end in zip(known, ends, strict=True) if turn.phase == "open" and end > since_us]
    often = "once" if len(open_us) == 1 else f"{len(open_us)} times"
    words = f"open {often}, for {seconds(sum(open_us) / 1_000_000)} in all" if open_us else "never open"
    return {"breaker_day": charts.phases(f"The breaker over the last 24 hours: {words}", since_us, now_us, bands), "breaker_words": words}


async def _deliveries(tx: Tx, endpoint_id: bytes, state: str, at: Any, limit: int, back: bool) -> list[tuple[DeliveryRow, Message]]:  # noqa: FBT001  (positional, through `read`)
    states = (state,) if state else None
    place = at[0] if at else None
    return await search.messages_of_endpoint(tx, endpoint_id, MessageFilter(), states, place, limit, back=back, content=False)


async def _dead(tx: Tx, reference: str, at: Any, limit: int) -> list[tuple[DeliveryRow, Endpoint | None, Message | None]]:
    wanted = await dead_filter(tx, reference, (), None, None) if reference else EVERY_DEAD
    rows = await store.dead_letters(tx, at or (b"", b""), limit, wanted)
    messages = await search.messages_without_payloads(tx, [row.message_id for row in rows])
    known = {each.id: each for each in await endpoints.page(tx, (-1, b""), ENDPOINTS)} if rows else {}
    return [(row, known.get(row.endpoint_id), messages.get(row.message_id)) for row in rows]


async def _tasks(tx: Tx) -> dict[str, Any]:
    return {"tasks": await tasks.page(tx, None, 10)}


async def _message(tx: Tx, reference: str) -> dict[str, Any]:
    id_ = try_from_text("msg", reference)
    found = (await search.messages_by_id(tx, [id_])).get(id_) if id_ is not None else None
    found = found or await store.message_of_event_id(tx, reference)
    if found is None:
        raise NotFound(f"there is no message {reference[:80]!r}")
    return {
        "message": found,
        "destinations": await search.destinations(tx, found.id, None, DESTINATIONS, back=False),
        "attempts": await search.attempts_of_message(tx, found.id, AttemptFilter(), None, ATTEMPTS, back=False),
    }
