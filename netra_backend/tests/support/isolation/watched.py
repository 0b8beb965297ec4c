"""A SQLite connection that refuses a query on a tenant's table without its tenant: what policies are on PostgreSQL, for tests.

It sees every text that reaches the driver, also one that is no named statement. What a test writes by hand about the tables
is the test's own affair; the subject is the product.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ....storage.migrate import migrations, statements
from ....storage.sqlite_drivers import Connection
from ....storage.statements import Row, Statement, Statements
from ..catalogue import OF_THE_FLEET, tables_named_in

_QUERY: Final = re.compile(r"\s*(?:explain\s+)?(?:select|insert|update|delete|with|replace)\b", re.IGNORECASE)
_TABLES: Final = """select m.name from sqlite_master m join pragma_table_info(m.name) c
where m.type = 'table' and m.name like 'netra\\_%' escape '\\' and c.name = 'tenant'"""
_FLEET: Final = frozenset(statement.sqlite for statement in OF_THE_FLEET.values())
_MIGRATIONS: Final = frozenset(text for each in migrations("sqlite") for text in statements(each.sql))
"""A migration is every tenant's."""


class TenantMissing(AssertionError):
    """A query on a tenant's table that does not name its tenant and is not on the fleet list."""


class Watched:
    """See the module's docstring; everything else is the driver's own."""

    def __init__(self, connection: Connection, by_hand: frozenset[str]) -> None:
        self._connection = connection
        self._let_pass = _FLEET | _MIGRATIONS | by_hand
        self._judged: dict[str, bool] = {}
        self._tables: frozenset[str] = frozenset()

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """See `Connection.run`."""
        if sql not in self._judged:
            self._judged[sql] = self._is_whole(sql)
        if not self._judged[sql] or (":tenant" in sql and not (params or {}).get("tenant")):
            raise TenantMissing(sql)
        return self._connection.run(sql, params) if params is not None else self._connection.run(sql)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _is_whole(self, sql: str) -> bool:
        text = sql.removeprefix("explain ")
        if not _QUERY.match(sql) or text in self._let_pass or ":tenant" in sql:
            return True
        self._tables = self._tables or frozenset(name for (name,) in self._connection.run(_TABLES))
        return not tables_named_in(sql, self._tables)


def _statements(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value.by_name.values() if isinstance(value, Statements) else [value]


def statements_in(module: Any) -> Iterator[Statement]:
    """Those that a test module has written by hand, alone or in a dictionary."""
    for value in vars(module).values():
        found: Iterable[Any] = _statements(value)
        yield from (each for each in found if isinstance(each, Statement))
