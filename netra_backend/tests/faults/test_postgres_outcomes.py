"""Commits whose answer never came: unknown, never repeated by us, and settled by the caller's key.

The connection is cut by a proxy while COMMIT is on its way: before the server got it, or after, with its answer lost; or the
network swallows everything and says nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest

from netra_backend.errors import OutcomeUnknown, Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage import postgres, postgres_connections, postgres_watch
from netra_backend.storage.errors import DatabaseUnreachable
from netra_backend.storage.jobs import BEFORE_COMMIT
from netra_backend.storage.postgres import Postgres
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.tcp_proxy import Fault, TcpProxy
from netra_backend.webhooks.intake import Accepted

from ..support.platform import TENANT, WITHIN_S, accept, add_endpoint, arm_at_its_commit, becomes, platform
from ..support.storage import (
    ACME,
    SYSTEM,
    Q,
    database_url,
    eventually,
    everybody,
    outcome_of,
    put,
    put_all,
    with_its_server,
    write_when_it_can,
)

CUTS = {"before the server got it": Fault(reset=True), "after its answer": Fault(lose_reply=True)}


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def proxy(prepared):
    parts = urlsplit(database_url(prepared))
    async with TcpProxy(parts.hostname, parts.port) as proxy:
        proxy.url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()
        yield proxy


@asynccontextmanager
async def behind(proxy, folder, **options):
    """An engine that sees the server through the proxy; its runtime's failpoints may turn the network bad."""
    database = Postgres(proxy.url, Runtime(), lock_dir=folder / "locks", **options)
    await database.open()
    try:
        yield database
    finally:
        proxy.fault = Fault()
        await database.close()


def cut_at_the_next_commit(database, proxy, fault):
    """For this one commit; the network is well again as soon as its end is known."""
    told = healed_when_known(database, proxy)
    database._runtime.failpoints.arm(BEFORE_COMMIT, partial(setattr, proxy, "fault", fault))
    return told


def healed_when_known(database, proxy):
    """The network is well again as soon as the end of a commit is known; how often that was."""
    told = []

    def heal():
        told.append(1)
        proxy.fault = Fault()

    database.on_unknown_outcome.append(heal)
    return told


async def by_group(database, name):
    return await database.write_item(put_all, name)


async def by_write(database, name):
    return await database.write(put, name, scope=ACME)


async def by_hand(database, name):
    async with database.transaction(ACME) as tx:
        return await put(tx, name)


DOORS = (by_group, by_write, by_hand)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cut", CUTS)
async def test_a_connection_cut_during_commit_leaves_an_unknown_outcome_that_is_whole_or_absent(prepared, proxy, cut, door):
    async with behind(proxy, prepared) as database:
        told = cut_at_the_next_commit(database, proxy, CUTS[cut])
        assert isinstance(await outcome_of(door(database, "cut")), OutcomeUnknown)
        assert told == [1]
        await write_when_it_can(database, put, "next")
        assert await database.read(everybody, scope=SYSTEM) == {"next": 2} | ({"cut": 2} if CUTS[cut].lose_reply else {})


async def test_every_caller_of_a_group_whose_commit_was_not_answered_is_told_so(prepared, proxy):
    async with behind(proxy, prepared) as database:
        cut_at_the_next_commit(database, proxy, Fault(lose_reply=True))
        outcomes = await asyncio.gather(*(outcome_of(by_group(database, name)) for name in "abc"))
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
        await write_when_it_can(database, put, "next")
        assert await database.read(everybody, scope=SYSTEM) == {"a": 2, "b": 2, "c": 2, "next": 2}


async def test_nothing_is_taken_in_until_a_probe_has_committed(prepared, proxy, postgres_server):
    name = proxy.url.rpartition("/")[2]
    waits = (
        "select count(*)::int from pg_stat_activity where datname = $1 and wait_event_type = 'Lock' and query like 'update netra_probe%'"
    )
    async with behind(proxy, prepared) as database, postgres_server.connected(name, user="superuser") as other:
        await other.execute("begin; update netra_probe set count = count")
        cut_at_the_next_commit(database, proxy, Fault(lose_reply=True))
        assert isinstance(await outcome_of(by_write(database, "cut")), OutcomeUnknown)
        await eventually(lambda: postgres_server.query("", waits, name) == [(1,)])
        for attempt in (database.write(put, "early", scope=ACME), database.write_item(put_all, "early"), by_hand(database, "early")):
            assert isinstance(await outcome_of(attempt), Unavailable)
        await other.execute("commit")
        await write_when_it_can(database, put, "next")
        assert await database.read(everybody, scope=SYSTEM) == {"cut": 2, "next": 2}


async def test_a_commit_in_doubt_while_the_probe_of_another_is_on_its_way_has_a_probe_of_its_own(prepared, proxy):
    async with behind(proxy, prepared) as database:
        watch, probes = database._watch, []
        probe = watch._probe

        async def doubted_meanwhile():
            probes.append(1)
            await probe()
            if len(probes) == 1:
                watch.doubt(Unavailable("another one"))

        watch._probe = doubted_meanwhile
        watch.doubt(Unavailable("the first"))
        await write_when_it_can(database, put, "next")
        assert len(probes) == 2


@pytest.mark.parametrize("cut", CUTS)
async def test_a_message_whose_commit_was_not_answered_is_settled_by_its_key(prepared, proxy, cut):
    async with MisbehavingEndpoint() as receiver, platform(prepared, url=proxy.url) as netra:
        endpoint = await add_endpoint(netra, receiver.url)
        await netra.webhooks.snapshots.get(TENANT)
        former = netra.membership.id
        healed_when_known(netra.database, proxy)
        arm_at_its_commit(netra, BEFORE_COMMIT, partial(setattr, proxy, "fault", CUTS[cut]))
        assert isinstance(await outcome_of(accept(netra, {"n": 1}, event_id="one")), OutcomeUnknown)
        await eventually(lambda: netra.membership.id != former)

        again = await accepted(netra, {"n": 1}, event_id="one")
        assert again.replayed == CUTS[cut].lose_reply
        await receiver.until(lambda got: len(got) >= 1, within_s=WITHIN_S)
        await becomes(netra, again.message.id, endpoint, "delivered")
        assert (await accepted(netra, {"n": 1}, event_id="one")).message.id == again.message.id
        assert len(receiver.received) == 1


async def accepted(netra, payload, **options):
    """What intake answers once it takes messages again."""
    found = []

    async def settled():
        found[:] = [await outcome_of(accept(netra, payload, **options))]
        return isinstance(found[0], Accepted)

    await eventually(settled, WITHIN_S)
    return found[0]


@pytest.fixture
def impatient(monkeypatch):
    """The server is waited for in fractions of a second."""
    monkeypatch.setattr(postgres, "ANSWER_GRACE_S", 0.1)
    monkeypatch.setattr(postgres_connections, "CONNECT_S", 0.3)
    monkeypatch.setattr(postgres_watch, "ANSWERS_WITHIN_S", 0.3)
    return {"statement_limit_s": 0.2, "idle_limit_s": 0.3, "transaction_timeout_s": 0.2}


@pytest.mark.parametrize("door", DOORS)
async def test_a_network_that_swallows_a_commit_and_says_nothing_holds_nobody_for_ever(prepared, proxy, impatient, door):
    async with behind(proxy, prepared, **impatient) as database:
        cut_at_the_next_commit(database, proxy, Fault(half_open=True))
        async with asyncio.timeout(20):
            assert isinstance(await outcome_of(door(database, "cut")), OutcomeUnknown)
        await write_when_it_can(database, put, "next")
        rows = await database.read(everybody, scope=SYSTEM)
        assert rows.pop("cut", 2) == 2 and rows == {"next": 2}


async def test_while_the_network_swallows_everything_callers_are_refused_in_bounded_time_and_afterwards_served(prepared, proxy, impatient):
    async with behind(proxy, prepared, **impatient) as database:
        await by_write(database, "before")
        proxy.fault = Fault(half_open=True)
        attempts = [database.write(put, "early", scope=ACME), by_group(database, "early too"), by_hand(database, "early as well")]
        attempts += [database.write(put, "urgent", scope=ACME, lane="urgent"), database.read(everybody, scope=SYSTEM)]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*map(outcome_of, attempts))
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes), outcomes
        await eventually(lambda: database._watch.trouble is not None)
        proxy.fault = Fault()
        await write_when_it_can(database, put, "next")
        assert await database.read(everybody, scope=SYSTEM) == {"before": 2, "next": 2}


async def test_a_transaction_whose_connection_ended_before_its_commit_was_asked_for_is_no_unknown_outcome(prepared, proxy, postgres_server):
    async with behind(proxy, prepared) as database:
        told = cut_at_the_next_commit(database, proxy, Fault())
        with pytest.raises(DatabaseUnreachable):
            async with database.transaction(ACME) as tx:
                await tx.execute(Q.insert_fact, who="held", part=1, body="")
                postgres_server.terminate_backends(proxy.url.rpartition("/")[2])
                await eventually(lambda: postgres_connections.is_gone(tx.connection))
        assert told == []
        await write_when_it_can(database, put, "next")
        assert await database.read(everybody, scope=SYSTEM) == {"next": 2}
