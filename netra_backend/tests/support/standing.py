"""Where a process under test stands still: at its failpoint, and not by chance inside a group of its writer as well.

SQLite has one writer, whose lock nobody can take from a process that stands still. A test that is about something else must not
depend on what the other tasks of that process were writing just then, which is often the failpoint's own news.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from ...kernel.failpoints import stop_this_process
from ...netra import Netra

LIMIT_S: Final = 5.0
PAUSE: Final = "=pause"


def of_the_environment(failpoints: str) -> dict[str, str]:
    """What `Netra` arms by itself of a specification as `NETRA_FAILPOINT` has it: all but the pauses, which are `arm_pauses`'."""
    others = ",".join(part for part in failpoints.split(",") if not part.endswith(PAUSE))
    return {"NETRA_TEST_MODE": "1", "NETRA_FAILPOINT": others}


def arm_pauses(netra: Netra, failpoints: str) -> None:
    """Arm the pauses of the specification, in a Netra that has started."""
    pauses = [part.removesuffix(PAUSE) for part in failpoints.split(",") if part.endswith(PAUSE)]
    if not pauses:
        return
    stand_still = _between_groups(getattr(netra.database, "writer", None))
    for pause in pauses:
        name, _, nth = pause.partition("@")
        netra.runtime.failpoints.arm(name, stand_still, int(nth or "1"))


def _between_groups(writer: Any) -> Callable[[], None]:
    """SIGSTOP while the writer, if there is one, is in no group; a failpoint of the writer's own thread stands inside its group."""
    gate = threading.RLock()

    def by_the_gate(run: Callable[..., None]) -> Callable[..., None]:
        def one(*arguments: Any, **options: Any) -> None:
            with gate:
                run(*arguments, **options)

        return one

    if writer is not None:
        writer._group, writer._hold_one = by_the_gate(writer._group), by_the_gate(writer._hold_one)

    def stand_still() -> None:
        assert gate.acquire(timeout=LIMIT_S), "its writer's group does not end"
        stop_this_process()
        gate.release()

    return stand_still
