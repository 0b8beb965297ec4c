"""What an attempt means for its delivery: decided purely, acted upon elsewhere.

2xx is success; everything else, redirects included, is a failure. A failure burns an attempt and waits for the
schedule's next delay, and at least as long as the receiver's Retry-After asks (W4), unless the last attempt is burned or the
next one would come after the message's deadline: then it is a dead letter. A receiver may end a message or its endpoint
(`replies.py`). What is wrong on our side burns none: an address that the operator's egress rules refuse, or an endpoint
without a key to sign with, or one whose
connection has no token.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from ..kernel.backoff import Schedule
from ..kernel.chance import Chance
from .model import Delivery, Verdict

REFUSED_AGAIN_S: Final = 60.0
"""How soon a delivery that the egress rules refused is looked at again, should the operator have changed them."""

MICROSECONDS: Final = 1_000_000


def is_success(status: int) -> bool:
    """Whether the receiver took the message."""
    return 200 <= status < 300


def delivered(delivery: Delivery, now_us: int) -> Verdict:
    """The receiver has it."""
    return Verdict("delivered", delivery.number + 1, now_us, "")


def failed(delivery: Delivery, now_us: int, reason: str, schedule: Schedule, chance: Chance, floor_s: float = 0.0) -> Verdict:
    """One more attempt is burned; when the next one comes, if there is one: never sooner than in `floor_s`."""
    number = delivery.number + 1
    delay_s = schedule.delay_s(number, chance)
    if delay_s is None:
        return Verdict("dead", number, now_us, f"{number} attempts failed, the last with {reason}")
    due_us = now_us + max(int(delay_s * MICROSECONDS), ceil(floor_s * MICROSECONDS))
    if due_us > delivery.deadline_us:
        return Verdict("dead", number, now_us, f"the deadline comes before the next attempt; the last failed with {reason}")
    return Verdict("due", number, due_us, reason)


def aborted(delivery: Delivery, now_us: int, reason: str) -> Verdict:
    """The receiver does not want this message again."""
    return Verdict("dead", delivery.number + 1, now_us, f"the receiver asked for no further attempt, with {reason}")


def unwanted(delivery: Delivery, now_us: int, reason: str) -> Verdict:
    """The receiver wants no message any more, so its endpoint is disabled; `recover` finds this one."""
    return Verdict("skipped", delivery.number + 1, now_us, f"the endpoint was disabled: {reason}")


def refused(delivery: Delivery, now_us: int, reason: str, again_s: float = REFUSED_AGAIN_S) -> Verdict:
    """Nothing was sent and none is burned (W5); it waits until what is wrong may have changed, or until its deadline."""
    due_us = now_us + int(again_s * MICROSECONDS)
    if due_us > delivery.deadline_us:
        return Verdict("dead", delivery.number, now_us, f"the deadline passed while it was refused: {reason}")
    return Verdict("due", delivery.number, due_us, reason)


def expired(delivery: Delivery, now_us: int) -> Verdict:
    """Its deadline passed while it waited."""
    return Verdict("dead", delivery.number, now_us, "its deadline passed")


def expunged(delivery: Delivery, now_us: int) -> Verdict:
    """Its payload was erased: there is nothing to send."""
    return Verdict("cancelled", delivery.number, now_us, "the payload was expunged")


def withdrawn(delivery: Delivery, now_us: int, *, deleted: bool) -> Verdict:
    """Its endpoint takes nothing any more: disabled (then `recover` finds it) or deleted."""
    if deleted:
        return Verdict("cancelled", delivery.number, now_us, "the endpoint was deleted")
    return Verdict("skipped", delivery.number, now_us, "the endpoint is disabled")
