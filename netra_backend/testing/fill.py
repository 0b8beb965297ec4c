"""Fills a database with plausible tenants, endpoints, messages, deliveries of every state, and attempts: fast.

    python -m netra_backend.testing.fill --deliveries 100000 --tenants 50 --seed 1 --data DIR

prints one line `{"event":"ready","tenants","endpoints","messages","deliveries","attempts","states","seconds"}` when all
is committed, and exits 0. Tenants and endpoints are made by the product's own verbs, with their audit entries; the
rest is written in multi-row statements through the bulk lane, so it may run beside a server. Endpoints lead to
`receiver.invalid` (RFC 2606, section 2), which nobody can own: what is due fails and reaches no one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from ..errors import NetraError
from ..kernel.scope import Scope, system_scope
from ..netra import Netra
from ..storage import tenants
from ..storage.statements import Statements
from ..storage.transaction import Tx
from ..webhooks import endpoints
from ..webhooks.model import Endpoint
from ..webhooks.store import Q as WEBHOOKS
from .fill_plan import LIVE_ENDPOINTS, Endpoints, Plan, Rows

Q = Statements(__package__)
AT_ONCE: Final = 2_000
"""Deliveries in one transaction: some 50 ms of the write lock, so that a server beside it goes on."""

ACTOR: Final = "fill"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill and tell; see the module's docstring."""
    options = _parser().parse_args(arguments)
    try:
        summary = asyncio.run(_fill(options))
    except NetraError as error:
        sys.stderr.write(orjson.dumps(error.as_dict()).decode() + "\n")
        return 4
    sys.stdout.write(orjson.dumps(summary).decode() + "\n")
    return 0


async def _fill(options: argparse.Namespace) -> dict[str, object]:
    url = options.database_url
    settings = {} if options.data is None else {"data": options.data.absolute()}
    if options.data is not None and url is None:
        url = f"sqlite:///{options.data.absolute() / 'netra.db'}"
    async with Netra(url, workers=False, role="fill", **settings) as netra:
        return await Filler(netra).fill(options.deliveries, options.tenants, options.seed)


class Filler:
    """Fills one open database."""

    def __init__(self, netra: Netra) -> None:
        self._netra = netra
        self._counts: Counter[str] = Counter()
        self._states: Counter[str] = Counter()

    async def fill(self, deliveries: int, tenant_count: int, seed: int) -> dict[str, object]:
        """Add `deliveries` deliveries, spread over `tenant_count` tenants as evenly as it goes."""
        clock = self._netra.runtime.clock
        began, now_us = clock.monotonic(), clock.wall_us()
        for number in range(tenant_count):
            share = deliveries // tenant_count + (number < deliveries % tenant_count)
            await self._tenant(f"tenant-{seed}-{number:05d}", share, seed, now_us)
        return {
            "event": "ready",
            **{name: self._counts[name] for name in ("tenants", "endpoints", "messages", "deliveries", "attempts")},
            "states": dict(sorted(self._states.items())),
            "seconds": round(clock.monotonic() - began, 3),
        }

    async def _tenant(self, name: str, deliveries: int, seed: int, now_us: int) -> None:
        database = self._netra.database
        made = await database.write(tenants.ensure, name, scope=system_scope(ACTOR))
        scope = Scope(made.tenant, ACTOR)
        targets = await database.write(self._endpoints, scope=scope)
        self._counts.update(tenants=1, endpoints=len(LIVE_ENDPOINTS) + 2)
        for rows in Plan(seed, made.tenant, targets, now_us).rows(deliveries, AT_ONCE):
            await database.write(_insert, rows, scope=scope, lane="bulk")
            self._counts.update(messages=len(rows.messages), deliveries=len(rows.deliveries), attempts=len(rows.attempts))
            self._states.update(row[3] for row in rows.deliveries)

    async def _endpoints(self, tx: Tx) -> Endpoints:
        sealer = self._netra.sealer
        made = [await endpoints.create(tx, sealer, _endpoint(name), None) for name in (*LIVE_ENDPOINTS, "disabled", "deleted")]
        *live, disabled, deleted = made
        await endpoints.update(tx, disabled.text_id, {"disabled": True})
        await endpoints.bury(tx, deleted.text_id)
        return Endpoints([each.id for each in live], disabled.id, deleted.id)


async def _insert(tx: Tx, rows: Rows) -> None:
    await tx.execute(WEBHOOKS.insert_messages, rows=sorted(rows.messages))
    await tx.execute(Q.fill_deliveries, rows=sorted(rows.deliveries, key=lambda row: row[:3]))
    if rows.attempts:
        await tx.execute(WEBHOOKS.insert_attempts, rows=sorted(rows.attempts))


def _endpoint(name: str) -> Endpoint:
    url = f"https://receiver.invalid/{name}"
    return Endpoint("", b"", None, url, f"the {name} receiver", None, None, False, None, {}, {})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m netra_backend.testing.fill", description="Fill a database with plausible data.")
    parser.add_argument("--deliveries", type=_count, default=10_000, help="how many in all")
    parser.add_argument("--tenants", type=_count, default=10, help="over how many tenants")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other data")
    parser.add_argument("--data", type=Path, help="the installation's folder")
    parser.add_argument("--database-url", help="the database, where it is elsewhere")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
