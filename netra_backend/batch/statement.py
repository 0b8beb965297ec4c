"""SQL of a program's own, for its writers and readers."""

from __future__ import annotations

from ..storage.statements import Statement, statement


def sql(text: str) -> Statement:
    """A statement for `tx.execute` and `tx.all`, in words that both engines take.

    `:name` is a parameter. `rows(:name, column type, ...) as alias` is a table made of a list of tuples (types `text`, `int`,
    `real`, `uuid`, each with `?` if it may be null), so that a chunk is one statement whatever its length:
    `insert into t (a, b) select r.a, r.b from rows(:rows, a int, b text?) as r`. `:tenant` is filled from the transaction.
    """
    return statement(text)
