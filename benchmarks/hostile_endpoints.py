"""What a hanging endpoint and an endless body cost the healthy endpoints beside them: the p99 of a paced load, with and without.

`netra serve`, receivers and load generator are processes of their own, as in webhooks_end_to_end. Twenty tenants have a
healthy endpoint each; beside it one of them has an endpoint that never answers, and one a receiver whose body never ends.
Both get every message of their tenant. Latency is from the request to the receipt at the healthy endpoint.
"""

from __future__ import annotations

import argparse
from typing import Final

from measure import RUNS, Row, interleaved, show
from webhooks_end_to_end import DURABILITY, KINDS, Flow, Receiver, flow, folder_and_stack, make_tenants, netra, post, sized, warm_up

KIND: Final = KINDS[2]
HOSTILE: Final = {"hang": "bench-0", "endless": "bench-1"}
"""Behaviour of the second endpoint, and whose it is."""

ALONE: Final = "healthy endpoints alone"
BESIDE: Final = "beside a hanging endpoint and an endless body"
BUDGET: Final = 1.2


def measured(hostile: dict[str, str], share: float) -> Flow:
    """One paced flow; what arrives at the hostile ones is not counted."""
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder)
        server = netra(stack, folder)
        make_tenants(server, receiver.url)
        for behaviour, tenant in hostile.items():
            bad = Receiver(stack, folder, "--behaviour", behaviour)
            post(server, f"/api/v1/app/{tenant}/endpoint", {"url": bad.url})
        warm_up([server], receiver, folder)
        return flow([server], receiver, KIND, folder, sized(KIND, share))


def rows(*, quick: bool) -> list[Row]:
    """Measure both, run by run, so that each ratio is of neighbours."""
    share, runs = (0.1, 1) if quick else (1.0, RUNS)
    parts = {ALONE: {}, BESIDE: HOSTILE}
    found = interleaved(list(parts), runs, lambda name: measured(parts[name], share))
    alone, beside = ([one.p99_ms for one in found[name]] for name in (ALONE, BESIDE))
    ratios = [with_them / without for with_them, without in zip(beside, alone, strict=True)]
    engine, name = "sqlite/apsw", f"request to receipt at {KIND.name} {BESIDE}"
    return [
        Row(f"{name}, p99", engine, "ms", DURABILITY, beside, alone, ALONE, better="lower"),
        Row(f"{name}, p99 compared", engine, "x", DURABILITY, ratios, budget=BUDGET, better="lower"),
    ]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=arguments.parse_args().quick)])
