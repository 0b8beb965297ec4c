"""Other work on the event loop, as a web application has it: it burns the interpreter in slices and never gives way.

`idle` is nothing, `80 % busy` four milliseconds of every five, `saturated` slices of one millisecond back to back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LOADS: Final = ("idle", "80 % busy", "saturated")
_SLICES: Final = {"80 % busy": (0.004, 0.001), "saturated": (0.001, 0.0)}


@asynccontextmanager
async def loaded(load: str) -> AsyncIterator[None]:
    """Keep this loop as busy as that while the block runs."""
    if load == "idle":
        yield
        return
    burning = asyncio.create_task(_burn(*_SLICES[load]))
    try:
        yield
    finally:
        burning.cancel()
        await asyncio.gather(burning, return_exceptions=True)


async def _burn(slice_s: float, pause_s: float) -> None:
    while True:
        until = time.perf_counter() + slice_s
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(pause_s)
