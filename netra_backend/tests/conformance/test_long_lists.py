"""A list of any length is inserted as a short one is: on SQLite in pieces of bound values, which must not be seen."""

from __future__ import annotations

import pytest

from netra_backend.errors import NetraError
from netra_backend.storage.errors import ConstraintViolated
from netra_backend.storage.statements import PIECE, statement

from ..support.storage import ACME, Q, rows_of

INSERT = statement("insert into fact (who, part, body) select :who, r.part, r.body from rows(:rows, part int, body text?) as r")


async def put(tx, rows):
    return await tx.execute(INSERT, who="who", rows=rows)


async def put_what_may_fail(tx, rows):
    error = await tx.attempt(put, rows)
    return type(error)


def body(n):
    return None if n % 3 == 0 else f"{n}: 'quoted' \N{SNOWMAN}"


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 4 * PIECE + 7])
async def test_a_list_of_any_length_is_inserted_whole_and_counted(database, count):
    rows = [(n, body(n)) for n in range(count)]
    assert await database.write(put, rows, scope=ACME) == count
    assert await database.read(rows_of, "who", scope=ACME) == rows


@pytest.mark.parametrize("place", [0, PIECE, 3 * PIECE + 5])
async def test_a_row_that_is_refused_takes_the_whole_list_with_it(database, place):
    await database.write(put, [(place, "was there")], scope=ACME)
    rows = [(n, body(n)) for n in range(3 * PIECE + 10)]
    assert await database.write(put_what_may_fail, rows, scope=ACME) is ConstraintViolated
    with pytest.raises(NetraError):
        await database.write(put, rows, scope=ACME)
    assert await database.read(rows_of, "who", scope=ACME) == [(place, "was there")]


async def test_a_row_that_is_too_short_or_too_long_is_refused_and_shifts_no_other(database):
    rows = [(n, "x") for n in range(PIECE)]
    rows[7:9] = [(7,), (8, "x", "y")]
    with pytest.raises((ValueError, NetraError)):
        await database.write(put, rows, scope=ACME)
    assert await database.read(rows_of, "who", scope=ACME) == []


async def test_only_what_inserts_its_rows_as_they_are_is_cut():
    assert INSERT.in_pieces
    assert not Q.insert_facts.in_pieces  # it has a condition, which might ask about the rows before
    assert not statement("insert into fact (who) select max(r.a) from rows(:rows, a text) as r").in_pieces
    assert not statement("delete from fact where part in (select r.a from rows(:rows, a int) as r)").in_pieces
