"""Verbs on node rows: who is alive, by a beat that only grows and never by a wall clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)


_IDLE: Final = " without workers"
"""Ends the stored role of a process that sends nothing, so that what senders share is not divided by it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One running process. `sends` says whether it makes deliveries."""

    id: bytes
    beat: int
    host: str
    pid: int
    role: str
    started_us: int
    sends: bool = True


async def register(tx: Tx, node: bytes, host: str, pid: int, role: str, *, sends: bool = True) -> None:
    """Add the row of a process that starts a life."""
    stored = role if sends else role + _IDLE
    await tx.execute(Q.insert_node, id=node, host=host, pid=pid, role=stored, started_us=tx.now_us)


async def beat(tx: Tx, node: bytes) -> bool:
    """Show that the node lives; False if its row was reaped, which ends this life."""
    return await tx.one(Q.beat_node, id=node) is not None


async def remove(tx: Tx, node: bytes) -> None:
    """The node ends by itself; rows that it still owns are due from now on."""
    await tx.execute(Q.remove_node, id=node)


async def forget(tx: Tx, node: bytes) -> None:
    """A former life's row is of no use; left to the observers where one of that life's transactions is still open."""
    await tx.execute(Q.forget_node, id=node)


async def reap(tx: Tx, node: bytes, seen_beat: int) -> bool:
    """Declare a node dead, unless it has beaten since it was seen."""
    return await tx.execute(Q.reap_node, id=node, beat=seen_beat) > 0


async def is_live(tx: Tx, node: bytes) -> bool:
    """Whether the node's row is there, in this transaction."""
    return await tx.one(Q.node_is_live, id=node) is not None


async def living(tx: Tx) -> list[Node]:
    """Every node that nobody has declared dead."""
    return [_node(*row) for row in await tx.all(Q.list_nodes)]


def _node(id_: bytes, beat: int, host: str, pid: int, role: str, started_us: int) -> Node:
    return Node(id_, beat, host, pid, role.removesuffix(_IDLE), started_us, sends=not role.endswith(_IDLE))
