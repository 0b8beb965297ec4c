"""A caller's own transaction, adopted: chosen by the type's name, so that no guest is imported that is not there already.

tx = netra.adopt(session, tenant="acme")
await netra.webhooks.send(tx, "invoice.paid", {...})     # is there if and only if the caller commits
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...kernel.runtime import Runtime
from ...kernel.scope import Scope
from ..database import Database
from ..sqlite import Sqlite
from .asyncpg_connection import AsyncpgConnection
from .driver import Driver
from .errors import NotAdoptable
from .guest import (
    AsyncSqlalchemyConnection,
    AsyncSqlalchemySession,
    DjangoConnection,
    Guest,
    SqlalchemyConnection,
    SqlalchemySession,
)
from .postgres_tx import PostgresAdoptedTx
from .psycopg_connection import AsyncPsycopgConnection, PsycopgConnection
from .sqlite_connection import AioSqliteConnection, SqliteConnection
from .sqlite_tx import SqliteAdoptedTx
from .transaction import AdoptedTx, Host

_DRIVERS: Final[Mapping[str, Callable[[Any], Driver]]] = {
    "sqlite3.Connection": SqliteConnection,
    "aiosqlite.core.Connection": AioSqliteConnection,
    "asyncpg.connection.Connection": AsyncpgConnection,
    "asyncpg.pool.PoolConnectionProxy": AsyncpgConnection,
    "psycopg.Connection": PsycopgConnection,
    "psycopg.AsyncConnection": AsyncPsycopgConnection,
}
_GUESTS: Final[Mapping[str, type[Guest]]] = {
    "sqlalchemy.engine.base.Connection": SqlalchemyConnection,
    "sqlalchemy.orm.session.Session": SqlalchemySession,
    "sqlalchemy.orm.scoping.scoped_session": SqlalchemySession,
    "sqlalchemy.ext.asyncio.engine.AsyncConnection": AsyncSqlalchemyConnection,
    "sqlalchemy.ext.asyncio.session.AsyncSession": AsyncSqlalchemySession,
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session": AsyncSqlalchemySession,
    "django.utils.connection.ConnectionProxy": DjangoConnection,
    "django.db.backends.base.base.BaseDatabaseWrapper": DjangoConnection,
}


def adopt(guest: Any, database: Database, scope: Scope, runtime: Runtime, host: Host) -> AdoptedTx:
    """The caller's transaction as a `Tx`; `NotAdoptable` where nobody knows its kind."""
    driver = _driver_of(guest)
    if not isinstance(database, Sqlite):
        return PostgresAdoptedTx(driver, scope, runtime, host)
    return SqliteAdoptedTx(driver, scope, runtime, host, database=database)


def _driver_of(guest: Any) -> Driver:
    names = _names(guest)
    for name in names:
        if name in _DRIVERS:
            return _DRIVERS[name](guest)
        if name in _GUESTS:
            return _GUESTS[name](guest, _driver_of)
    if names[0].startswith("sqlalchemy.") and ".AsyncAdapt" in names[0]:
        raise NotAdoptable(f"a {names[0]} is seen inside run_sync only", fix="Adopt the AsyncSession or AsyncConnection, outside run_sync.")
    raise NotAdoptable(f"a {names[0]} cannot be adopted")


def _names(guest: Any) -> list[str]:
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(guest).__mro__]
