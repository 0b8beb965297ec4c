"""asyncpg's connection, out of a pool or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ...errors import NetraError
from ..postgres_errors import translated
from ..statements import Row, Statement
from .driver import Driver


class AsyncpgConnection(Driver):
    """See the module's docstring."""

    asynchronous = True
    recipe = "async with connection.transaction():"

    @property
    def engine(self) -> Literal["postgresql"]:
        """See `Driver.engine`."""
        return "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def connection(self) -> Any:
        """See `Driver.connection`."""
        return self._connection

    def in_transaction(self) -> bool:
        """See `Driver.in_transaction`."""
        return bool(self._connection.is_in_transaction())

    def begins_by_itself(self) -> bool:
        """See `Driver.begins_by_itself`: asyncpg never does."""
        return False

    async def control(self, sql: str) -> None:
        """See `Driver.control`."""
        await self._connection.execute(sql)

    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """See `Driver.all`."""
        return [tuple(row) for row in await self._connection.fetch(statement.postgres, *statement.bind_postgres(bound))]

    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """See `Driver.execute`."""
        count = (await self._connection.execute(statement.postgres, *statement.bind_postgres(bound))).rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    def translated(self, error: Exception) -> NetraError:
        """See `Driver.translated`."""
        return translated(error)
