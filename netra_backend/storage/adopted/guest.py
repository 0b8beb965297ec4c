"""A framework between the caller and the driver's connection: it is asked for that connection at each verb, then left alone.

A session may have another connection in each of its transactions, and a framework that begins lazily must have begun before
anything is done below it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, Literal

from ...errors import NetraError
from ..statements import Row, Statement
from .driver import Driver
from .errors import NoTransaction, TransactionFailed

_FIRST: Final = "select 1"


class Guest(Driver):
    """Resolves the framework's object to a driver, and passes everything on to it."""

    def __init__(self, guest: Any, driver_of: Callable[[Any], Driver]) -> None:
        self._guest = guest
        self._driver_of = driver_of
        self._driver: Driver | None = None

    @abstractmethod
    async def _resolve(self) -> Any:
        """The driver's connection, in the framework's transaction."""

    async def ready(self) -> None:
        """See `Driver.ready`."""
        self._driver = self._driver_of(await self._resolve())

    @property
    def engine(self) -> Literal["sqlite", "postgresql"]:
        """See `Driver.engine`."""
        return self._inner.engine

    @property
    def connection(self) -> Any:
        """See `Driver.connection`."""
        return self._inner.connection

    def in_transaction(self) -> bool:
        """See `Driver.in_transaction`."""
        return self._inner.in_transaction()

    def begins_by_itself(self) -> bool:
        """See `Driver.begins_by_itself`."""
        return self._inner.begins_by_itself()

    async def control(self, sql: str) -> None:
        """See `Driver.control`."""
        await self._inner.control(sql)

    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """See `Driver.all`."""
        return await self._inner.all(statement, bound)

    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """See `Driver.execute`."""
        return await self._inner.execute(statement, bound)

    def translated(self, error: Exception) -> NetraError:
        """See `Driver.translated`."""
        return self._inner.translated(error)

    @property
    def _inner(self) -> Driver:
        assert self._driver is not None
        return self._driver


class SqlalchemyConnection(Guest):
    """SQLAlchemy's `Connection`. Its commit event comes before the commit, so nothing hangs on it."""

    async def _resolve(self) -> Any:
        self._guest.exec_driver_sql(_FIRST)
        return self._guest.connection.dbapi_connection


class SqlalchemySession(Guest):
    """SQLAlchemy's `Session`."""

    async def _resolve(self) -> Any:
        connection = self._guest.connection()
        connection.exec_driver_sql(_FIRST)
        return connection.connection.dbapi_connection

    def on_commit(self, callback: Callable[[], None]) -> None:
        """See `Driver.on_commit`."""
        _after_commit(self._guest, callback)


class AsyncSqlalchemyConnection(Guest):
    """SQLAlchemy's `AsyncConnection`."""

    asynchronous = True

    async def _resolve(self) -> Any:
        await self._guest.exec_driver_sql(_FIRST)
        return (await self._guest.get_raw_connection()).driver_connection


class AsyncSqlalchemySession(Guest):
    """SQLAlchemy's `AsyncSession`."""

    asynchronous = True

    async def _resolve(self) -> Any:
        connection = await self._guest.connection()
        await connection.exec_driver_sql(_FIRST)
        return (await connection.get_raw_connection()).driver_connection

    def on_commit(self, callback: Callable[[], None]) -> None:
        """See `Driver.on_commit`."""
        _after_commit(self._guest.sync_session, callback)


class DjangoConnection(Guest):
    """`django.db.connection`, inside `transaction.atomic()`."""

    async def _resolve(self) -> Any:
        if not self._guest.in_atomic_block:
            raise NoTransaction(fix="Enter `with transaction.atomic():` first.")
        if self._guest.needs_rollback:
            raise TransactionFailed
        self._guest.ensure_connection()
        return self._guest.connection

    def on_commit(self, callback: Callable[[], None]) -> None:
        """See `Driver.on_commit`."""
        self._guest.on_commit(callback)


def _after_commit(session: Any, callback: Callable[[], None]) -> None:
    """Once, after the session's next commit."""
    import_module("sqlalchemy.event").listen(session, "after_commit", lambda _: callback(), once=True)
