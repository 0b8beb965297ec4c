"""Shops: programs with a database connection of their own, one for each kind that Netra adopts, all driven alike.

A shop begins, writes an order, sends, commits or rolls back, and so on; what it does is done on its own thread where its
library is synchronous, and in the test's loop otherwise.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import django
import psycopg
import sqlalchemy
from django.conf import settings
from django.db import connections, transaction
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from ...integrations.sqlalchemy import begin_immediate
from .places import File, Place, Shared
from .postgres import ADOPTER

ORDERS = "create table shop_order (ref text primary key)"
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Counter:
    """Where a shop finds the database that it shares with Netra."""

    place: Place

    @property
    def path(self) -> Path:
        assert isinstance(self.place, File)
        return self.place.path

    def url(self, driver: str, user: str = ADOPTER) -> str:
        """As SQLAlchemy takes it, or with no driver as everybody else does."""
        if isinstance(self.place, File):
            return f"sqlite+{driver}:///{self.place.path}"
        assert isinstance(self.place, Shared)
        url = self.place.server.url(self.place.name, user=user)
        return url.replace("postgresql://", f"postgresql+{driver}://") if driver else url


def open_orders(place: Place) -> None:
    """The shops' own table."""
    if isinstance(place, File):
        connection = sqlite3.connect(place.path, isolation_level=None)
        connection.execute(ORDERS)
        connection.close()
    else:
        assert isinstance(place, Shared)
        place.server.query(place.name, f"do $$ begin {ORDERS}; grant all on shop_order to {ADOPTER}, netra_app; end $$")


class Shop(ABC):
    """One connection of one kind. `guest` is what is adopted."""

    engine = "sqlite"
    synchronous = True

    def __init__(self, counter: Counter, user: str = ADOPTER) -> None:
        self.counter = counter
        self.user = user
        self.guest: Any = None
        self._thread = ThreadPoolExecutor(1)

    async def do(self, step, *arguments: Any) -> Any:
        """A step of the shop's own, where it does them."""
        if self.synchronous:
            return await asyncio.get_running_loop().run_in_executor(self._thread, step, *arguments)
        return await step(*arguments)

    async def open(self) -> None:
        await self.do(self._open)

    async def close(self) -> None:
        await self.do(self._close)
        self._thread.shutdown()

    async def begin(self) -> None:
        await self.do(self._begin)

    async def commit(self) -> None:
        await self.do(self._commit)

    async def rollback(self) -> None:
        await self.do(self._rollback)

    async def sql(self, text: str) -> list[tuple]:
        """A statement of the shop's; its rows."""
        return [tuple(row) for row in await self.do(self._sql, text)]

    async def order(self, ref: str) -> None:
        await self.sql(f"insert into shop_order (ref) values ('{ref}')")

    async def orders(self) -> set[str]:
        return {ref for (ref,) in await self.sql("select ref from shop_order")}

    async def send(self, netra, tx, payload: Any = None, type: str = "order.made", **options: Any) -> str:
        """Through the door that fits."""
        if self.synchronous:
            return await self.do(lambda: netra.sync.webhooks.send(tx, type, payload, **options))
        return await netra.webhooks.send(tx, type, payload, **options)

    async def receive(self, netra, tx, *request: Any) -> Any:
        """Through the door that fits."""
        if self.synchronous:
            return await self.do(lambda: netra.sync.webhooks.receive(tx, *request))
        return await netra.webhooks.receive(tx, *request)

    async def send_many(self, netra, tx, payloads: list[Any], event_ids: list[str | None]) -> list[str]:
        """Several at once."""
        messages = [{"type": "order.made", "payload": each, "event_id": key} for each, key in zip(payloads, event_ids, strict=True)]
        if self.synchronous:
            return await self.do(lambda: netra.sync.webhooks.send_many(tx, messages))
        return await netra.webhooks.send_many(tx, messages)

    async def record(self, netra, tx, action: str, target: str, **facts: Any) -> str:
        """An audit entry of the shop's own."""
        if self.synchronous:
            return await self.do(lambda: netra.sync.audit.record(tx, action, target, **facts))
        return await netra.audit.record(tx, action, target, **facts)

    async def tell(self, netra, tx, type: str, data: dict[str, Any], key: str) -> bool:
        """An event of the shop's own."""
        if self.synchronous:
            return await self.do(lambda: netra.sync.events.record(tx, type, data, key))
        return await netra.events.record(tx, type, data, key)

    @abstractmethod
    def _open(self) -> Any: ...

    @abstractmethod
    def _close(self) -> Any: ...

    @abstractmethod
    def _begin(self) -> Any: ...

    @abstractmethod
    def _sql(self, text: str) -> Any: ...

    def _commit(self) -> Any:
        return self.guest.commit()

    def _rollback(self) -> Any:
        return self.guest.rollback()


class Postgres:
    engine = "postgres"


class Sqlite3Legacy(Shop):
    """As most programs have it: the module begins, at the first statement that writes."""

    def _open(self):
        self.guest = sqlite3.connect(self.counter.path, timeout=PATIENCE_S)

    def _close(self):
        self.guest.close()

    def _begin(self):
        assert not self.guest.in_transaction

    def _sql(self, text):
        return self.guest.execute(text).fetchall()


class Sqlite3Immediate(Sqlite3Legacy):
    def _open(self):
        self.guest = sqlite3.connect(self.counter.path, timeout=PATIENCE_S, isolation_level=None)

    def _begin(self):
        self.guest.execute("begin immediate")


class AioSqlite(Shop):
    synchronous = False

    async def _open(self):
        self.guest = await aiosqlite.connect(self.counter.path, timeout=PATIENCE_S, isolation_level=None)

    async def _close(self):
        await self.guest.close()

    async def _begin(self):
        await self.guest.execute("begin immediate")

    async def _sql(self, text):
        async with self.guest.execute(text) as cursor:
            return await cursor.fetchall()


class SaConnection(Shop):
    """SQLAlchemy's Connection on the interpreter's sqlite3, with nothing set up for Netra."""

    driver = "pysqlite"

    def _open(self):
        self.engine_ = sqlalchemy.create_engine(self.counter.url(self.driver, self.user))
        self.guest = self.engine_.connect()

    def _close(self):
        self.guest.close()
        self.engine_.dispose()

    def _begin(self):
        self.guest.begin()

    def _sql(self, text):
        result = self.guest.execute(sqlalchemy.text(text))
        return result.all() if result.returns_rows else []


class SaSession(SaConnection):
    """The Session, with `begin immediate`."""

    def _open(self):
        self.engine_ = sqlalchemy.create_engine(self.counter.url(self.driver, self.user))
        if self.engine == "sqlite":
            begin_immediate(self.engine_)
        self.guest = Session(self.engine_)


class SaConnectionPsycopg(Postgres, SaConnection):
    driver = "psycopg"


class SaSessionPsycopg(Postgres, SaSession):
    driver = "psycopg"


class SaAsyncConnection(Shop):
    synchronous = False
    driver = "aiosqlite"

    async def _open(self):
        self.engine_ = create_async_engine(self.counter.url(self.driver, self.user))
        self.guest = await self.engine_.connect()

    async def _close(self):
        await self.guest.close()
        await self.engine_.dispose()

    async def _begin(self):
        await self.guest.begin()

    async def _sql(self, text):
        result = await self.guest.execute(sqlalchemy.text(text))
        return result.all() if result.returns_rows else []


class SaAsyncSession(SaAsyncConnection):
    async def _open(self):
        self.engine_ = create_async_engine(self.counter.url(self.driver, self.user))
        if self.engine == "sqlite":
            begin_immediate(self.engine_)
        self.guest = AsyncSession(self.engine_)


class SaAsyncConnectionAsyncpg(Postgres, SaAsyncConnection):
    driver = "asyncpg"


class SaAsyncSessionAsyncpg(Postgres, SaAsyncSession):
    driver = "asyncpg"


class SaAsyncConnectionPsycopg(Postgres, SaAsyncConnection):
    driver = "psycopg"


class SaAsyncSessionPsycopg(Postgres, SaAsyncSession):
    driver = "psycopg"


class Asyncpg(Postgres, Shop):
    synchronous = False

    async def _open(self):
        self.guest = await asyncpg.connect(self.counter.url("", self.user))

    async def _close(self):
        await self.guest.close()

    async def _begin(self):
        self._transaction = self.guest.transaction()
        await self._transaction.start()

    async def _commit(self):
        await self._transaction.commit()

    async def _rollback(self):
        await self._transaction.rollback()

    async def _sql(self, text):
        return await self.guest.fetch(text)


class AsyncpgPool(Asyncpg):
    async def _open(self):
        self._pool = await asyncpg.create_pool(self.counter.url("", self.user), min_size=1, max_size=1)
        self.guest = await self._pool.acquire()

    async def _close(self):
        await self._pool.release(self.guest)
        await self._pool.close()


class Psycopg(Postgres, Shop):
    def _open(self):
        self.guest = psycopg.connect(self.counter.url("", self.user))

    def _close(self):
        self.guest.close()

    def _begin(self):
        self.guest.execute("select 1")

    def _sql(self, text):
        cursor = self.guest.execute(text)
        return cursor.fetchall() if cursor.description else []


class AsyncPsycopg(Postgres, Shop):
    synchronous = False

    async def _open(self):
        self.guest = await psycopg.AsyncConnection.connect(self.counter.url("", self.user))

    async def _close(self):
        await self.guest.close()

    async def _begin(self):
        await self.guest.execute("select 1")

    async def _sql(self, text):
        cursor = await self.guest.execute(text)
        return await cursor.fetchall() if cursor.description else []


class DjangoSqlite(Shop):
    """An alias of Django's own connections, inside `atomic()`."""

    _aliases = 0

    def _open(self):
        set_django_up()
        DjangoSqlite._aliases += 1
        self.alias = f"shop{DjangoSqlite._aliases}"
        connections.settings[self.alias] = connections.configure_settings({"default": {}, self.alias: self._settings()})[self.alias]
        self.guest = connections[self.alias]

    def _settings(self):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.counter.path)}

    def _close(self):
        connections[self.alias].close()
        del connections[self.alias]
        del connections.settings[self.alias]

    def _begin(self):
        self._atomic = transaction.atomic(using=self.alias)
        self._atomic.__enter__()

    def _commit(self):
        self._atomic.__exit__(None, None, None)

    def _rollback(self):
        transaction.set_rollback(True, using=self.alias)
        self._atomic.__exit__(None, None, None)

    def _sql(self, text):
        with connections[self.alias].cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else []


class DjangoPsycopg(Postgres, DjangoSqlite):
    def _settings(self):
        parts = psycopg.conninfo.conninfo_to_dict(self.counter.url("", self.user))
        names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
        return {"ENGINE": "django.db.backends.postgresql", **{names[key]: str(value) for key, value in parts.items()}}


def set_django_up() -> None:
    """Once in a process."""
    if not settings.configured:
        settings.configure(DATABASES={"default": {}}, USE_TZ=True)
        django.setup()


KINDS: dict[str, type[Shop]] = {
    "sqlite3": Sqlite3Legacy,
    "sqlite3-immediate": Sqlite3Immediate,
    "aiosqlite": AioSqlite,
    "sa-connection-pysqlite": SaConnection,
    "sa-session-pysqlite": SaSession,
    "sa-async-connection-aiosqlite": SaAsyncConnection,
    "sa-async-session-aiosqlite": SaAsyncSession,
    "django-sqlite": DjangoSqlite,
    "asyncpg": Asyncpg,
    "asyncpg-pool": AsyncpgPool,
    "psycopg": Psycopg,
    "psycopg-async": AsyncPsycopg,
    "sa-connection-psycopg": SaConnectionPsycopg,
    "sa-session-psycopg": SaSessionPsycopg,
    "sa-async-connection-asyncpg": SaAsyncConnectionAsyncpg,
    "sa-async-session-asyncpg": SaAsyncSessionAsyncpg,
    "sa-async-connection-psycopg": SaAsyncConnectionPsycopg,
    "sa-async-session-psycopg": SaAsyncSessionPsycopg,
    "django-psycopg": DjangoPsycopg,
}


@asynccontextmanager
async def opened(kind: str, place: Place, user: str = ADOPTER):
    """A shop of that kind on the place."""
    shop = KINDS[kind](Counter(place), user)
    await shop.open()
    try:
        yield shop
    finally:
        await shop.close()
