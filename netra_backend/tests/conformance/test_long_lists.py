"""A list of any length is taken as a short one is: in pieces on SQLite, as literals on PostgreSQL, and neither may be seen."""

from __future__ import annotations

import math
import struct

import pytest

from netra_backend.errors import NetraError
from netra_backend.storage.errors import ConstraintViolated
from netra_backend.storage.postgres_literals import LARGEST, LONG, literals
from netra_backend.storage.statements import PIECE, statement

from ..support.storage import ACME, Q, rows_of

INSERT = statement("insert into fact (who, part, body) select :who, r.part, r.body from rows(:rows, part int, body text?) as r")
ECHO = statement("select r.place, r.t, r.n, r.x, r.u from rows(:rows, place int, t text?, n int?, x real?, u uuid?) as r order by r.place")
PLAIN = [
    "",
    "a",
    " ",
    "null",
    "NULL",
    "{}",
    "{a,b}",
    ",",
    "'",
    "it's",
    "\x7f",
    "\u2028 \u202e \ud7ff \ue000",
    "\U0010ffff",
    "x" * 10_000,
    "$1",
    ":a",
    "%s",
]


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


async def echo(tx, rows):
    return await tx.all(ECHO, rows=rows)


def long_list(text=PLAIN, numbers=(0, 1, -1, 2**63 - 1, -(2**63)), reals=(0.0, -0.0, 0.1, 1e22, 1e-7, 5e-324, -1.7976931348623157e308)):
    columns = [[values[n % len(values)] for n in range(2 * LONG)] for values in (text, numbers, reals)]
    return [(n, *values, bytes([n + 1]) * 16) for n, values in enumerate(zip(*columns, strict=True))]


@pytest.mark.parametrize(
    "rows",
    [
        long_list(),
        long_list(text=[*PLAIN, 'a "word"', "back\\slash", "\\n", "line\nbreak", "\t\r\x01"]),
        long_list(text=[*PLAIN, None]),
        long_list(numbers=[None, 7]),
        long_list(reals=[None, 1.5]),
    ],
    ids=["plain", "with escapes", "no text", "no numbers", "no reals"],
)
async def test_what_a_long_list_holds_comes_back_as_it_was(database, rows):
    found = await database.read(echo, rows, scope=ACME)
    assert [row[:3] for row in found] == [row[:3] for row in rows]
    assert [bits(row[3]) for row in found] == [bits(row[3]) for row in rows]
    assert [row[4] for row in found] == [row[4] for row in rows]


def bits(number):
    """-0.0 is not 0.0; SQLite has one zero, which JSON keeps apart."""
    return None if number is None else struct.pack("d", number)


@pytest.mark.parametrize("wrong", [(1, 1), ("1", "a"), ("1", 2**63), ("a\0b", 1), ("\ud800", 1)])
@pytest.mark.parametrize("engine", ["postgres"])
async def test_what_a_short_list_may_not_hold_a_long_one_may_not_either(database, wrong):
    async def ask(tx, count):
        return await tx.all(ECHO, rows=[(0, *wrong, 1.0, None)] + [(n, "a", 1, 1.0, None) for n in range(1, count)])

    refused = []
    for count in (1, 2 * LONG):
        with pytest.raises((NetraError, ValueError)) as error:
            await database.read(ask, count, scope=ACME)
        refused.append(type(error.value))
    assert refused[0] is refused[1]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["a", None]),
        ("text", ["a", 1]),
        ("text", ["back\\slash"]),
        ("text", ["a\0b"]),
        ("text", ["\ud800"]),
        ("text", ["x" * LARGEST, "x"]),
        ("text", []),
        ("int", [1, True]),
        ("int", [2**63]),
        ("int", [-(2**63) - 1]),
        ("int", [2**64]),
        ("int", [1.0]),
        ("real", [1]),
        ("real", [math.nan]),
        ("real", [1.0, -math.inf]),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_literal(kind, values):
    assert literals([("int", [1]), (kind, values)]) is None


def test_a_literal_is_the_columns_own_words():
    columns = [("int", [1, -2]), ("text", ["a", ""]), ("real", [0.5, 2.5]), ("uuid", [bytes(16)])]
    assert literals(columns) == ["{1,-2}", '{"a",""}', "{0.5,2.5}", [bytes(16)]]
