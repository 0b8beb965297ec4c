"""How long each page of the dashboard takes with many deliveries in the store, from the request to the last byte.

The store is filled by `netra_backend.testing.fill`; then `netra serve` answers one browser at a time over loopback, without
workers. A page is asked often enough that a p95 means something; the first look at each is left out. The pages are the operator's of one
tenant with its full share of the deliveries, and of the installation. There is no peer: a page of another product shows something else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from measure import RUNS, Row, percentile, scratch, show, tell

KEY: Final = "operator-key-of-the-benchmark-0123456789"
DELIVERIES: Final = 1_000_000
TENANTS: Final = 4
SEED: Final = 1
TIMES: Final = 60
BUDGET_MS: Final = 50.0
DURABILITY: Final = "reads only"


_given: dict[str, Any] = {"deliveries": None, "filled": None}


def options(parser: argparse.ArgumentParser) -> None:
    """What this table adds to the command line."""
    parser.add_argument("--deliveries", type=int, help="dashboard_pages: how many deliveries are in the store")
    parser.add_argument("--filled", type=Path, help="dashboard_pages: a store that is filled with them already")


def configure(given: argparse.Namespace) -> None:
    """Take what was given."""
    _given.update(deliveries=given.deliveries, filled=given.filled)


def rows(*, quick: bool) -> list[Row]:
    """The p95 of each page, one figure per run."""
    wanted = _given["deliveries"] or (20_000 if quick else DELIVERIES)
    with scratch() as made:
        folder = _given["filled"] or made
        if folder == made:
            tell(f"filling a store with {wanted:,} deliveries")
            fill(folder, wanted)
        with serving(folder) as url:
            found: dict[str, list[float]] = {}
            for _ in range(1 if quick else RUNS):
                for name, path in pages(url).items():
                    found.setdefault(name, []).append(timed(url, path))
    name = f"{wanted:,} deliveries in the store, p95"
    return [
        Row(f"page {page}, {name}", "sqlite", "ms", DURABILITY, taken, budget=BUDGET_MS, better="lower") for page, taken in found.items()
    ]


def fill(folder: Path, deliveries: int) -> None:
    """As the module's docstring says."""
    given = ["--deliveries", str(deliveries), "--tenants", str(TENANTS), "--seed", str(SEED), "--data", str(folder)]
    subprocess.run([sys.executable, "-m", "netra_backend.testing.fill", *given], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`netra serve` on that store; its URL."""
    command = [sys.executable, "-m", "netra_backend.cli.main", "serve", "--data", str(folder), "--port", "0", "--no-workers"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment())
    try:
        assert process.stdout is not None
        yield json.loads(next(line for line in process.stdout if '"ready"' in line))["url"]
    finally:
        process.terminate()
        process.wait(60)


def _environment() -> dict[str, str]:
    return {**os.environ, "NETRA_OPERATOR_KEY": KEY}


def pages(url: str) -> dict[str, str]:
    """What is asked, by what it is called."""
    tenant = f"tenant-{SEED}-00000"
    at = f"/api/v1/app/{tenant}"
    endpoint = json.loads(get(f"{url}{at}/endpoint?limit=1"))["data"][0]["id"]
    message = json.loads(get(f"{url}{at}/msg?limit=1"))["data"][0]["id"]
    own = ("overview", "webhooks", f"webhooks/endpoints/{endpoint}", f"webhooks/{message}", "webhooks/dead", "connections", "batches")
    own = (*own, "cache", "kpis", "audit")
    named = {path.replace(endpoint, "{ep}").replace(message, "{msg}"): f"/ui/{path}?tenant={tenant}" for path in own}
    return {**named, **{f"{path} (installation)": f"/ui/{path}" for path in ("overview", "tenants", "settings")}}


def timed(url: str, path: str) -> float:
    """The p95 of `TIMES` looks, in ms."""
    get(url + path)
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        get(url + path)
        taken.append((time.perf_counter() - began) * 1000)
    return percentile(taken, 0.95)


def get(url: str) -> Any:
    """The answer's body."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run: shows that it works, measures little")
    options(arguments)
    taken = arguments.parse_args()
    configure(taken)
    show([row.as_json() for row in rows(quick=taken.quick)])
