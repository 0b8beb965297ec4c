"""Nodes whose time is turned by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...kernel.runtime import Runtime
from ...storage import nodes
from ...storage.membership import Membership
from ...testing.clock import FakeClock
from .storage import SYSTEM


@asynccontextmanager
async def member(database, clock: FakeClock | None = None, ttl_s: float = 10.0) -> AsyncIterator[Membership]:
    """A live node that beats and looks around only where the test says so (`_beat_once`, `_observe_once`)."""
    membership = Membership(database, Runtime(clock=clock or FakeClock()), database.lock_dir, ttl_s=ttl_s, role="test")
    await membership.start()
    for task in membership._tasks:
        task.cancel()
    try:
        yield membership
    finally:
        await membership.stop()


async def living(database) -> dict[bytes, int]:
    """Beat by node."""
    return {node.id: node.beat for node in await database.read(nodes.living, scope=SYSTEM)}


async def new_node(database) -> bytes:
    """A registered node without a process behind it."""
    node = Runtime().ids.new()
    await database.write(nodes.register, node, "host", 1, "test", scope=SYSTEM)
    return node
