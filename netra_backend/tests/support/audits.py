"""A database whose audit logs are sequenced and signed by the test, step by step."""

from __future__ import annotations

from pathlib import Path

from ...kernel.runtime import Runtime
from ...kernel.scope import Scope
from ...observability.audit import exporting, store
from ...observability.audit.memory import Memory
from ...observability.audit.sequencer import Sequencer
from ...observability.audit.service import Audit
from ...storage import log, nodes
from ...storage.audit_append import audit_append
from ...storage.sealing import RootKeys, Sealer
from .members import new_node
from .storage import SYSTEM

SEALER = Sealer(RootKeys({"r1": b"1" * 32}))
ORIGIN = "netra.test/here"
DRAIN = 500


class Standing:
    """A membership that lives as long as its node row does."""

    quiet = False

    def __init__(self, id_: bytes) -> None:
        self.id = id_


class Trail:
    """One process's sequencer over a database, and a leader of the stream beside it. `memory` outlives the database."""

    def __init__(self, database, node: bytes, memory: Path, runtime: Runtime | None = None) -> None:
        self.database = database
        self.node = node
        self.runtime = runtime or Runtime()
        self.memory = Memory(memory)
        self.sequencer = Sequencer(database, self.runtime, Standing(node), SEALER, self.memory, ORIGIN)
        self.audit = Audit(database, self.runtime, self.sequencer)

    @classmethod
    async def over(cls, database, memory: Path, runtime: Runtime | None = None) -> Trail:
        return cls(database, await new_node(database), memory, runtime)

    async def write(self, count: int, tenant: str = "acme", action: str = "thing.done") -> list[bytes]:
        """So many entries in one transaction."""

        async def append(tx):
            return [await audit_append(tx, action, f"thing-{number}", after={"number": number}) for number in range(count)]

        return await self.database.write(append, scope=Scope(tenant, "tester"))

    async def move(self) -> None:
        """What is in the outbox comes into the stream; whoever led it before is no more."""
        await self.database.write(_lead, self.node, scope=SYSTEM)
        while await self.database.write(log.sequence, self.node, DRAIN, scope=SYSTEM):
            pass

    async def settle(self) -> None:
        """Everything that is committed comes under a signed checkpoint."""
        await self.move()
        await self.sequencer.drain()

    async def log_of(self, tenant: str = "acme"):
        return await self.database.read(store.find, tenant, scope=Scope(tenant, "tester"))

    async def export(self, folder: Path, tenant: str = "acme") -> Path:
        scope = Scope(tenant, "tester")

        async def source(path):
            return await self.audit.resource(scope, path)

        await exporting.export(source, folder)
        return folder


async def _lead(tx, node):
    if not await log.has_lead(tx, "log", node):
        for row in await tx.all(nodes.Q.list_nodes):
            if row[0] != node:
                await tx.execute(nodes.Q.reap_node, id=row[0], beat=row[1])
        assert await log.has_lead(tx, "log", node)
