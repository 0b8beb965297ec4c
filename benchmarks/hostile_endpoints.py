"""What a hanging endpoint and an endless body cost the healthy endpoints beside them: the p99 of a paced load, with and without.

`netra serve`, receivers and load generator are processes of their own, as in webhooks_end_to_end. Twenty tenants have a
healthy endpoint each; beside it one of them has an endpoint that never answers, and one a receiver whose body never ends.
Both get every message of their tenant. Latency is from the request to the receipt at the healthy endpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import median
from typing import Final

from measure import RUNS, Row, interleaved, show
from webhooks_end_to_end import ENGINES, KINDS, Flow, Receiver, database, flow, folder_and_stack, make_tenants, netra, post, sized, warm_up

KIND: Final = KINDS[2]._replace(name="300 msg/s", rate=300, messages=1500)
"""A load that leaves room for the hostile receivers themselves, which share the machine's cores."""
HOSTILE: Final = {"hang": "bench-0", "endless": "bench-1"}
"""Behaviour of the second endpoint, and whose it is."""

ALONE: Final = "healthy endpoints alone"
BESIDE: Final = "beside a hanging endpoint and an endless body"
BUDGET: Final = 1.2


def measured(engine: str, hostile: dict[str, str], share: float) -> Flow:
    """One paced flow; what arrives at the hostile ones is not counted."""
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder)
        server = netra(stack, folder, database(stack, folder, engine))
        make_tenants(server, receiver.url)
        for behaviour, tenant in hostile.items():
            bad = Receiver(stack, folder, "--behaviour", behaviour)
            post(server, f"/api/v1/app/{tenant}/endpoint", {"url": bad.url})
        warm_up([server], receiver, folder)
        return flow([server], receiver, KIND, folder, sized(KIND, share))


def rows(*, quick: bool) -> list[Row]:
    """Measure both, on each engine."""
    share, runs = (0.1, 1) if quick else (1.0, RUNS)
    parts = {f"{engine}: {name}": (engine, bad) for engine in ENGINES for name, bad in ((ALONE, {}), (BESIDE, HOSTILE))}
    found = interleaved(list(parts), runs, lambda name: measured(*parts[name], share))
    return [row for engine in ENGINES for row in compared(engine, found)]


def compared(engine: str, found: dict[str, list[Flow]]) -> Iterator[Row]:
    """The two p99 of an engine side by side, and the ratio of their medians, which is what the aim is about."""
    alone, beside = ([one.p99_ms for one in found[f"{engine}: {name}"]] for name in (ALONE, BESIDE))
    name, durability = f"request to receipt at {KIND.name} {BESIDE}", ENGINES[engine]
    yield Row(f"{name}, p99", engine, "ms", durability, beside, alone, ALONE, better="lower")
    yield Row(f"{name}, p99 compared", engine, "x", durability, [median(beside) / median(alone)], budget=BUDGET, better="lower")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=arguments.parse_args().quick)])
