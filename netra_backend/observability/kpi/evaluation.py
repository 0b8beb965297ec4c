"""What becomes of an object: purely, from the earliest event of each kind and from now.

    waiting   a good event came, its promise did not (yet)
    pending   promised; there is time left
    good      kept in time
    late      not in time: kept since, or still to come
    lost      it was given up (a dead letter), or nothing came long after the deadline; it becomes late if it is kept after all

An object that was judged good or missed was judged at a certain moment: when it was kept, when its deadline passed, or when it was
given up before. By that moment burn rates count it, while other figures count it by the moment of its promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .model import MINUTE_US, Definition

COUNTERS: Final = ("total", "good", "late", "lost", "value", "value_good", "value_late", "value_lost", "met", "missed")
KEEP_US: Final = 7 * 86_400_000_000
"""For how long what is settled well is known, so that a repetition is one."""

KEEP_MISSED_US: Final = 400 * 86_400_000_000
"""For how long what was missed can be named: the reports of a year."""


@dataclass(frozen=True, slots=True)
class Object:
    """One thing that was promised. The times named `same` are of deliveries of messages of the promise's own type.

    Where the promise is a message (`message`), only those count: that another message about the same invoice was delivered keeps no
    promise of this one.
    """

    total_us: int | None = None
    total_ref: str | None = None
    value: int = 0
    message: bytes | None = None
    trace_id: str = ""
    good_us: int | None = None
    good_same_us: int | None = None
    dead_us: int | None = None
    dead_same_us: int | None = None

    @property
    def kept_us(self) -> int | None:
        """When the promise was kept, if it was."""
        return self.good_us if self.message is None else self.good_same_us

    @property
    def given_up_us(self) -> int | None:
        """When the first delivery of it was given up, if one was."""
        return self.dead_us if self.message is None else self.dead_same_us


@dataclass(frozen=True, slots=True)
class Judgement:
    """A result, when time alone changes it next, when time alone last did, and the moment that it is counted at."""

    result: str = "waiting"
    next_us: int | None = None
    turned_us: int | None = None
    judged_us: int | None = None
    keep_us: int | None = None


def merge(one: Object, other: Object) -> Object:
    """What both say: associative, commutative, and the same again for what was said before."""
    first, second = (one, other) if _promise(one) <= _promise(other) else (other, one)
    return replace(
        first if first.total_us is not None else second,
        good_us=_earliest(one.good_us, other.good_us),
        good_same_us=_earliest(one.good_same_us, other.good_same_us),
        dead_us=_earliest(one.dead_us, other.dead_us),
        dead_same_us=_earliest(one.dead_same_us, other.dead_same_us),
    )


def judge(definition: Definition, found: Object, now_us: int) -> Judgement:
    """See the module's docstring."""
    if found.total_us is None:
        seen = _earliest(found.good_us, found.dead_us) or 0
        return Judgement(keep_us=max(seen, now_us) + KEEP_US)
    kept, given_up, within = found.kept_us, found.given_up_us, definition.good.within_us
    deadline = None if within is None else found.total_us + within
    if kept is not None and (deadline is None or kept <= deadline):
        return Judgement("good", judged_us=max(kept, found.total_us), keep_us=now_us + KEEP_US)
    missed_keep_us = now_us + KEEP_MISSED_US
    if kept is not None:
        return Judgement("late", judged_us=deadline, keep_us=missed_keep_us)
    if given_up is not None:
        at_us = max(given_up, found.total_us)
        return Judgement("lost", judged_us=at_us if deadline is None else min(at_us, deadline), keep_us=missed_keep_us)
    if deadline is None or now_us <= deadline:
        return Judgement("pending", next_us=None if deadline is None else deadline + 1)
    lost_us = deadline + definition.lost_after_us
    if now_us <= lost_us:
        return Judgement("late", next_us=lost_us + 1, turned_us=deadline + 1, judged_us=deadline, keep_us=missed_keep_us)
    return Judgement("lost", turned_us=lost_us + 1, judged_us=deadline, keep_us=missed_keep_us)


Figures = dict[tuple[int, str], int]
"""(minute, counter) -> how much."""


def figures_of(found: Object, judgement: Judgement) -> Figures:
    """What one object adds to the figures."""
    if found.total_us is None:
        return {}
    minute = minute_of(found.total_us)
    made: Figures = {(minute, "total"): 1, (minute, "value"): found.value}
    if judgement.result != "pending":
        made[minute, judgement.result] = 1
        made[minute, f"value_{judgement.result}"] = found.value
    if judgement.judged_us is not None:
        made[minute_of(judgement.judged_us), "met" if judgement.result == "good" else "missed"] = 1
    return made


def difference(before: Mapping[tuple[int, str], int], after: Mapping[tuple[int, str], int]) -> Figures:
    """What must be added to the figures for an object that is counted otherwise now."""
    return {place: change for place in before.keys() | after.keys() if (change := after.get(place, 0) - before.get(place, 0))}


def minute_of(at_us: int) -> int:
    """The minute's beginning."""
    return at_us - at_us % MINUTE_US


def _promise(found: Object) -> tuple[bool, int, str]:
    return found.total_us is None, found.total_us or 0, found.total_ref or ""


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
