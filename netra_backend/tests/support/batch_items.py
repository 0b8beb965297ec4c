"""What the jobs of the tests do with an item: alone in a module, because each process of a pool imports it anew."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

LINGERED_S: Final = 5.0
BAD_EVERY: Final = 19
"""Every 19th item is refused by the table, every 23rd by `process`; every 29th is left out."""


def process(n: int) -> tuple[int, str] | None:
    if n % 23 == 5:
        raise ValueError(f"{n} is no number for us")
    if n % 29 == 3:
        return None
    return n, "bad" if n % BAD_EVERY == 4 else "good"


def note(item: tuple[int, str]) -> tuple[int, str]:
    """Write down that the item is processed, so that what is done twice is seen."""
    with Path(item[1]).open("a") as file:
        file.write(f"{item[0]}\n")
    return item[0], "good"


def linger(item: tuple[int, str]) -> tuple[int, str]:
    """As `note`, and the first item takes longer than a lease lasts."""
    if item[0] == 0:
        time.sleep(LINGERED_S)
    return note(item)


def never(item: str) -> None:
    """Says that it is there, and does not come back."""
    Path(item).touch()
    threading.Event().wait()


def swallow(item: tuple[int, bool]) -> tuple[int, str]:
    """Some items end the process that takes them."""
    if item[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return item[0], "good"


def swallow_all(items: list[tuple[int, bool]]) -> list[tuple[int, str]]:
    """The same for many at once."""
    return [swallow(item) for item in items]


def digest(item: tuple[int, bytes, int]) -> tuple[int, str]:
    """Needs all of the item, and what it hungers for; its pages are written, so that they count."""
    n, body, hunger = item
    return n, hashlib.sha256(body + b"y" * hunger).hexdigest()[:8]
