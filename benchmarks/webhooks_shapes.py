"""Shapes of load: wide fan-out, dead endpoints, and a tenant that floods beside one that does not.

The processes are those of webhooks_end_to_end. Each flow is checked: every accepted message must have reached each healthy endpoint
of its tenant, or the benchmark ends with an error.

* Fan-out: one tenant with 1, 10 or 100 endpoints, flooded by single POSTs; deliveries per second from the first request to the last
  receipt.
* Dead endpoints: twenty tenants with a healthy endpoint each, and none, one in twenty or all of them with a second endpoint that
  refuses connections; the p99 of the healthy ones under a paced load.
* A noisy neighbour: one tenant sends twenty messages a second; another sends a hundred times as many, to an endpoint that never
  answers. The first one's p99 beside the other, over its p99 alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from measure import RUNS, Row, interleaved, percentile, show
from processes import Process
from webhooks_end_to_end import (
    ENGINES,
    TENANTS,
    Kind,
    Receiver,
    database,
    flow,
    folder_and_stack,
    make_tenants,
    netra,
    post,
    send,
    sized,
    wait_for,
    warm_up,
)

WIDTHS: Final = (1, 10, 100)
FAN_OUT: Final = Kind("single POSTs", 0, 16, 0, 4000)
DELIVERIES_PER_SECOND: Final = 4_000
NOWHERE: Final = "http://127.0.0.1:9/hook"
"""Nobody listens there: a connection is refused at once."""
DEAD: Final = {"no endpoint dead": 0, "5 % dead": 1, "50 % dead": TENANTS}
"""How many of the twenty tenants have a second, dead endpoint: of 20, 21 and 40 endpoints none, one and half are dead."""
PACED: Final = Kind("300 msg/s", 0, 64, 300, 1500)
QUIET: Final = Kind("20 msg/s", 0, 8, 20, 200)
NOISE: Final = Kind("2,000 msg/s", 100, 4, 2000, 20_000)
DEAD_BUDGET: Final = 1.2
NOISE_BUDGET: Final = 2.0


class Wide(NamedTuple):
    """What a fan-out came to."""

    deliveries_per_second: float
    cpu_us: float


def fan_out(share: float, engine: str, width: int) -> Wide:
    """Every message to all endpoints of one tenant."""
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder)
        server = netra(stack, folder, database(stack, folder, engine))
        make_tenants(server, receiver.url)
        warm_up([server], receiver, folder)
        post(server, "/api/v1/app", {"name": "wide", "uid": "wide"})
        for number in range(width):
            post(server, "/api/v1/app/wide/endpoint", {"url": f"{receiver.url}?tenant=wide&e={number}"})
        messages = max(100, sized(FAN_OUT, share) // width)
        receiver.begin()
        cpu_s = server.cpu_s()
        answered = send([server], FAN_OUT, folder, messages, apps=["wide"])
        wait_for(lambda: receiver.lines() >= messages * width, f"{messages} messages at {width} endpoints each")
        found = receiver.times()
        if {len(found[message_id]) >= width for message_id in answered.sent_us} != {True}:
            raise SystemExit("a message has not reached all its endpoints")
        took_s = (max(max(times) for times in found.values()) - min(answered.sent_us.values())) / 1e6
        deliveries = messages * width
        return Wide(deliveries / took_s, (server.cpu_s() - cpu_s) / deliveries * 1e6)


def beside_dead(share: float, engine: str, dead: int) -> float:
    """The healthy endpoints' p99 in milliseconds."""
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder)
        server = netra(stack, folder, database(stack, folder, engine))
        make_tenants(server, receiver.url)
        for tenant in range(dead):
            post(server, f"/api/v1/app/bench-{tenant}/endpoint", {"url": NOWHERE})
        warm_up([server], receiver, folder)
        return flow([server], receiver, PACED, folder, sized(PACED, share)).p99_ms


def beside_noise(share: float, engine: str, noisy: int) -> float:
    """The quiet tenant's p99 in milliseconds."""
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder)
        server = netra(stack, folder, database(stack, folder, engine))
        make_tenants(server, receiver.url)
        warm_up([server], receiver, folder)
        hung = Receiver(stack, folder, "--behaviour", "hang")
        for app, url in (("quiet", f"{receiver.url}?tenant=quiet"), ("noisy", hung.url)):
            post(server, "/api/v1/app", {"name": app, "uid": app})
            post(server, f"/api/v1/app/{app}/endpoint", {"url": url})
        receiver.begin()
        quiet = sized(QUIET, share)
        with ThreadPoolExecutor(2) as pool:
            noise = pool.submit(_send, server, NOISE, folder, int(NOISE.messages * share), "noisy") if noisy else None
            answered = pool.submit(_send, server, QUIET, folder, quiet, "quiet").result()
            if noise is not None:
                noise.result()
        wait_for(lambda: answered.sent_us.keys() <= receiver.arrived().keys(), "every message of the quiet tenant")
        arrived = receiver.arrived()
        return percentile([(arrived[message_id] - sent) / 1000 for message_id, sent in answered.sent_us.items()], 0.99)


def _send(server: Process, kind: Kind, folder: Path, messages: int, app: str) -> Any:
    own = folder / app
    own.mkdir()
    return send([server], kind, own, messages, apps=[app])


def rows(*, quick: bool) -> list[Row]:
    """Measure and compare."""
    share, runs = (0.1, 1) if quick else (1.0, RUNS)
    parts: dict[tuple[str, str, int], Any] = {}
    for engine in ENGINES:
        parts |= {("fan-out", engine, width): partial(fan_out, share, engine, width) for width in WIDTHS}
        parts |= {("dead", engine, dead): partial(beside_dead, share, engine, dead) for dead in DEAD.values()}
        parts |= {("noise", engine, noisy): partial(beside_noise, share, engine, noisy) for noisy in (0, 1)}
    found = interleaved(list(parts), runs, lambda part: parts[part]())
    return [row for engine in ENGINES for row in compared(engine, found)]


def compared(engine: str, found: dict[tuple[str, str, int], list[Any]]) -> Iterator[Row]:
    """The rows of one engine; what an aim is about is the ratio of two medians."""
    durability = ENGINES[engine]
    for width in WIDTHS:
        wide: list[Wide] = found["fan-out", engine, width]
        rates = [each.deliveries_per_second for each in wide]
        yield Row(f"fan-out 1:{width}, 1 process", engine, "deliveries/s", durability, rates, budget=DELIVERIES_PER_SECOND)
        cpu = [each.cpu_us for each in wide]
        yield Row(f"CPU per delivery, ingest included: fan-out 1:{width}", engine, "us", durability, cpu, better="lower")
    alone = found["dead", engine, 0]
    for name, dead in DEAD.items():
        p99s = found["dead", engine, dead]
        peer = (alone, "no endpoint dead") if dead else ((), None)
        yield Row(f"request to receipt at {PACED.name}, p99: {name}", engine, "ms", durability, p99s, *peer, better="lower")
    ratio = [median(found["dead", engine, TENANTS]) / median(alone)]
    yield Row("what 50 % dead endpoints cost the healthy ones, p99", engine, "x", durability, ratio, budget=DEAD_BUDGET, better="lower")
    solo, beside = found["noise", engine, 0], found["noise", engine, 1]
    name = f"request to receipt at {QUIET.name} beside a tenant with {NOISE.name} that hang, p99"
    yield Row(name, engine, "ms", durability, beside, solo, "alone", better="lower")
    ratio = [median(beside) / median(solo)]
    yield Row("what a noisy neighbour costs a quiet tenant, p99", engine, "x", durability, ratio, budget=NOISE_BUDGET, better="lower")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=arguments.parse_args().quick)])
