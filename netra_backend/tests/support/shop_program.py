"""A shop as a process of its own, to be killed: it takes orders without end, and each is sent in the order's transaction."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

from ...kernel.failpoints import kill_this_process
from ...netra import Netra
from .places import File, Place, Shared
from .postgres import ADOPTER
from .shops import KINDS, Counter, Shop

BEFORE_COMMIT = "before the commit"
AFTER_COMMIT = "after the commit"


class _Here(Counter):
    """The database as the process was told of it."""

    def url(self, driver: str, user: str = ADOPTER) -> str:
        return self.place.url.replace("postgresql://", f"postgresql+{driver}://") if driver else self.place.url


def shop(channel: socket.socket, spec: dict[str, Any]) -> None:
    """`spec`: `kind`, `tenant`, `prefix`, `ledger` (a line for each commit that returned), Netra's and the shop's URL, and where to die."""
    environ = {"NETRA_TEST_MODE": "1", "NETRA_FAILPOINT": spec["failpoint"]}
    with Netra(spec["url"], workers=False, environ=environ, **spec["settings"]) as netra:
        asyncio.run(_take_orders(netra, spec))


async def _take_orders(netra: Netra, spec: dict[str, Any]) -> None:
    kind = KINDS[spec["kind"]]
    place: Any = File(Path(spec["path"])) if kind.engine == "sqlite" else _Elsewhere(spec["shop_url"])
    mine = kind((Counter if kind.engine == "sqlite" else _Here)(place))
    await mine.open()
    ledger = os.open(spec["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    number = 0
    while True:
        await _take_one(netra, mine, spec, f"{spec['prefix']}-{number}")
        os.write(ledger, f"{spec['prefix']}-{number}\n".encode())
        number += 1


async def _take_one(netra: Netra, mine: Shop, spec: dict[str, Any], ref: str) -> None:
    last = ref.endswith(f"-{spec['dies_at']}")
    await mine.begin()
    await mine.order(ref)
    await mine.send(netra, netra.adopt(mine.guest, tenant=spec["tenant"]), {"ref": ref}, event_id=ref)
    if last and spec["stage"] == BEFORE_COMMIT:
        kill_this_process()
    await mine.commit()
    if last and spec["stage"] == AFTER_COMMIT:
        kill_this_process()


class _Elsewhere:
    def __init__(self, url: str) -> None:
        self.url = url


def spec_of(place: Place, kind: str, **more: Any) -> dict[str, Any]:
    """What a shop's process is told."""
    where = {"path": str(place.path)} if isinstance(place, File) else {"shop_url": Counter(place).url("")}
    assert isinstance(place, File | Shared)
    return {"url": place.url, "kind": kind, "failpoint": "", "stage": "", "dies_at": -1, **where, **more}
