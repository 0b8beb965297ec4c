"""What a dead letter shows of its item, and keeps of it for a rerun.

An item of up to `LARGEST` bytes of JSON is kept whole. Of anything else, what JSON cannot say and what is larger, there is a glimpse, and
a rerun reads it again from its source: a transaction that carried a chunk of refused items of a hundred megabytes each would end as
an error of the machine, over and over.
"""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import Any, Final

import orjson

from .model import LONGEST_ERROR, Malformed
from .weight import weight

LARGEST: Final = 64 << 10
HEAVIEST: Final = 64 * LARGEST
"""What weighs more as an object is not even tried: a list of small numbers takes twenty times what it takes as text."""
_WHOLE: Final = frozenset({dict, list, str, int, float, bool})


class _Glimpse(reprlib.Repr):
    """`repr` of a little of each container and text."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple = 3, 16, 8, 8
        self.maxstring = self.maxother = LONGEST_ERROR

    def repr_bytes(self, item: bytes, level: int) -> str:
        """Of the beginning."""
        del level
        return repr(item[: self.maxother]) + ("..." if len(item) > self.maxother else "")

    def repr_instance(self, item: Any, level: int) -> str:
        """Its own `repr` could be as large as itself."""
        del level
        return f"<{type(item).__qualname__} of about {weight(item)} bytes>"


_glimpse: Final = _Glimpse()


def picture_of(item: Any) -> tuple[str, bool]:
    """The item as JSON, and whether that is all of it."""
    if isinstance(item, Malformed):
        return _json(replace(item, raw=item.raw[:LARGEST], error=item.error[:LONGEST_ERROR])), False
    if weight(item) <= HEAVIEST:
        try:
            text = orjson.dumps(item)
        except (TypeError, ValueError):
            return _json(_said(item)), False
        if len(text) <= LARGEST:
            return text.decode(), type(item) in _WHOLE and bool(orjson.loads(text) == item)
    return _json(_glimpse.repr(item)[:LARGEST]), False


def _said(item: Any) -> str:
    try:
        return repr(item)[:LARGEST]
    except Exception:  # noqa: BLE001  (the program's own, and no reason to fail a run)
        return _glimpse.repr(item)


def _json(what: Any) -> str:
    try:
        return orjson.dumps(what).decode()
    except TypeError:  # a lone surrogate
        return orjson.dumps(str(what).encode(errors="replace").decode()).decode()
