"""A run's progress as a person watches it: a bar at a terminal, a line now and then where stderr is a file."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Final, Self

from ...kernel.clock import SystemClock
from ..output import DEAD_LETTERS, NO, OK

EVERY_S: Final = 5.0
"""Between two lines where there is no bar."""
SMOOTHING: Final = 0.3
"""Weight of the newest look in the moving average of the rate."""
CODES: Final = {"completed": OK, "completed_with_failures": DEAD_LETTERS}
"""Exit code of a run's last state; every other one is a no."""


def exit_code_of(status: dict[str, Any]) -> int:
    """What a command that waited for the run ends with."""
    return CODES.get(status["state"], NO)


def words_of(status: dict[str, Any]) -> str:
    """A run in one line."""
    total = f" of {status['total']}" if status["total"] is not None else ""
    reason = f": {status['reason']}" if status["reason"] else ""
    figures = f"{status['done']}{total} done, {status['failed']} failed, {status['skipped']} skipped, {status['restarts']} restarts"
    return f"{status['run']}  {status['job']}  {status['state']}{reason}  {figures}, {status['seconds']:.1f} s"


class Rate:
    """Items a second as an exponentially weighted moving average of what the looks saw."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self.value = 0.0

    def seen(self, now_s: float, ended: int) -> float:
        """The average after one more look."""
        if self._last is not None and now_s > self._last[0]:
            new = (ended - self._last[1]) / (now_s - self._last[0])
            self.value = new if not self.value else SMOOTHING * new + (1 - SMOOTHING) * self.value
        self._last = (now_s, ended)
        return self.value


class Progress:
    """`with Progress() as progress: progress.show(status)`; on stderr, because stdout carries the answer."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._clock = SystemClock()
        self._rate = Rate()
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._told_at = self._clock.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _new_bar()
            self._bar.start()
            self._task = self._bar.add_task("queued", total=None, rate="", failed=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, status: dict[str, Any]) -> None:
        """The newest status."""
        now = self._clock.monotonic()
        ended = status["done"] + status["failed"]
        rate = self._rate.seen(now, ended)
        if self._bar is not None:
            facts = {"rate": f"{rate:,.0f}/s", "failed": status["failed"]}
            self._bar.update(self._task, description=status["state"], completed=ended, total=status["total"], **facts)
        elif not self._quiet and now - self._told_at >= EVERY_S:
            self._told_at = now
            sys.stderr.write(f"{words_of(status)}, {rate:,.0f}/s\n")
            sys.stderr.flush()


def _new_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("[red]{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )
