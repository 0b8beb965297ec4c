"""Deliveries in order (W6): each waits for the one before it in its line.

A line is all messages to an endpoint, or those of one ordering key. Who sends takes a number under the line's row lock, in
the transaction of the message: so numbers follow the order of commits, whoever sends and from wherever, and a rollback
leaves a gap that nobody waits for.

Only the first of a line is ever due. The others are due in the year 9999, so that no claim and no scan sees them, and one
line has one owner and one attempt on its way without any rule at the claim. Whoever ends the first one (delivered, dead,
skipped or cancelled) makes the next one due in the same transaction.

The line's row lock also orders that with whoever is just taking a number: either he sees that the first has ended, and is
first himself, or his row is there to be made due. But he may hold the lock for as long as his own transaction lasts, and
acknowledgements wait for nobody: a line that is locked is passed over (`skip locked`). Then its next one is stuck, and is freed by
whichever comes first:

* who takes the next number in that line, in a transaction of ours: he has the lock, and looks at the first one anyway. Beside a
  steady producer the lock is nearly never free, so nobody else would come by it;
* the process that passed it over, which tries again at each of its scans for a while;
* the sweep, which looks at the first of some lines each second. It also mends what an adopted transaction of a higher isolation
  level gets wrong, which cannot see that the first has ended.

Too late is the only way in which any of this can fail; a delivery is never made due before
its turn, because a number smaller than its own would have to be committed after it.

What an operator sends again leaves its line: it goes out at once, out of order. Rejected: a number per claim (the order of claims is
nobody's), and asking at each claim for an earlier row (each look would read a whole backlog to find its head).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from ..kernel.failpoints import declare
from ..storage.statements import Statements
from ..storage.transaction import Tx
from .model import NEVER_US

Q = Statements(__package__)

PLACES_TAKEN: Final = declare("webhooks.places_taken", "numbers in their lines are taken, deliveries are not written")

Line = tuple[str, bytes, str]
"""(tenant, endpoint id, key): the key is empty where the whole endpoint is one line."""

PassedOver = Callable[[Collection[Line]], None]
"""Is told after the commit which lines were locked by somebody else."""


async def take_places(tx: Tx, wanted: Sequence[Line]) -> list[tuple[int, bool]]:
    """A number for each, in order, and whether it is the first of its line. The lines are locked until the commit."""
    counts: dict[Line, int] = {}
    for line in wanted:
        counts[line] = counts.get(line, 0) + 1
    last = {
        (row[0], row[1], row[2]): row[3]
        for row in await tx.all(Q.take_places, rows=sorted((*line, n) for line, n in counts.items()), now_us=tx.now_us)
    }
    heads = {(row[0], row[1], row[2]): row[3] for row in await tx.all(Q.heads_of_lines, rows=sorted(counts))}
    stuck = [line for line, due_us in heads.items() if due_us == NEVER_US]
    if stuck and tx.own:  # the role of an adopted one may not change what others have sent
        await _free_heads(tx, stuck)
    tx.runtime.failpoints.hit(PLACES_TAKEN)
    taken: dict[Line, int] = {}
    places = []
    for line in wanted:
        taken[line] = taken.get(line, 0) + 1
        places.append((last[line] - counts[line] + taken[line], taken[line] == 1 and heads[line] is None))
    return places


async def hold(tx: Tx, lines: Collection[Line]) -> list[Line]:
    """Lock the lines until the commit; those that somebody else has locked just now are left out."""
    return [(row[0], row[1], row[2]) for row in await tx.all(Q.hold_lines, rows=sorted(set(lines)))]


async def free_next(tx: Tx, lines: Collection[Line], passed_over: PassedOver | None = None) -> int:
    """Make the first of each line due, if it waits; how many did. A line that somebody has locked just now is left, and told of."""
    held = await hold(tx, lines)
    if passed_over is not None and (left := set(lines).difference(held)):
        tx.after_commit(partial(passed_over, left))
    return await _free_heads(tx, held) if held else 0


async def _free_heads(tx: Tx, held: Sequence[Line]) -> int:
    freed = await tx.execute(Q.free_heads, rows=sorted(held), never_us=NEVER_US, now_us=tx.now_us)
    if freed:
        tx.wake_others()
    return freed


async def waiting_heads(tx: Tx, after: Line, limit: int) -> tuple[list[Line], Line | None]:
    """Of up to `limit` lines behind `after`, those whose first one waits for nobody; and where to go on, None at the end."""
    stuck: list[Line] = []
    for _ in range(limit):
        row = await tx.one(Q.next_line, after_tenant=after[0], after_endpoint=after[1], after_line=after[2])
        if row is None:
            return stuck, None
        after = (row[0], row[1], row[2])
        if row[3] == NEVER_US:
            stuck.append(after)
    return stuck, after
