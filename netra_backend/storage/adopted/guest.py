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
from ..errors import DatabaseError
from ..postgres_errors import state_of, translated
from ..statements import Row, Statement
from .driver import Driver
from .errors import NotAdoptable, NoTransaction, TransactionFailed

_FIRST: Final = "select 1"
_FAILED: Final = "25P02"
_WAKES: Final = "netra_wakes"


class Guest(Driver):
    """Resolves the framework's object to a driver, and passes everything on to it."""

    def __init__(self, guest: Any, driver_of: Callable[[Any], Driver]) -> None:
        self._guest = guest
        self._driver_of = driver_of
        self._driver: Driver | None = None

    @abstractmethod
    async def _resolve(self) -> Any:
        """The driver's connection, in the framework's transaction."""

    @property
    def handle(self) -> Any:
        """See `Driver.handle`."""
        return self._guest

    async def ready(self) -> None:
        """See `Driver.ready`."""
        try:
            self._driver = self._driver_of(await self._resolve())
        except NetraError:
            raise
        except Exception as error:
            raise self._refusal(error) from error

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

    def _refusal(self, error: Exception) -> NetraError:
        """Why the framework gives no connection in a transaction, in Netra's words."""
        return translated(error)

    async def pause(self) -> None:
        """See `Driver.pause`."""
        await self._inner.pause()

    @property
    def _inner(self) -> Driver:
        assert self._driver is not None
        return self._driver


class Sqlalchemy(Guest):
    """What SQLAlchemy's four have in common. They begin lazily, at their first statement."""

    recipe = "with session.begin(): (or connection.begin()), on an engine whose isolation level is not AUTOCOMMIT."

    def _refusal(self, error: Exception) -> NetraError:
        names = {kind.__name__ for kind in type(error).__mro__}
        cause: BaseException = getattr(error, "orig", None) or error
        if "PendingRollbackError" in names or state_of(cause) == _FAILED:
            return TransactionFailed(str(error))
        if "UnboundExecutionError" in names:
            return NotAdoptable(str(error), fix="Adopt the connection: session.connection(bind_arguments={...}).")
        if names & {"InvalidRequestError", "ResourceClosedError"}:
            return NoTransaction(str(error), fix=self.recipe)
        return translated(cause) if state_of(cause) else DatabaseError(f"SQLAlchemy gives no connection ({error})", fix=self.recipe)


class SqlalchemyConnection(Sqlalchemy):
    """SQLAlchemy's `Connection`. Its commit event comes before the commit, so nothing hangs on it."""

    async def _resolve(self) -> Any:
        self._guest.exec_driver_sql(_FIRST)
        return self._guest.connection.dbapi_connection


class SqlalchemySession(Sqlalchemy):
    """SQLAlchemy's `Session`, or a `scoped_session`, which stands for one."""

    def __init__(self, guest: Any, driver_of: Callable[[Any], Driver]) -> None:
        super().__init__(guest.registry() if hasattr(guest, "registry") else guest, driver_of)

    async def _resolve(self) -> Any:
        connection = self._guest.connection()
        connection.exec_driver_sql(_FIRST)
        return connection.connection.dbapi_connection

    def on_commit(self, callback: Callable[[], None]) -> None:
        """See `Driver.on_commit`."""
        _after_commit(self._guest, callback)


class AsyncSqlalchemyConnection(Sqlalchemy):
    """SQLAlchemy's `AsyncConnection`."""

    asynchronous = True
    recipe = "async with connection.begin():, on an engine whose isolation level is not AUTOCOMMIT."

    async def _resolve(self) -> Any:
        await self._guest.exec_driver_sql(_FIRST)
        return (await self._guest.get_raw_connection()).driver_connection


class AsyncSqlalchemySession(Sqlalchemy):
    """SQLAlchemy's `AsyncSession`, or an `async_scoped_session`, which stands for one."""

    asynchronous = True
    recipe = "async with session.begin():, on an engine whose isolation level is not AUTOCOMMIT."

    def __init__(self, guest: Any, driver_of: Callable[[Any], Driver]) -> None:
        super().__init__(guest.registry() if hasattr(guest, "registry") else guest, driver_of)

    async def _resolve(self) -> Any:
        connection = await self._guest.connection()
        await connection.exec_driver_sql(_FIRST)
        return (await connection.get_raw_connection()).driver_connection

    def on_commit(self, callback: Callable[[], None]) -> None:
        """See `Driver.on_commit`."""
        _after_commit(self._guest.sync_session, callback)


class DjangoConnection(Guest):
    """`django.db.connection`, inside `transaction.atomic()`."""

    drops_hooks = True
    recipe = "with transaction.atomic():"

    async def _resolve(self) -> Any:
        if not self._guest.in_atomic_block:
            raise NoTransaction(fix=f"Enter `{self.recipe}` first.")
        if self._guest.needs_rollback:
            raise TransactionFailed
        self._guest.ensure_connection()
        return self._guest.connection

    def on_commit(self, callback: Callable[[], None]) -> None:
        """See `Driver.on_commit`."""
        self._guest.on_commit(callback)


def _after_commit(session: Any, callback: Callable[[], None]) -> None:
    """Once, after the session's next commit. One listener per session, for SQLAlchemy never forgets one that has run."""
    event = import_module("sqlalchemy.event")
    session.info[_WAKES] = callback
    if not event.contains(session, "after_commit", _committed):
        event.listen(session, "after_commit", _committed)


def _committed(session: Any) -> None:
    """A savepoint that is released is an `after_commit` too, and is none."""
    if not session.in_nested_transaction() and (wake := session.info.pop(_WAKES, None)):
        wake()
