"""NOTIFY only makes it sooner, the poll is the truth: what one process leaves is seen by the others with either of them gone."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.storage import postgres_watch
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ..support.platform import WITHIN_S, add_endpoint, becomes, platform, send
from ..support.storage import ACME, eventually, put, with_its_server

NEVER_S = 600.0
SOON_S = 30.0
"""What a busy machine may need; the other way of being woken is then minutes away."""


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint() as receiver:
        yield receiver


@pytest.fixture
async def producer(prepared):
    """A process without workers: what it takes in is inserted due."""
    async with platform(prepared, workers=False) as producer:
        yield producer


@pytest.fixture
async def worker(prepared):
    async with platform(prepared, lease_ttl="60s") as worker:  # only its commits are the subject, not how late its beats are
        yield worker


async def delivered(producer, worker, receiver, within_s):
    endpoint = await add_endpoint(producer, receiver.url)
    await eventually(worker.database.version)
    message = await send(producer)
    await receiver.until(lambda got: len(got) == 1, within_s=within_s)
    await becomes(worker, message, endpoint, "delivered")


async def test_a_message_that_another_process_left_is_picked_up_through_notify_long_before_the_poll(
    producer, worker, receiver, monkeypatch
):
    await stop_polling(worker, monkeypatch)
    await delivered(producer, worker, receiver, SOON_S)


async def test_it_is_picked_up_by_polling_where_notify_is_swallowed(producer, prepared, receiver, monkeypatch):
    monkeypatch.setattr(postgres_watch, "CHANNEL", "elsewhere")
    async with platform(prepared) as worker:
        await delivered(producer, worker, receiver, WITHIN_S)


async def test_a_listener_that_was_terminated_listens_again(producer, worker, receiver, postgres_server, monkeypatch):
    watch = worker.database._watch
    former = watch._connection
    postgres_server.query("", "select pg_terminate_backend($1, 10000)", former.get_server_pid())
    await eventually(lambda: watch._connection is not None and watch._connection is not former)
    await stop_polling(worker, monkeypatch)
    assert (producer.database._watch.trouble, watch.trouble) == (None, None)
    await delivered(producer, worker, receiver, SOON_S)


async def stop_polling(worker, monkeypatch):
    """Its watch looks once more, and then only listens."""
    monkeypatch.setattr(postgres_watch, "POLL_S", NEVER_S)
    watch, looks = worker.database._watch, asyncio.Event()
    wait = watch._wait

    async def told(seconds):
        if seconds == NEVER_S:
            looks.set()
        await wait(seconds)

    monkeypatch.setattr(watch, "_wait", told)
    await asyncio.wait_for(looks.wait(), SOON_S)


@pytest.mark.parametrize("door", ["write", "write_item", "transaction"])
async def test_the_version_changes_with_any_commit_by_anybody(pair, door):
    one, two = pair
    seen = one.version()
    for writer in (two, one):
        await {"write": by_write, "write_item": by_item, "transaction": by_hand}[door](writer)
        await eventually(lambda: one.version() != seen, SOON_S)  # noqa: B023
        seen = one.version()


async def by_write(database):
    await database.write(put, f"{id(database)}", scope=ACME)


async def by_item(database):
    await database.write_item(put_each, f"{id(database)}")


async def by_hand(database):
    async with database.transaction(ACME) as tx:
        await put(tx, f"{id(database)}")


async def put_each(tx, names):
    for who in names:
        await put(tx, who)
    return list(names)
