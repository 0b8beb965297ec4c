"""What every table shares: interleaved runs, medians, rows for build/report/bench.json, and how they are printed.

A row compares medians of runs that were interleaved with their peers', so that a slow minute of the machine falls on
everybody. `ratio` is ours divided by the peer's, whichever way is better; `better` says which way that is.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.table import Table

RUNS = 3
WORK = Path("build/bench")
_Cell = TypeVar("_Cell")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `peer` hold one figure per run; `budget` is the aim of the design pages, if there is one.

    `ratio_budget` is that aim over the figure of this peer that the design was made with: what is left of an aim on another machine.
    """

    name: str
    engine: str
    unit: str
    durability: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str | None = None
    budget: float | None = None
    better: Literal["higher", "lower"] = "higher"
    ratio_budget: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the budget; None without one."""
        return self._keeps(median(self.ours), self.budget)

    @property
    def ratio_met(self) -> bool | None:
        """The same of the ratio."""
        return None if self._ratio is None else self._keeps(self._ratio, self.ratio_budget)

    @property
    def _ratio(self) -> float | None:
        peer = median(self.peer) if self.peer else 0.0
        return median(self.ours) / peer if peer else None  # an LRU hits nothing in a loop that is wider than it

    def _keeps(self, figure: float, budget: float | None) -> bool | None:
        if budget is None:
            return None
        return figure >= budget if self.better == "higher" else figure <= budget

    def as_json(self) -> dict[str, Any]:
        """The row as docs/benchmarks.md describes it."""
        ours, peer = median(self.ours), median(self.peer) if self.peer else None
        return {
            "name": self.name,
            "engine": self.engine,
            "ours": rounded(ours),
            "peer": rounded(peer),
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": rounded(self._ratio),
            "budget": self.budget,
            "met": self.met,
            "ratio_budget": rounded(self.ratio_budget),
            "ratio_met": self.ratio_met,
            "better": self.better,
            "durability": self.durability,
            "runs": {"ours": list(map(rounded, self.ours)), "peer": list(map(rounded, self.peer))},
        }


def rounded(value: float | None) -> float | None:
    """Three significant digits: more would be noise."""
    return None if value is None else float(f"{value:.3g}")


def interleaved(cells: Sequence[_Cell], runs: int, measure: Callable[[_Cell], _Result]) -> dict[_Cell, list[_Result]]:
    """Measure every cell once, then every cell again; each round begins with another cell."""
    results: dict[_Cell, list[_Result]] = {cell: [] for cell in cells}
    for number in range(runs):
        start = number * len(cells) // runs
        for cell in [*cells[start:], *cells[:start]]:
            tell(f"run {number + 1} of {runs}: {cell}")
            results[cell].append(measure(cell))
    return results


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder on the disk that holds the build, gone afterwards: a memory file system would make fsync free."""
    WORK.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=WORK)).absolute()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> dict[str, Any]:
    """What a reader needs to compare: cores, what one durable write costs on this disk, and a fixed loop of Python just now."""
    return {"cores": os.cpu_count(), "fsync_us": round(_fsync_us()), "python_us": round(_python_us())}


def _python_us(times: int = 20) -> float:
    """A thousand squares, summed: tells a slow machine, and a machine that was busy, from a slow program."""
    return median(timeit.repeat("sum(i * i for i in range(1000))", number=10, repeat=times)) * 1e5


def _fsync_us(times: int = 50) -> float:
    taken = []
    with scratch() as folder, (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    return median(taken) * 1e6


def tell(words: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The rows as a table."""
    table = Table("what", "engine", "ours", "peer", "ratio", "unit", "aim", "met", title="medians of interleaved runs")
    for row in rows:
        peer = "" if row["peer"] is None else f"{row['peer']:,g} {row['peer_name']}"
        met = "" if row["met"] is None else "yes" if row["met"] else "[bold red]no[/]"
        table.add_row(row["name"], row["engine"], f"{row['ours']:,g}", peer, number(row["ratio"]), row["unit"], aim(row), met)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def number(value: float | None) -> str:
    """A figure, or nothing."""
    return "" if value is None else f"{value:,g}"


def aim(row: dict[str, Any]) -> str:
    """`>= 4,000` or `<= 50`."""
    return "" if row["budget"] is None else f"{'>=' if row['better'] == 'higher' else '<='} {row['budget']:,g}"


def write_report(path: Path, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write what tools/report.py then frames with command, revision and date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts | {"rows": list(rows)}, indent=2) + "\n", encoding="utf-8")
