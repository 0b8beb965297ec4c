"""What a filled database holds, decided purely: from a seed and a moment, the rows of one tenant's past month.

The same seed and moment give the same rows, ids included. Shares follow a busy installation: most deliveries went well
at the first attempt, some needed a few, a few are still being retried, given up, skipped or cancelled, and a handful
were leased by a process that is no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..kernel.chance import Chance, SystemChance

DAY_US: Final = 24 * 3600 * 1_000_000
SPAN_US: Final = 30 * DAY_US
DEADLINE_US: Final = 4 * DAY_US
SHARES: Final = (("delivered", 0.90), ("due", 0.035), ("dead", 0.03), ("skipped", 0.02), ("cancelled", 0.01), ("leased", 0.005))
AT_ONCE_SHARE: Final = 0.95
"""Of the delivered ones, how many went well at the first attempt."""
DEAD_AFTER: Final = 12
REASONS: Final = {
    "due": "status 503",
    "dead": f"{DEAD_AFTER} attempts failed, the last with status 503",
    "skipped": "the endpoint is disabled",
    "cancelled": "the endpoint was deleted",
}
LIVE_ENDPOINTS: Final = ("orders", "analytics", "archive")
EVENT_TYPES: Final = ("invoice.paid", "invoice.created", "customer.updated", "order.shipped", "order.cancelled", "user.signed_up")
FAILURES: Final = (
    (503, "", "status 503"),
    (500, "", "status 500"),
    (0, "timeout", "timeout"),
    (429, "", "status 429"),
    (0, "connect", "connect"),
)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints that one tenant's rows refer to."""

    live: Sequence[bytes]
    disabled: bytes
    deleted: bytes


@dataclass(slots=True)
class Rows:
    """Rows of one transaction, in the column order of their statements."""

    messages: list[Row] = field(default_factory=list)
    deliveries: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)


class Plan:
    """The rows of one tenant, drawn from `seed` and the tenant's name."""

    def __init__(self, seed: int, tenant: str, endpoints: Endpoints, now_us: int) -> None:
        self._chance: Chance = SystemChance(int.from_bytes(_digest(f"{seed}|{tenant}"), "big"))
        self._salt = f"{seed}|{tenant}|{now_us}"
        self._tenant = tenant
        self._endpoints = endpoints
        self._now_us = now_us
        self._made = 0

    def rows(self, deliveries: int, at_once: int) -> Iterator[Rows]:
        """Exactly `deliveries` deliveries of messages with one to three of them, in pieces of about `at_once`."""
        left = deliveries
        while left:
            piece = Rows()
            while left and len(piece.deliveries) < at_once:
                age_us = SPAN_US * left // deliveries  # oldest first: ids ascend, and so the tables grow at their ends
                left -= self._message(piece, left, self._now_us - age_us)
            yield piece

    def _message(self, rows: Rows, most: int, created_us: int) -> int:
        message = self._id(created_us)
        event_type = EVENT_TYPES[self._below(len(EVENT_TYPES))]
        payload = f'{{"id":"{event_type.partition(".")[0]}_{self._below(10**9)}","amount":{self._below(100_000)},"currency":"EUR"}}'
        rows.messages.append((self._tenant, message, event_type, None, payload, None, None, None, None, created_us, "", "", None, None))
        fan_out = min(most, 1 + self._below(len(self._endpoints.live)))
        used: set[bytes] = set()
        for live in self._endpoints.live[:fan_out]:
            state = self._state()
            endpoint = {"skipped": self._endpoints.disabled, "cancelled": self._endpoints.deleted}.get(state, live)
            if endpoint in used:  # one delivery for a message and an endpoint
                state, endpoint = "delivered", live
            used.add(endpoint)
            self._delivery(rows, message, endpoint, created_us, state)
        return fan_out

    def _delivery(self, rows: Rows, message: bytes, endpoint: bytes, created_us: int, state: str) -> None:
        number = self._burned(state)
        due_us = self._now_us + int(self._chance.uniform(0, DAY_US)) if state == "due" else created_us
        deadline_us = max(created_us + DEADLINE_US, due_us + DAY_US)
        owner = _digest(f"{self._salt}|a process that is no more") if state == "leased" else None
        status = self._attempts(rows, message, endpoint, created_us, number, ends_well=state == "delivered")
        row = (self._tenant, message, endpoint, state, number, due_us, deadline_us, owner, status, REASONS.get(state))
        rows.deliveries.append(row)

    def _burned(self, state: str) -> int:
        """How many attempts a delivery of this state has behind it."""
        if state == "delivered":
            return 1 if self._chance.uniform(0, 1) < AT_ONCE_SHARE else 2 + self._below(3)
        return {"due": 1 + self._below(5), "dead": DEAD_AFTER}.get(state, 0)

    def _attempts(self, rows: Rows, message: bytes, endpoint: bytes, at_us: int, count: int, *, ends_well: bool) -> int | None:
        """Add `count` attempts; the last one's status."""
        last = None
        for number in range(1, count + 1):
            well = ends_well and number == count
            status, kind, words = (200, "", "") if well else FAILURES[self._below(len(FAILURES))]
            at_us += 0 if number == 1 else int(self._chance.uniform(5, 3600) * 1_000_000)
            took_us = int(self._chance.uniform(2_000, 400_000)) if kind != "timeout" else 15_000_000
            outcome = "delivered" if well else "failed"
            error = words if kind else ""
            url = "https://receiver.invalid/hook"
            rows.attempts.append(
                (
                    self._tenant,
                    message,
                    self._id(at_us),
                    endpoint,
                    number,
                    0,
                    at_us,
                    took_us,
                    outcome,
                    status,
                    kind,
                    error,
                    "",
                    url,
                    0,
                    "",
                    "",
                )
            )
            last = status
        return last

    def _state(self) -> str:
        drawn = self._chance.uniform(0, 1)
        for state, share in SHARES:
            drawn -= share
            if drawn < 0:
                return state
        return SHARES[0][0]

    def _below(self, number: int) -> int:
        return min(number - 1, int(self._chance.uniform(0, number)))

    def _id(self, at_us: int) -> bytes:
        """A UUIDv7 of that moment (RFC 9562, section 5.7) whose random bits come from the seed."""
        self._made += 1
        tail = bytearray(_digest(f"{self._salt}|{self._made}")[:10])
        tail[0] = tail[0] & 0x0F | 0x70
        tail[2] = tail[2] & 0x3F | 0x80
        return (at_us // 1000).to_bytes(6, "big") + bytes(tail)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
