"""A process under test that decides and records, and whose logs are sequenced and signed beside that."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

from ...errors import NetraError
from ...kernel.scope import Scope
from ...netra import Netra
from ...observability.audit import exporting
from ...storage import api_keys
from .standing import arm_pauses, of_the_environment
from .vault_programs import serve


def trail(channel: socket.socket, spec: dict[str, Any]) -> None:
    """A Netra with workers; commands are the methods of `Deciding`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(_trail(channel, spec))


async def _trail(channel: socket.socket, spec: dict[str, Any]) -> None:
    failpoints = spec.get("failpoint", "")
    async with Netra(spec["url"], role="server", environ=of_the_environment(failpoints), **spec["settings"]) as netra:
        arm_pauses(netra, failpoints)
        await serve(channel, Deciding(netra))


class Deciding:
    """What the process can be asked."""

    def __init__(self, netra: Netra) -> None:
        self._netra = netra

    async def decide(self, tenant: str, names: list[str]) -> Any:
        """A key of each name, each in a transaction of its own, and an entry of the program's own beside; the names that were acknowledged."""
        await self._netra.tenant(tenant)
        return [name for name in await asyncio.gather(*(self._one(tenant, name) for name in names)) if name]

    async def _one(self, tenant: str, name: str) -> str:
        async def decide(tx: Any) -> None:
            await api_keys.create(tx, tenant=tenant, pepper=b"p" * 32, name=name, scopes=["tenant"])
            await self._netra.audit.record(tx, "key.ordered", name)

        try:
            await self._netra.write(decide, tenant=tenant)
        except NetraError:  # not acknowledged
            return ""
        return name

    async def checkpoint(self, tenant: str) -> Any:
        """What a stranger would see by now."""
        return (await self._netra.audit.resource(Scope(tenant, "tester"), "checkpoint")).decode()

    async def export(self, tenant: str, folder: str) -> Any:
        """The log as files."""
        scope = Scope(tenant, "tester")
        await self._netra.audit.settle(scope)
        await exporting.export(lambda path: self._netra.audit.resource(scope, path), Path(folder))
