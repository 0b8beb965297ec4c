"""Endpoints that fail for long: the operator is warned, and in the end they are disabled.

An endpoint fails from an attempt that failed until the next success, whichever process made them. Its row holds since when, how many
attempts failed, and how long it has failed *as its failures saw it*: the time between two of them, of which at most `LONGEST_GAP_S`
counts. So neither a clock that steps (by however much) nor a month without messages disables an endpoint by itself, and an
endpoint that is parked fails on by its probes.

The count is an update of the row in the outcome's transaction; what follows is decided by `judge`, purely, from the row as it then
stands, and done in the same transaction under the row's lock: of two processes that count at once one sees the other's count, so
each warning is given once. An outcome that lost its lease counts nothing.

What was refused on our own side (no attempt burned) is no failure of the endpoint. An endpoint that somebody changes to another
URL, disables or enables begins anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..storage.statements import Statements
from ..storage.transaction import Tx
from . import endpoints
from .model import Outcome, Rules
from .reports import report_attempt

Q = Statements(__package__)

LONGEST_GAP_S: Final = 30 * 3600.0
"""The longest delay of the schedule is a day, and its jitter a fifth of that."""

_GAP_US: Final = int(LONGEST_GAP_S * 1_000_000)

Lane = tuple[str, bytes]
"""(tenant, endpoint id)."""


@dataclass(frozen=True, slots=True)
class Failing:
    """How an endpoint's failing stands: for how long, in how many attempts, and how many warnings were given of it."""

    spent_us: int
    failures: int
    warned: int


@dataclass(frozen=True, slots=True)
class Step:
    """What follows: how many warnings are given by then, whether one is given now, and whether that was enough."""

    warned: int
    warn: bool
    disable: bool


def judge(failing: Failing, rules: Rules) -> Step:
    """What follows from a failure that is counted already. Of several warnings that come due at once the last is given."""
    due = sum(failing.spent_us >= after_us for after_us in rules.warn_after_us)
    is_over = 0 < rules.disable_after_us <= failing.spent_us and failing.failures >= rules.disable_least
    return Step(max(due, failing.warned), due > failing.warned, is_over)


async def settle(tx: Tx, outcomes: Sequence[Outcome]) -> None:
    """Count what failed and forget what succeeded, in the outcomes' own transaction; each outcome's lease was still held."""
    recovered = {each.delivery.lane: each for each in outcomes if each.news is not None and each.news.recovers}
    failed = [each for each in outcomes if each.news is not None and each.news.rules is not None and each.delivery.lane not in recovered]
    if failed:
        await _count(tx, failed)
    if recovered:
        await _forget(tx, recovered)


async def _count(tx: Tx, failed: Sequence[Outcome]) -> None:
    counts = Counter(each.delivery.lane for each in failed)
    last = {each.delivery.lane: each for each in failed}
    rows = sorted((*lane, count, tx.now_us) for lane, count in counts.items())
    warned: dict[Lane, int] = {}
    for tenant, endpoint, since_us, spent_us, failures, given in sorted(await tx.all(Q.count_failures, rows=rows, gap_us=_GAP_US)):
        outcome = last[tenant, endpoint]
        news = outcome.news
        assert news is not None
        assert news.rules is not None
        step = judge(Failing(spent_us, failures, given), news.rules)
        if step.disable:
            reason = f"it has failed for {spent_us // 3_600_000_000} hours, in {failures} attempts without a success"
            await endpoints.disable(tx, tenant, endpoint, reason, since_us=since_us)
        elif step.warn:
            warned[tenant, endpoint] = step.warned
            _tell(tx, "message.attempt.failing", outcome, since_us=since_us, failures=failures)
    if warned:
        await tx.execute(Q.mark_warned, rows=sorted((*lane, count) for lane, count in warned.items()))


async def _forget(tx: Tx, recovered: dict[Lane, Outcome]) -> None:
    cleared = sorted(await tx.all(Q.forget_failures, rows=sorted(recovered)))
    told = [(tenant, endpoint) for tenant, endpoint, warned in cleared if warned]
    for lane in told:
        _tell(tx, "message.attempt.recovered", recovered[lane])
    if told:
        await tx.execute(Q.mark_warned, rows=[(*lane, 0) for lane in told])


def _tell(tx: Tx, kind: str, outcome: Outcome, **facts: int) -> None:
    message = outcome.delivery.message
    report_attempt(tx, kind, message.tenant, outcome.delivery.endpoint_id, message.id, outcome.attempt, **facts)
