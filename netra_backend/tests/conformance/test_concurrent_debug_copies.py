"""Two copies of each verb of debug sessions at once, through two doors to one database: as if one of them had run before the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netra_backend.observability.debug import store
from netra_backend.observability.debug.errors import TooManySessions
from netra_backend.storage import debug_marks, tenants

from ..support.storage import ACME, SYSTEM
from .test_concurrent_webhook_copies import verbs_of
from .test_debug_sessions import HALF_AN_HOUR_US, asked, entries, records

PACKAGE = Path(__file__).parents[2] / "observability"
READS = {"store.get", "store.live", "store.outlived"}
HERE = {"store.start", "store.extend", "store.end", "store.end_all", "store.forget", "store.append", "store.view", "store.listed"}


@pytest.fixture
async def doors(pair):
    await pair[0].write(tenants.ensure, "acme", scope=SYSTEM)
    return pair


async def both(doors, verb, *arguments):
    return await asyncio.gather(*(door.write(verb, *arguments, scope=ACME) for door in doors), return_exceptions=True)


async def test_two_starts_at_the_limit_are_one_session(doors):
    for _ in range(store.MOST_OF_TENANT - 1):
        await doors[0].write(store.start, asked(), scope=ACME)
    outcomes = await both(doors, store.start, asked())
    assert [type(each) for each in outcomes].count(TooManySessions) == 1


async def test_a_session_ends_once_and_an_extension_is_before_or_refused(doors):
    made = await doors[0].write(store.start, asked(), scope=ACME)
    await both(doors, store.extend, made.id, HALF_AN_HOUR_US)
    one, two = await both(doors, store.end, made.id)
    assert one.ended_us == two.ended_us
    assert (await entries(doors[0])).count("debug.end") == 1


async def test_records_of_two_processes_have_numbers_of_their_own(doors):
    made = await doors[0].write(store.start, asked(), scope=ACME)
    for _ in range(5):
        assert await both(doors, store.append, made.id, records(3, made.created_us), 1) == [3, 3]
    view = await doors[0].read(store.view, made.id, 0, 100, None, scope=ACME)
    assert [row[0] for row in view.rows] == list(range(1, 31))
    assert view.session.dropped == 10


async def test_two_views_two_lists_and_two_ends_of_a_tenant_are_harmless(doors):
    made = await doors[0].write(store.start, asked(), scope=ACME)
    await doors[0].write(store.append, made.id, records(3, made.created_us), 0, scope=ACME)
    assert [len(view.rows) for view in await both(doors, store.view, made.id, 0, 10, "debug.view")] == [3, 3]
    assert [len(found) for found in await both(doors, store.listed, 10)] == [1, 1]
    await both(doors, store.end_all)
    assert sorted(await both(doors, store.forget, made.id)) == [0, 0]
    assert (await entries(doors[0])).count("debug.end") == 1


async def test_marks_of_one_row_by_two_are_those_of_one(doors):
    async def mark(tx, ref):
        await debug_marks.mark_rows(tx, [(tx.tenant, ref, b"s" * 16)])

    await asyncio.gather(*(door.write(mark, ref, scope=ACME) for door, ref in zip(doors, (b"a" * 16, b"b" * 16), strict=True)))
    assert await doors[0].read(debug_marks.of, b"a" * 16, scope=ACME) == {b"s" * 16}


def test_every_verb_is_here_or_only_reads():
    assert {verb for path in (PACKAGE / "debug").glob("*.py") for verb in verbs_of(path)} == READS | HERE
