"""The lexer that turns one SQL text into two: what it must touch, and what it must leave alone."""

from __future__ import annotations

import sqlite3

import pytest

from netra_backend.storage.statements import Statements, parse

ROWS = "-- name: echo\nselect r.t, r.i, r.f, r.u from rows(:rows, t text?, i int?, f real?, u uuid?) as r order by r.i"


def one(text):
    (statement,) = parse(f"-- name: it\n{text}").values()
    return statement


def run(statement, **params):
    with sqlite3.connect(":memory:") as connection:
        rows = connection.execute(statement.sqlite, statement.bind_sqlite(params)).fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize(
    "text",
    [
        "select ':a', 'it''s :b' -- :c\n, /* :d\n :e */ \":f\"",
        "select 'a -- no comment :x'",
        "select '/* :x' || '*/ :y'",
        "select x::text",
    ],
)
def test_a_colon_in_a_string_a_comment_a_name_or_a_cast_is_no_parameter(text):
    statement = one(text)
    assert statement.params == ()
    assert statement.sqlite == statement.postgres == text


def test_a_parameter_beside_each_of_them_is_one():
    statement = one("select ':a' || :b /* :c */, x::text, :d::text -- :e\n, :b")
    assert statement.params == ("b", "d")
    assert statement.postgres == "select ':a' || $1 /* :c */, x::text, $2::text -- :e\n, $1"
    assert statement.sqlite == statement.text


def test_an_unfinished_string_hides_no_parameter_silently():
    assert one("select 'open, :a").params == ("a",)


def test_rows_become_a_table_on_each_engine():
    statement = one("select r.u from rows(:wanted, u uuid, t text?) as r where r.t = :t")
    assert statement.params == ("t",)
    assert "json_each(:wanted)" in statement.sqlite and "substr(:wanted__u, 16 * key + 1, 16) as u" in statement.sqlite
    assert statement.postgres.startswith("select r.u from unnest($2::bytea[], $3::text[]) as r(u, t) where r.t = $1")
    assert statement.postgres_order == ("t", "wanted__u", "wanted__t")


def test_rows_carry_every_type_and_null_there_and_back():
    rows = [
        ("naïve 🛫 \u202e \U0010ffff ' \" \\ \n", -(2**63), 1.5, bytes(range(16))),
        ("", 0, 0.0, b"\xff" * 16),
        (None, None, None, None),
        ("a", 2**63 - 1, -1e300, b"\x00" * 15 + b"\x01"),
    ]
    echoed = run(parse(ROWS)["echo"], rows=rows)
    assert sorted(echoed, key=str) == sorted(rows, key=str)


def test_no_rows_are_no_rows():
    assert run(parse(ROWS)["echo"], rows=[]) == []


def test_order_of_the_list_is_the_order_of_the_columns_of_bytes():
    statement = one("select r.u, r.v from rows(:rows, u uuid, v uuid) as r")
    rows = [(bytes([i]) * 16, bytes([255 - i]) * 16) for i in range(200)]
    assert run(statement, rows=rows) == rows


@pytest.mark.parametrize("value", [b"short", b"", b"x" * 17, None])
def test_an_id_that_is_not_16_bytes_is_refused_before_the_database_sees_it(value):
    with pytest.raises(ValueError, match="16 bytes"):
        one("select r.u from rows(:rows, u uuid) as r").bind_sqlite({"rows": [(value,)]})


def test_an_unknown_type_is_refused_when_the_file_is_read():
    with pytest.raises(ValueError, match="is not `column type`"):
        one("select 1 from rows(:rows, a varchar) as r")


def test_the_reason_to_serve_the_fleet_is_read_and_taken_out():
    statement = one("-- fleet: the leader moves every tenant's rows\nselect 1")
    assert statement.fleet == "the leader moves every tenant's rows"
    assert statement.text == "select 1"
    assert not statement.takes_tenant


def test_two_statements_of_one_name_are_refused():
    with pytest.raises(ValueError, match="stands twice"):
        parse("-- name: a\nselect 1;\n-- name: a\nselect 2;")


def test_an_unknown_statement_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_verb"):
        Statements("netra_backend.storage").no_such_verb  # noqa: B018


def test_the_closing_semicolon_and_what_stands_above_the_first_name_are_left_out():
    assert parse("-- a file\n\n-- name: a\nselect 1;\n\n-- name: b\nselect 2;\n")["a"].text == "select 1"
