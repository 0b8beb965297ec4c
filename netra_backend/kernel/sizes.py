"""Amounts of memory and disk as people write them: `64MiB`, `1GB`, or a bare number of bytes."""

from __future__ import annotations

import re
from typing import Final

from ..errors import InvalidInput

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BINARY_UNITS: Final = {"kib": KIB, "mib": MIB, "gib": GIB, "tib": GIB * KIB}
_SIZE = re.compile(r"([0-9]{1,18})\s*([a-z]{0,3})\Z")


def parse_size(value: str | int) -> int:
    """Bytes of `value`; `InvalidInput` where it is neither a whole number nor one with a unit."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value.strip().lower()) if isinstance(value, str) else None
    unit = (_UNITS | _BINARY_UNITS).get(match[2]) if match else None
    if match is None or unit is None:
        shown = repr(value)[:80]
        raise InvalidInput(f"{shown} is not a number of bytes", fix="Write bytes, or a unit: 1048576, 64MiB, 2GiB, 500MB.")
    return int(match[1]) * unit


def format_size(size: int) -> str:
    """`64MiB`: exact, in the largest binary unit that divides it."""
    for unit, unit_bytes in (("TiB", GIB * KIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % unit_bytes == 0:
            return f"{size // unit_bytes}{unit}"
    return f"{size}B"
