"""A column of a long list as one literal of PostgreSQL's: `{1,2,3}`, `{"a","b"}`.

asyncpg encodes an array value by value, each with a look whether it is an array itself. That takes four times the processor time of
writing the column as JSON, whose lists of plain values are array literals but for their brackets; and the server reads them as quickly.

Only what can be read in one way is written so. A column with anything else (null, whose word a server can be told to take for text; a
backslash, whose JSON escapes mean other characters there; numbers that are not finite; values of mixed kinds) is sent value by value as
any short list is, and is refused there with the same words if it is wrong. So is one that is so large that a copy would count.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

import orjson

LONG: Final = 64
"""Rows of a list for which a second text of its statement is worth preparing."""
LARGEST: Final = 1 << 20
"""Characters."""
_KINDS: Final = {"text": str, "int": int, "real": float}
_MOST: Final = 2**63


def literals(columns: Sequence[tuple[str, Sequence[Any]]]) -> list[Any] | None:
    """The columns, each with its type, as they are sent: literals, and what is `uuid` as it is. None if one of them cannot be one."""
    found: list[Any] = []
    for kind, values in columns:
        sent = values if kind == "uuid" else _literal(kind, values)
        if sent is None:
            return None
        found.append(sent)
    return found


def _literal(kind: str, values: Sequence[Any]) -> str | None:
    if set(map(type, values)) != {_KINDS[kind]} or not _is_plain(kind, values):
        return None
    try:
        text = orjson.dumps(values).decode()
    except TypeError:  # half a surrogate pair, a number of more than 64 bits
        return None
    return None if "\\" in text else f"{{{text[1:-1]}}}"


def _is_plain(kind: str, values: Sequence[Any]) -> bool:
    if kind == "text":
        return sum(map(len, values)) <= LARGEST
    if kind == "int":
        return bool(max(values) < _MOST)
    return all(map(isfinite, values))
