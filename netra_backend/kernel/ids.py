"""Identifiers: UUIDv7 (RFC 9562, section 5.7), 16 bytes in tables, prefixed text at the edges.

They order nothing that matters: two processes' ids interleave by their wall clocks. FIFO uses a number taken under a
row lock, "what is new" is a cursor on the log, and lists page by (created, id).

The text form is a prefix and 26 digits of Crockford's base 32 in lower case: it sorts like the bytes, survives a
double click, and cannot be taken for an id of another kind.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from ..errors import InvalidInput
from .clock import Clock

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_LENGTH: Final = 26
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
_FIFTY_BITS: Final = (1 << 50) - 1
ID_BYTES: Final = 16
_BLOCK: Final = 400
_TAIL_BYTES: Final = 10
_VERSION_AND_VARIANT: Final = 0x7 << 76 | 0b10 << 62
_RANDOM_BITS: Final = (1 << 80) - 1 & ~(0xF << 76) & ~(0b11 << 62)

_tails: Final[list[int]] = []
"""The last ten bytes of ids to come. Read in blocks: each read gives up the interpreter, which costs more than the bytes do."""
os.register_at_fork(after_in_child=_tails.clear)  # a forked child must not repeat its parent's; to ask for the pid took 0.25 us an id


class Ids(Protocol):
    """The source of new identifiers."""

    def new(self) -> bytes:
        """A fresh 16-byte identifier."""
        ...


class Uuid7:
    """UUIDv7 of the given clock: 48 bits of milliseconds, 74 random bits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new(self) -> bytes:
        """16 bytes: version 7, variant 10."""
        millis = self._clock.wall_us() // 1000
        try:
            tail = _tails.pop()  # no lock: no two threads take the same, and each is taken once
        except IndexError:
            tail = _more_tails()
        return (millis << 80 | tail).to_bytes(ID_BYTES, "big")


def _more_tails() -> int:
    block = os.urandom(_BLOCK * _TAIL_BYTES)
    tails = [
        int.from_bytes(block[at : at + _TAIL_BYTES], "big") & _RANDOM_BITS | _VERSION_AND_VARIANT
        for at in range(0, len(block), _TAIL_BYTES)
    ]
    mine = tails.pop()
    _tails.extend(tails)
    return mine


def least_of_time(at_us: int) -> bytes:
    """Before every id made at that time or later, and behind every earlier one, by the clock of whoever made it."""
    return (max(0, min(at_us // 1000, (1 << 48) - 1)) << 80).to_bytes(ID_BYTES, "big")


def to_text(prefix: str, value: bytes) -> str:
    """`msg_01hq...` of a table's 16 bytes."""
    number, p = int.from_bytes(value, "big"), _PAIRS
    # Three small numbers: to shift all 128 bits thirteen times takes thrice as long.
    high, middle, low = number >> 100, number >> 50 & _FIFTY_BITS, number & _FIFTY_BITS
    return (
        f"{prefix}_{p[high >> 20]}{p[high >> 10 & 1023]}{p[high & 1023]}"
        f"{p[middle >> 40]}{p[middle >> 30 & 1023]}{p[middle >> 20 & 1023]}{p[middle >> 10 & 1023]}{p[middle & 1023]}"
        f"{p[low >> 40]}{p[low >> 30 & 1023]}{p[low >> 20 & 1023]}{p[low >> 10 & 1023]}{p[low & 1023]}"
    )


def from_text(prefix: str, text: str) -> bytes:
    """The table's 16 bytes of `msg_01hq...`; `InvalidInput` where it is not such an id."""
    value = try_from_text(prefix, text)
    if value is None:
        raise InvalidInput(f"{text[:80]!r} is not an id of the form {prefix}_...", fix=f"Copy the id with its {prefix}_ prefix.")
    return value


def try_from_text(prefix: str, text: str) -> bytes | None:
    """Like `from_text`, but None for anything that is not such an id (a user-chosen uid, say)."""
    head, _, digits = text.partition("_")
    if head != prefix or len(digits) != _LENGTH or any(digit not in _VALUES for digit in digits):
        return None
    number = 0
    for digit in digits:
        number = number << 5 | _VALUES[digit]
    return None if number >> 128 else number.to_bytes(ID_BYTES, "big")
