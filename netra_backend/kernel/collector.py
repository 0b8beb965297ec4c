"""The garbage collector of a process that is ours: what started with it is never looked at again, the rest less often.

Deliveries under way are many small objects that live for some milliseconds and die by their reference counts; the
collector's default (a look at every 700 net allocations, and from time to time at all modules) finds nothing among
them and costs a tenth of the process's CPU under load, in pauses of up to 100 ms. A user's program keeps its own
settings: only `netra serve` and `netra worker` call this.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 50_000
"""Net allocations between two looks at the young: a few megabytes of garbage at worst, where cycles are made at all."""


def relax() -> None:
    """Call once, when everything is loaded and started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
