"""Endpoint health in the table: what every process shares of an endpoint that is not well.

* The breaker is changed by compare-and-swap over its own columns: whoever computed a transition from a state that is not
  there any more changes nothing, reads again, and decides anew at its next outcome. Nothing is lost by that: an endpoint
  that is sick fails again. Equal states are interchangeable, so no number of revisions is needed.
* A gate (Retry-After) needs no such care and must not be lost to a lost swap (W4): of several the latest holds.
* The probe is a swap as well: see `probes.py`.

* What the breaker was before stands beside it in a few words, the newest first, for whoever looks (`turns`): each statement that changes
  the phase puts one in front, and what is past the column's 2,000 characters falls off.

A healthy endpoint has no row that anybody must look at, and is never written here. How long one has been failing, and what
follows from that, is `failing.py`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ..kernel.failpoints import declare
from ..resilience.circuit_breaker import Breaker, Phase
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from . import endpoints
from .model import WELL, Endpoint, EndpointHealth, News

Q = Statements(__package__)

PAGE: Final = 1000

SETTLED: Final = declare("webhooks.health_written_before_commit", "a breaker or a gate was changed with an outcome, nothing is committed")

Lane = tuple[str, bytes]
"""(tenant, endpoint id)."""

_PHASES: Final[Mapping[str, Phase]] = {"c": "closed", "h": "half_open", "o": "open"}


class Turn(NamedTuple):
    """A phase that a breaker came into, and when."""

    phase: Phase
    at_us: int


async def settle(tx: Tx, news: Sequence[News]) -> None:
    """Write what outcomes mean for their endpoints, in the outcomes' own transaction."""
    for lane, reason in sorted({each.lane: each.disable for each in news if each.disable}.items()):
        await endpoints.disable(tx, *lane, reason)
    await _insert_missing(tx, {each.lane for each in news if each.before == WELL and each.after != WELL})
    gates = {each.lane: each.after.gate_us for each in news if each.after.gate_us != each.before.gate_us}
    if gates:
        await tx.execute(Q.raise_gates, rows=sorted((*lane, gate_us) for lane, gate_us in gates.items()), now_us=tx.now_us)
    swaps = _merged(news)
    if swaps:
        await tx.execute(Q.swap_health, rows=sorted(map(_swap_row, swaps)))
    tx.runtime.failpoints.hit(SETTLED)


async def _insert_missing(tx: Tx, lanes: Collection[Lane]) -> None:
    if lanes:
        await tx.execute(Q.insert_health, rows=sorted(lanes))


def _merged(news: Iterable[News]) -> list[News]:
    """One swap for each lane: a chain of them is one step; where the chain is broken only its newest part can still hold."""
    found: dict[Lane, News] = {}
    for each in news:
        if each.before.breaker == each.after.breaker:
            continue
        former = found.get(each.lane)
        chained = former is not None and former.after.breaker == each.before.breaker
        before = former.before if former is not None and chained else each.before
        found[each.lane] = News(*each.lane, before, each.after)
    return list(found.values())


def _swap_row(news: News) -> Row:
    return (*news.lane, *_columns(news.before.breaker), *_columns(news.after.breaker), news.after.prober)


def _columns(breaker: Breaker) -> Row:
    return breaker.phase, breaker.since_us, breaker.until_us, breaker.openings, breaker.limit, breaker.credit


async def unwell(tx: Tx, after: Lane) -> list[tuple[Lane, EndpointHealth]]:
    """The next endpoints behind `after` that are not well."""
    rows = await tx.all(Q.unwell_endpoints, after_tenant=after[0], after_endpoint=after[1], limit=PAGE)
    return [_health(row) for row in rows]


async def health_of(tx: Tx, lanes: Collection[Lane]) -> dict[Lane, EndpointHealth]:
    """How those endpoints stand; one that is not in the answer was always well."""
    return dict(_health(row) for row in await tx.all(Q.health_of, rows=sorted(lanes)))


async def turns(tx: Tx, endpoint_id: bytes) -> list[Turn]:
    """The last hundred and more changes of an endpoint's breaker, the newest first."""
    row = await tx.one(Q.turns_of, endpoint_id=endpoint_id)
    *whole, _ = (row[0] or "" if row else "").split(",")  # the last one may have been cut off
    return [Turn(_PHASES[each[0]], int(each[1:])) for each in whole]


async def with_health(tx: Tx, found: Sequence[Endpoint]) -> list[tuple[Endpoint, EndpointHealth]]:
    """The scope's endpoints, each with its health."""
    known = await health_of(tx, {(tx.tenant, endpoint.id) for endpoint in found}) if found else {}
    return [(endpoint, known.get((tx.tenant, endpoint.id), WELL)) for endpoint in found]


async def counts(tx: Tx) -> dict[str, int]:
    """How many endpoints of the installation are open, half open, in a slow start, gated, failing."""
    found = dict.fromkeys(("open", "half_open", "slow_start", "gated", "failing"), 0)
    for phase, slow, gated, failing, count in await tx.all(Q.count_unwell, now_us=tx.now_us):
        found["gated"] += count if gated else 0
        found["failing"] += count if failing else 0
        name = phase if phase != "closed" else "slow_start" if slow else ""
        if name:
            found[name] += count
    return found


def _health(row: Row) -> tuple[Lane, EndpointHealth]:
    tenant, endpoint_id, phase, since_us, until_us, openings, limit, credit, prober, gate_us, failing_since_us = row
    breaker = Breaker(phase, since_us, until_us, openings, limit, credit)
    return (tenant, endpoint_id), EndpointHealth(breaker, prober, gate_us, failing_since_us or 0)
