"""A node's row on PostgreSQL: who has seen it alive in a transaction may count on it until that transaction ends.

Otherwise a node could be declared dead, and its rows given to others, between the look and the commit. The observers do not
wait for such a transaction either: they share one connection with their own beats.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress

import pytest

from netra_backend.storage import nodes
from netra_backend.storage.errors import DatabaseUnreachable
from netra_backend.webhooks import store

from ..support.members import living, new_node
from ..support.storage import ACME, DEADLINE_S, SYSTEM, eventually, everybody, put, with_its_server
from ..support.webhooks import claimed, due, endpoint_of, outcome


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


def outside(coroutine):
    """A task that is not inside the transaction of the code that makes it."""
    return contextvars.Context().run(asyncio.ensure_future, coroutine)


async def reap(database, node):
    """As an observer does it, who must not be held up."""
    async with asyncio.timeout(DEADLINE_S):
        return await outside(database.write(nodes.reap, node, 1, scope=SYSTEM, lane="urgent"))


async def intake(database, node):
    async def look(tx):
        assert await nodes.is_live(tx, node)

    return look


async def claim(database, node):
    endpoint = await endpoint_of(database)
    await due(database, endpoint)

    async def look(tx):
        assert len(await store.claim(tx, node, [((endpoint.tenant, endpoint.id), 10)])) == 1

    return look


async def acknowledgement(database, node):
    endpoint = await endpoint_of(database)
    await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)

    async def look(tx):
        assert await store.acknowledge(tx, [outcome(delivery)]) == [True]

    return look


@pytest.mark.parametrize("verb", [intake, claim, acknowledgement])
async def test_a_node_is_not_declared_dead_while_a_transaction_that_saw_it_alive_may_commit(pair, verb):
    database, peer = pair
    node = await new_node(database)
    look = await verb(database, node)
    async with database.transaction(SYSTEM) as tx:
        await look(tx)
        assert not await reap(peer, node), "declared dead before the commit"
        await outside(peer.write(nodes.forget, node, scope=SYSTEM))
        assert node in await living(peer)
    assert await reap(peer, node)


async def test_whoever_declares_a_node_dead_ends_the_transactions_that_it_left_open(pair):
    """Of those, the server ends only the idle ones; a process stopped between a statement's preparation and its execution is not."""
    database, peer = pair
    node = await new_node(database)
    database.bear(node)
    with suppress(DatabaseUnreachable):
        async with database.transaction(ACME) as tx:
            await put(tx, "held")
            assert await nodes.is_live(tx, node)
            await eventually(lambda: reap(peer, node))
        raise AssertionError("a dead node's transaction was committed")
    assert await peer.read(everybody, scope=SYSTEM) == {}


async def test_a_beat_between_the_look_and_the_verdict_saves_the_node_and_its_transactions(pair):
    database, peer = pair
    node = await new_node(database)
    database.bear(node)
    async with database.transaction(ACME) as tx:
        await put(tx, "held")
        assert await outside(peer.write(nodes.beat, node, scope=SYSTEM))
        assert not await reap(peer, node)
    assert await peer.read(everybody, scope=SYSTEM) == {"held": 2}
