"""What debug sessions cost: a program without one, with one for another tenant, with a logpoint that does not match, and per snapshot.

* off: what every place that could record reads where no session lives, one global, beside the same function without it.
* other tenant: `with netra.scope(...)` of a tenant that nobody looks at, while another one is looked at, beside the same with no session.
* not matching: a call of a function with a logpoint by work that nobody watches, beside the same call without a logpoint. The peer is
  `sys.settrace` with a function that looks at nothing, which is how debuggers do it.
* snapshot: a watched call with a picture of four small variables, judged and in the ring. With a condition that does not hold: what
  asking costs.

Each figure is the median of interleaved runs of a loop in one process, in processor time of its thread; nothing is written to a disk
meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from measure import RUNS, Row, interleaved, show

from netra_backend import Netra
from netra_backend.kernel.debugging import any_session
from netra_backend.observability.debug.quotas import Quotas
from netra_backend.observability.debug.settings import DebugSettings

OFF_NS, UNMATCHED_NS, SNAPSHOT_US = 10, 100, 50
HERE = "debug_sessions"


def plain(value: int) -> int:
    """Work without a place to record."""
    return value + 1


def asking(value: int) -> int:
    """The same, asking what every such place of Netra asks."""
    if any_session:
        raise AssertionError
    return value + 1


def priced(order: int, customer: str, total: float, lines: list[int]) -> float:
    """What a logpoint looks at."""
    return total + order + len(customer) + len(lines)


def unwatched(value: int) -> int:
    """As `plain`, and a logpoint is on it."""
    return value + 1


def per_call_ns(function: Callable[..., object], *args: object, count: int) -> float:
    """Nanoseconds of one call in a loop, the loop included."""
    began = time.thread_time_ns()
    for _ in range(count):
        function(*args)
    return (time.thread_time_ns() - began) / count


class Bench:
    """One Netra, and a way to each cell's figure."""

    def __init__(self, netra: Netra, count: int) -> None:
        self.netra = netra
        self.count = count

    def scope_ns(self) -> float:
        """Entering and leaving a scope of a tenant that nobody looks at."""
        began = time.thread_time_ns()
        for _ in range(self.count // 10):
            with self.netra.scope("globex"):
                pass
        return (time.thread_time_ns() - began) / (self.count // 10)

    def snapshot_us(self, order: int) -> float:
        """A watched call."""
        count = self.count // 200
        for live in self.netra.debug.hub.lives:
            live.quotas = Quotas(replace(DebugSettings(), hits=1e12, bytes=1e15, cpu=1e12), 0.0)
        with self.netra.scope("acme"):
            return per_call_ns(priced, order, "Blue Chairs Ltd", 12.5, [1, 2, 3], count=count) / 1000


def traced_ns(count: int) -> float:
    """The same call under `sys.settrace` with a function that looks at nothing."""
    sys.settrace(_looks_at_nothing)
    try:
        return per_call_ns(plain, 1, count=count)
    finally:
        sys.settrace(None)


def _looks_at_nothing(*_: object) -> None:
    return None


async def measured(*, quick: bool) -> dict[str, list[float]]:
    """Every figure, per run."""
    found: dict[str, list[float]] = {}
    count = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        async with Netra(f"sqlite:///{folder}/bench.db", workers=False, environ={}, data=Path(folder)) as netra:
            for tenant in ("acme", "globex"):
                await netra.tenant(tenant)
            bench = Bench(netra, count)
            off = {"plain": lambda: per_call_ns(plain, 1, count=count), "asking": lambda: per_call_ns(asking, 1, count=count)}
            off |= {"scope off": bench.scope_ns, "traced": lambda: traced_ns(count // 10)}
            found |= interleaved(list(off), 1 if quick else RUNS, lambda name: off[name]())
            points = [{"at": f"{__name__}:unwatched"}, {"at": f"{__name__}:priced", "where": "order == 42"}]
            made = await netra.debug.start(tenant="acme", reason="bench", logpoints=points, ttl="10m")
            assert [each["state"] for each in made["logpoints"]] == ["armed", "armed"], made["logpoints"]
            on = {"unwatched": lambda: per_call_ns(unwatched, 1, count=count), "scope on": bench.scope_ns}
            on |= {"snapshot": lambda: bench.snapshot_us(42), "condition": lambda: bench.snapshot_us(41)}
            found |= interleaved(list(on), 1 if quick else RUNS, lambda name: on[name]())
            assert sum(live.has_records for live in netra.debug.hub.lives) == 1
            await netra.debug.end(made["session"], tenant="acme")
    return found


def rows(*, quick: bool = False) -> list[Row]:
    """The table."""
    sys.modules.setdefault(HERE, sys.modules[__name__])
    found = asyncio.run(measured(quick=quick))

    def extra(ours: str, than: str) -> list[float]:
        return [max(0.0, a - b) for a, b in zip(found[ours], found[than], strict=True)]

    lower = {"engine": "python", "durability": "none", "better": "lower"}
    return [
        Row("without a session: what a place asks", unit="ns", ours=extra("asking", "plain"), budget=OFF_NS, **lower),
        Row(
            "a scope while another tenant is looked at",
            unit="ns",
            ours=found["scope on"],
            peer=found["scope off"],
            peer_name="no session",
            **lower,
        ),
        Row(
            "a logpoint that does not match",
            unit="ns",
            ours=extra("unwatched", "plain"),
            peer=extra("traced", "plain"),
            peer_name="sys.settrace",
            budget=UNMATCHED_NS,
            **lower,
        ),
        Row("a snapshot", unit="us", ours=found["snapshot"], budget=SNAPSHOT_US, **lower),
        Row("a watched call whose condition does not hold", unit="us", ours=found["condition"], **lower),
    ]


if __name__ == "__main__":
    show([row.as_json() for row in rows(quick="--quick" in sys.argv)])
