"""What cannot be adopted, and what the error says to do about it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import asyncpg
import psycopg
import pytest
import pytest_asyncio
import sqlalchemy
from django.db import connections, transaction
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from netra_backend import Netra
from netra_backend.errors import InvalidInput, MissingTenant, NotFound, TwoSqliteLibraries, UsageError
from netra_backend.storage.adopted.errors import (
    BeginImmediate,
    NotAdoptable,
    NoTransaction,
    OtherDatabase,
    TransactionFailed,
    WrongDoor,
)
from netra_backend.storage.errors import DatabaseBusy, DatabaseError, DatabaseUnreachable
from netra_backend.webhooks.errors import UnknownEventType

from ..support.adopting import house, houses, settings_of
from ..support.places import File, Shared
from ..support.shops import KINDS, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory, postgres_server):
    async with houses(tmp_path_factory.mktemp("adopt"), postgres_server, workers=False) as both:
        yield both


def set_autocommit(shop):
    """The connection as one whose statements are each committed by themselves."""
    if isinstance(shop.guest, psycopg.Connection):
        shop.guest.autocommit = True
    elif isinstance(shop.guest, sqlite3.Connection):
        shop.guest.isolation_level = None


async def set_autocommit_apart(shop):
    if isinstance(shop.guest, psycopg.AsyncConnection):
        await shop.guest.set_autocommit(True)


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("sqlite3", 'connection.execute("begin immediate")'),
        ("aiosqlite", 'await connection.execute("begin immediate")'),
        ("asyncpg", "async with connection.transaction():"),
        ("asyncpg-pool", "async with connection.transaction():"),
        ("psycopg", "with connection.transaction():"),
        ("psycopg-async", "async with connection.transaction():"),
        ("django-sqlite", "with transaction.atomic():"),
        ("django-psycopg", "with transaction.atomic():"),
    ],
)
async def test_a_connection_in_no_transaction_is_refused_with_the_recipe(both, kind, recipe):
    mine = both[KINDS[kind].engine]
    async with opened(kind, mine.place) as shop:
        await (shop.do(set_autocommit, shop) if shop.synchronous else set_autocommit_apart(shop))
        with pytest.raises(NoTransaction) as refused:
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="nobody"), {})
        assert recipe in refused.value.fix
    assert mine.rows_of("nobody") == {}


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("sa-session-pysqlite", "with session.begin():"),
        ("sa-session-psycopg", "with session.begin():"),
        ("sa-async-session-aiosqlite", "async with session.begin():"),
        ("sa-async-session-asyncpg", "async with session.begin():"),
    ],
)
@pytest.mark.parametrize("options", [{"autobegin": False}, {"isolation_level": "AUTOCOMMIT"}], ids=["no autobegin", "AUTOCOMMIT"])
async def test_a_session_that_will_not_begin_is_refused_with_the_recipe(both, kind, recipe, options):
    mine = both[KINDS[kind].engine]
    async with opened(kind, mine.place) as shop:
        url, of_engine = shop.engine_.url, {key: value for key, value in options.items() if key == "isolation_level"}
        of_session = {key: value for key, value in options.items() if key == "autobegin"}
        make = sqlalchemy.create_engine if shop.synchronous else create_async_engine
        engine = make(url, **of_engine)
        session = (Session if shop.synchronous else AsyncSession)(engine, **of_session)
        try:
            with pytest.raises(NoTransaction) as refused:
                await shop.send(mine.netra, mine.netra.adopt(session, tenant="nobody"), {})
            assert recipe in refused.value.fix
        finally:
            await (shop.do(lambda: (session.close(), engine.dispose())) if shop.synchronous else _closed(session, engine))


async def _closed(session, engine):
    await session.close()
    await engine.dispose()


async def test_a_session_whose_transaction_is_over_inside_its_block_is_refused(both):
    mine = both["sqlite"]
    engine = sqlalchemy.create_engine(f"sqlite:///{mine.place.path}")
    with Session(engine) as session, pytest.raises(NoTransaction), session.begin():
        session.commit()
        mine.netra.sync.webhooks.send(mine.netra.adopt(session, tenant="nobody"), "order.made", {})
    engine.dispose()


@pytest.fixture
def deferred(both):
    with closing(sqlite3.connect(both["sqlite"].place.path, isolation_level=None)) as connection:
        connection.execute("begin")
        yield connection


def send(mine, guest, tenant="acme"):
    return mine.netra.sync.webhooks.send(mine.netra.adopt(guest, tenant=tenant), "order.made", {"ref": "1"})


async def test_a_transaction_that_has_read_is_refused_each_time_and_may_go_on_reading(both, deferred):
    deferred.execute("select count(*) from shop_order").fetchall()
    for _ in range(5):
        with pytest.raises(BeginImmediate) as refused:
            send(both["sqlite"], deferred)
    assert "begin immediate" in refused.value.fix
    assert deferred.execute("select count(*) from shop_order").fetchall() == [(0,)]
    deferred.execute("rollback")


async def test_a_deferred_transaction_that_has_not_read_may_send(both, deferred):
    send(both["sqlite"], deferred)
    deferred.execute("rollback")


async def test_a_transaction_that_wrote_before_it_read_may_send(both, deferred):
    deferred.execute("insert into shop_order (ref) values ('wrote first')")
    deferred.execute("select count(*) from shop_order").fetchall()
    send(both["sqlite"], deferred)
    deferred.execute("rollback")


@pytest.mark.parametrize("ends", ["commit", "rollback"])
async def test_a_transaction_that_has_read_is_refused_beside_a_writer_that_has_the_lock(both, deferred, ends):
    """Told BUSY and not BUSY_SNAPSHOT at first, it is not taken for one that only has to wait."""
    mine, locked, let_go = both["sqlite"], threading.Event(), threading.Event()

    def hold_the_lock():
        with closing(sqlite3.connect(mine.place.path, isolation_level=None)) as other:
            other.execute("begin immediate")
            other.execute("delete from shop_order where ref = 'nothing'")
            locked.set()
            let_go.wait(10)
            other.execute(ends)

    deferred.execute("select count(*) from shop_order").fetchall()
    holding = asyncio.create_task(asyncio.to_thread(hold_the_lock))
    await asyncio.to_thread(locked.wait, 10)
    threading.Timer(0.05, let_go.set).start()
    with pytest.raises(BeginImmediate):
        send(mine, deferred)
    await holding
    deferred.execute("rollback")


async def test_a_transaction_that_has_read_is_refused_beside_a_busy_writer(both, deferred):
    mine, stop = both["sqlite"], asyncio.Event()

    async def touch(tx):
        await mine.netra.webhooks.send(tx, "noise.made", {})

    async def be_busy():
        while not stop.is_set():
            await asyncio.gather(*(mine.netra.write(touch, tenant="noisy") for _ in range(20)))

    busy = [asyncio.create_task(be_busy()) for _ in range(2)]
    outcomes = await asyncio.to_thread(_tries, mine, 20)
    stop.set()
    await asyncio.gather(*busy)
    assert outcomes == {"BeginImmediate"}


def _tries(mine, count):
    outcomes = set()
    for _ in range(count):
        with closing(sqlite3.connect(mine.place.path, isolation_level=None)) as connection:
            connection.execute("begin")
            connection.execute("select count(*) from shop_order").fetchall()
            try:
                send(mine, connection)
            except UsageError as error:
                outcomes.add(type(error).__name__)
            else:
                outcomes.add("sent")
    return outcomes


async def test_whoever_waits_for_the_lock_longer_than_its_own_patience_is_told_that_it_is_busy(both):
    mine = both["sqlite"]
    with closing(sqlite3.connect(mine.place.path, isolation_level=None)) as other:
        other.execute("begin immediate")
        for patience_s, begin in ((0.02, "begin"), (0.02, "")):
            with closing(sqlite3.connect(mine.place.path, timeout=patience_s)) as connection:
                if begin:
                    connection.execute(begin)
                    connection.execute("select count(*) from shop_order").fetchall()
                with pytest.raises(DatabaseBusy):
                    send(mine, connection)
                assert connection.in_transaction == bool(begin)


async def test_a_read_inside_atomic_is_refused_with_djangos_recipe(both):
    mine = both["sqlite"]
    async with opened("django-sqlite", mine.place) as shop:
        await shop.begin()
        await shop.orders()
        with pytest.raises(BeginImmediate, match=r"read before it wrote") as refused:
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="acme"), {})
        assert '"transaction_mode": "IMMEDIATE"' in refused.value.fix
        await shop.rollback()


@pytest.mark.parametrize("kind", ["psycopg", "psycopg-async", "asyncpg", "sa-connection-psycopg", "sa-async-session-asyncpg"])
async def test_a_transaction_that_has_failed_is_refused(both, kind):
    mine = both["postgres"]
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        with pytest.raises(Exception, match="no_such_table"):
            await shop.sql("select * from no_such_table")
        with pytest.raises(TransactionFailed):
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="nobody"), {})
        await shop.rollback()
    assert mine.rows_of("nobody") == {}


async def test_a_session_whose_flush_failed_is_refused(both):
    mine = both["sqlite"]
    engine = sqlalchemy.create_engine(f"sqlite:///{mine.place.path}")
    table = sqlalchemy.Table("shop_order", sqlalchemy.MetaData(), sqlalchemy.Column("ref", sqlalchemy.Text, primary_key=True))
    order = type("Order", (), {})
    sqlalchemy.orm.registry().map_imperatively(order, table)
    with Session(engine) as session:
        session.execute(sqlalchemy.text("insert into shop_order (ref) values ('twice')"))
        session.add(order(ref="twice"))
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            session.flush()
        with pytest.raises(TransactionFailed):
            send(mine, session)
    engine.dispose()


@pytest.mark.parametrize("kind", ["django-sqlite", "django-psycopg"])
async def test_an_atomic_block_that_must_roll_back_is_refused(both, kind):
    mine = both[KINDS[kind].engine]
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.do(lambda: transaction.set_rollback(True, using=shop.alias))
        with pytest.raises(TransactionFailed):
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="nobody"), {})
        await shop.do(lambda: transaction.set_rollback(False, using=shop.alias))
        await shop.rollback()


async def test_what_nobody_knows_how_to_adopt_is_refused_and_the_error_lists_the_kinds(both):
    mine = both["sqlite"]
    engine = sqlalchemy.create_engine("sqlite://")
    for guest in (object(), None, engine, "sqlite:///x.db", sqlite3.connect(":memory:").cursor(), connections):
        with pytest.raises(NotAdoptable) as refused:
            mine.netra.adopt(guest, tenant="acme")
        assert all(
            kind in refused.value.fix for kind in ("Session", "AsyncSession", "Connection", "django", "asyncpg", "psycopg", "sqlite3")
        )
    async with asyncpg.create_pool(both["postgres"].place.url, min_size=0) as pool:
        with pytest.raises(NotAdoptable, match=r"asyncpg\.pool\.Pool"):
            both["postgres"].netra.adopt(pool, tenant="acme")


async def test_a_session_of_several_databases_is_adopted_by_its_connection(both):
    mine = both["sqlite"]
    with Session() as session, pytest.raises(NotAdoptable) as refused:
        send(mine, session)
    assert "session.connection(" in refused.value.fix


async def test_the_session_inside_run_sync_is_refused_with_what_to_adopt_instead(both):
    mine = both["postgres"]
    async with opened("sa-async-session-asyncpg", mine.place) as shop:
        await shop.begin()
        with pytest.raises(NotAdoptable) as refused:
            await shop.guest.run_sync(lambda session: send(mine, session))
        assert "outside run_sync" in refused.value.fix
        await shop.rollback()


@pytest.mark.parametrize("kind", [name for name, shop in KINDS.items() if not shop.synchronous])
async def test_an_asynchronous_connection_cannot_be_used_through_the_synchronous_door(both, kind):
    mine = both[KINDS[kind].engine]
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        with pytest.raises(WrongDoor) as refused:
            mine.netra.sync.webhooks.send(mine.netra.adopt(shop.guest, tenant="acme"), "order.made", {})
        assert "Await" in refused.value.fix
        await shop.rollback()


async def test_no_tenant_and_what_cannot_name_one_are_refused(both, deferred):
    netra = both["sqlite"].netra
    with pytest.raises(MissingTenant):
        netra.adopt(deferred)
    with pytest.raises(MissingTenant):
        netra.adopt(deferred, tenant="")
    for name in ("*", "a b", "a'b", "x" * 257):
        with pytest.raises(InvalidInput):
            netra.adopt(deferred, tenant=name)


async def test_a_netra_that_is_not_open_adopts_nothing(both, deferred, tmp_path):
    netra = Netra(f"sqlite:///{tmp_path / 'x.db'}", environ={}, **settings_of(tmp_path))
    with pytest.raises(UsageError, match="not open"):
        netra.adopt(deferred, tenant="acme")
    async with netra:
        tx = netra.adopt(deferred, tenant="acme")
    with pytest.raises(UsageError, match="not open"):
        netra.adopt(deferred, tenant="acme")
    with pytest.raises(Exception, match="closed"):
        await netra.webhooks.send(tx, "order.made", {})


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_strict_settings_hold_in_a_callers_transaction_too(postgres_server, tmp_path, engine):
    kind = {"sqlite": "sqlite3-immediate", "postgres": "psycopg"}[engine]
    with postgres_server.database() as name:
        place = {"sqlite": File(tmp_path / "netra.db"), "postgres": Shared(postgres_server, name)}[engine]
        async with house(tmp_path, place, workers=False, tenants="strict", event_types="strict") as mine:
            async with opened(kind, place) as shop:
                await shop.begin()
                with pytest.raises(NotFound) as refused:
                    await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="stranger"), {})
                assert refused.value.fix == "Make it: netra tenant create stranger"
                await shop.order("kept")
                await shop.commit()
                async with Netra(place.url, workers=False, environ={}, **settings_of(tmp_path)) as lenient:
                    await lenient.tenant("acme")
                await shop.begin()
                with pytest.raises(UnknownEventType):
                    await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="acme"), {})
                await shop.commit()
            assert mine.rows_of("stranger") == {}
            assert mine.messages("acme") == set()
            assert mine.orders() == {"kept"}


async def test_another_file_a_copy_of_the_file_and_memory_are_other_databases(both, tmp_path):
    mine = both["sqlite"]
    with closing(sqlite3.connect(mine.place.path)) as connection, closing(sqlite3.connect(tmp_path / "copy.db")) as copied:
        connection.backup(copied)
    for target in (tmp_path / "copy.db", tmp_path / "empty.db", ":memory:", ""):
        with closing(sqlite3.connect(target)) as connection, pytest.raises(OtherDatabase):
            send(mine, connection)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("attach ? as ours", (str(mine.place.path),))
        with pytest.raises(OtherDatabase):
            send(mine, connection)


async def test_the_same_file_under_another_name_is_ours(both, tmp_path):
    mine = both["sqlite"]
    (tmp_path / "link.db").symlink_to(mine.place.path)
    with closing(sqlite3.connect(tmp_path / "link.db")) as connection:
        send(mine, connection)
        connection.rollback()


@pytest.mark.parametrize("migrated", [True, False], ids=["another installation", "none of ours"])
@pytest.mark.parametrize("kind", ["asyncpg", "psycopg"])
async def test_another_database_of_the_server_is_another_database(both, postgres_server, kind, migrated):
    mine = both["postgres"]
    with postgres_server.database(migrated=migrated) as name:
        if migrated:
            async with Netra(postgres_server.url(name), workers=False, environ={}, **settings_of(mine.netra.settings.data)):
                pass
        async with opened(kind, Shared(postgres_server, name)) as shop:
            await shop.begin()
            with pytest.raises(OtherDatabase):
                await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="acme"), {})
            assert await shop.sql("select current_setting('role')") == [("none",)]
            await shop.rollback()


async def test_a_connection_to_the_other_engine_is_another_database(both):
    for here, kind in (("sqlite", "asyncpg"), ("postgres", "sqlite3"), ("sqlite", "sa-session-psycopg"), ("postgres", "django-sqlite")):
        there = both[KINDS[kind].engine]
        async with opened(kind, there.place) as shop:
            await shop.begin()
            with pytest.raises(OtherDatabase, match=r"PostgreSQL's.*SQLite's|SQLite's.*PostgreSQL's"):
                await shop.send(both[here].netra, both[here].netra.adopt(shop.guest, tenant="acme"), {})
            await shop.rollback()


async def test_under_apsw_the_interpreters_connection_is_a_second_library(tmp_path):
    """One that was made before the audit hook could see it, or over another name."""
    other = tmp_path / "elsewhere.db"
    async with Netra(
        f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, sqlite_driver="apsw", **settings_of(tmp_path)
    ) as netra:
        with closing(sqlite3.connect(other)) as connection, pytest.raises(TwoSqliteLibraries) as refused:
            netra.sync.webhooks.send(netra.adopt(connection, tenant="acme"), "order.made", {})
        assert 'sqlite_driver="sqlite3"' in refused.value.fix


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg", "asyncpg", "sa-connection-psycopg"])
async def test_a_closed_connection_says_so(both, kind):
    mine = both[KINDS[kind].engine]
    async with opened(kind, mine.place) as shop:
        tx = mine.netra.adopt(shop.guest, tenant="acme")
        await (shop.do(shop.guest.close) if shop.synchronous else shop.guest.close())
        with pytest.raises((DatabaseError, DatabaseUnreachable, NoTransaction), match=re.compile("closed|No transaction")):
            await shop.send(mine.netra, tx, {})


FORK = """
import asyncio, os, sqlite3, sys
from netra_backend import Netra

path, root_keys = sys.argv[1:]

def child(netra, connection, tx):
    said = []
    for call in (
        lambda: netra.adopt(connection, tenant="acme"),
        lambda: netra.sync.webhooks.send(tx, "order.made", {}),
        lambda: netra.sync.tenant("acme"),
    ):
        try:
            call()
            said.append("nothing")
        except Exception as error:
            said.append(type(error).__name__)
    print(*said, flush=True)

with Netra("sqlite:///" + path, workers=False, root_keys=root_keys) as netra:
    connection = sqlite3.connect(path)  # before: SQLite's own locks, which a thread may hold just now, stay held in a child
    tx = netra.adopt(connection, tenant="acme")
    pid = os.fork()
    if pid == 0:
        child(netra, connection, tx)
        os._exit(0)
    os.waitpid(pid, 0)
"""


async def test_a_forked_child_is_refused_and_does_not_wait_for_a_loop_that_it_does_not_have(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "netra.db"), str(tmp_path / "root.keys")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["ForkedRuntime"] * 3, done.stderr
