"""An adopted connection is left as it was found: its factories, its transaction, its lock, whatever happens in a call."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import namedtuple
from contextlib import closing

import asyncpg
import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from netra_backend.errors import InvalidInput, UsageError
from netra_backend.kernel.scope import TraceContext
from netra_backend.storage.adopted.errors import ConnectionBusy, OutsideVerb
from netra_backend.storage.statements import Statements

from ..support.adopting import houses
from ..support.shops import KINDS, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")
Q = Statements("netra_backend.storage")
ASYNCHRONOUS = [name for name, shop in KINDS.items() if not shop.synchronous]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory, postgres_server):
    async with houses(tmp_path_factory.mktemp("adopt"), postgres_server, workers=False) as both:
        yield both


def send(mine, guest, tenant, ref="1", **options):
    return mine.netra.sync.webhooks.send(mine.netra.adopt(guest, tenant=tenant), "order.made", {"ref": ref}, **options)


async def test_the_row_and_text_factories_of_sqlite3_do_not_matter_and_stay(both):
    mine, tenant = both["sqlite"], both["sqlite"].new_tenant()

    class Cursor(sqlite3.Cursor):
        def execute(self, *_):
            raise AssertionError("the caller's cursor")

    def named(cursor, row):
        return namedtuple("Named", [f"c_{n}" for n, _ in enumerate(cursor.description)])(*row)  # noqa: PYI024

    for factory, text in ((sqlite3.Row, bytes), (named, lambda data: data.decode().upper()), (lambda *_: {}, str)):
        with closing(sqlite3.connect(mine.place.path)) as connection:
            connection.row_factory, connection.text_factory = factory, text
            send(mine, connection, tenant, event_id="once")
            with pytest.raises(InvalidInput):
                mine.netra.sync.webhooks.send(mine.netra.adopt(connection, tenant=tenant), "no type", {})
            assert (connection.row_factory, connection.text_factory) == (factory, text)
            connection.commit()
    assert mine.messages(tenant) == {"1"}


async def test_the_row_and_cursor_factories_of_psycopg_do_not_matter_and_stay(both):
    mine, tenant = both["postgres"], both["postgres"].new_tenant()
    url = mine.place.server.url(mine.place.name, user="netra_test_shop")
    for options in ({"row_factory": dict_row}, {"cursor_factory": psycopg.ClientCursor}, {"cursor_factory": psycopg.RawCursor}):
        with psycopg.connect(url, **options) as connection:
            send(mine, connection, tenant, event_id="once")
            assert all(getattr(connection, name) is value for name, value in options.items())
    assert mine.messages(tenant) == {"1"}


async def test_the_record_class_of_asyncpg_does_not_matter(both):
    mine, tenant = both["postgres"], both["postgres"].new_tenant()

    class Record(asyncpg.Record):
        def __getattr__(self, name):
            return self[name]

    url = mine.place.server.url(mine.place.name, user="netra_test_shop")
    connection = await asyncpg.connect(url, record_class=Record)
    async with connection.transaction():
        await mine.netra.webhooks.send(mine.netra.adopt(connection, tenant=tenant), "order.made", {"ref": "1"}, event_id="once")
    await connection.close()
    assert mine.messages(tenant) == {"1"}


async def test_a_first_call_that_fails_leaves_no_transaction_and_no_lock_behind(both):
    """The sqlite3 module has begun for it, and its user does not know that anything is open."""
    mine = both["sqlite"]
    for kind in ("sqlite3", "sa-connection-pysqlite"):
        async with opened(kind, mine.place) as shop, opened("sqlite3-immediate", mine.place) as other:
            with pytest.raises(InvalidInput):
                await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="nobody"), {}, type="no type")
            await other.sql("pragma busy_timeout = 2000")  # Netra's own beats take the lock for a moment too
            await other.begin()
            await other.rollback()
    assert mine.rows_of("nobody") == {}


async def test_a_connection_that_commits_by_itself_may_begin_by_its_librarys_own_block(both):
    mine, tenant = both["postgres"], both["postgres"].new_tenant()
    url = mine.place.server.url(mine.place.name, user="netra_test_shop")
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction():
            send(mine, connection, tenant)
        with pytest.raises(ZeroDivisionError), connection.transaction():
            send(mine, connection, tenant, "2")
            raise ZeroDivisionError
    assert mine.messages(tenant) == {"1"}


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg-async", "aiosqlite", "sa-async-session-asyncpg"])
async def test_two_calls_at_once_on_one_connection_are_refused_and_harm_nothing(both, kind):
    mine = both[KINDS[kind].engine]
    tenant = mine.new_tenant()
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.order(f"{tenant}-1")
        one, other = (mine.netra.adopt(shop.guest, tenant=tenant) for _ in range(2))
        calls = [shop.send(mine.netra, tx, {"ref": str(n)}) for n, tx in enumerate((one, one, other))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, UsageError)]
        assert len(refused) >= 1
        assert all(
            isinstance(error, ConnectionBusy) or "another operation" in str(error) or "concurrent" in str(error) for error in refused
        )
        await shop.send(mine.netra, one, {"ref": "after"})
        await shop.commit()
    assert mine.messages(tenant) == {"after"} | {str(n) for n, outcome in enumerate(outcomes) if isinstance(outcome, str)}


async def test_a_statement_of_netras_outside_a_call_is_refused(both):
    mine = both["sqlite"]
    with closing(sqlite3.connect(mine.place.path)) as connection:
        tx = mine.netra.adopt(connection, tenant="acme")
        for ask in (tx.all, tx.execute):
            with pytest.raises(OutsideVerb):
                await ask(Q.tenant_by_name)


class Cancelling:
    """Cancels the caller's task at the nth statement, while that is on its way."""

    def __init__(self, driver, nth):
        self._driver = driver
        self.left = nth
        self.task = None

    def __getattr__(self, name):
        found = getattr(self._driver, name)
        return self._counted(found) if name in {"all", "execute", "control"} else found

    def _counted(self, call):
        async def run(*arguments):
            self.left -= 1
            if self.left == 0:
                self.task.cancel()
            return await call(*arguments)

        return run


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg-async", "aiosqlite", "sa-async-session-asyncpg"])
async def test_a_call_cancelled_at_any_statement_is_undone_and_the_transaction_goes_on(both, kind):
    mine = both[KINDS[kind].engine]
    tenant = mine.new_tenant()
    await mine.netra.tenant(tenant)
    nth, cancelled = 0, True
    while cancelled:
        nth += 1
        async with opened(kind, mine.place) as shop:
            await shop.begin()
            await shop.order(f"{tenant}-{nth}")
            tx = mine.netra.adopt(shop.guest, tenant=tenant)
            mine.netra.webhooks.schemas.forget()  # read anew each time, so that every call has as many statements as the others
            tx.driver = Cancelling(tx.driver, nth)
            sending = tx.driver.task = asyncio.ensure_future(shop.send(mine.netra, tx, {"ref": f"cut-{nth}"}, event_id=f"cut-{nth}"))
            cancelled = await asyncio.wait([sending]) and sending.cancelled()
            tx.driver.left = 0
            if shop.engine == "postgres":
                assert await shop.sql("select current_setting('role'), coalesce(current_setting('netra.tenant', true), '')") == [
                    ("none", "")
                ]
            await shop.send(mine.netra, tx, {"ref": f"whole-{nth}"})
            await shop.commit()
    assert nth > 8
    ends = {f"cut-{n}" for n in range(nth - 2, nth + 1)}
    messages = mine.messages(tenant)
    assert {f"whole-{n}" for n in range(1, nth + 1)} <= messages
    assert {f"cut-{nth}"} <= {ref for ref in messages if ref.startswith("cut")} <= ends, "one that was cut before its end is there"
    keys = {key for (key,) in mine.place.query(f"select key from netra_idempotency where tenant = '{tenant}'")}
    assert keys == messages & ends
    assert {f"{tenant}-{n}" for n in range(1, nth + 1)} <= mine.orders()


async def test_a_scoped_session_is_the_session_that_it_stands_for(both):
    mine, tenant = both["sqlite"], both["sqlite"].new_tenant()
    async with opened("sa-session-pysqlite", mine.place) as shop:
        factory = sessionmaker(shop.engine_)
        registry = scoped_session(factory)
        with registry.begin():
            send(mine, registry, tenant)
        registry.remove()
        assert mine.messages(tenant) == {"1"}
        other = factory()
        assert not other.dispatch.after_commit, "a listener for every session of the factory"
        other.close()


async def test_a_session_keeps_one_listener_however_often_it_sends(both):
    mine, tenant = both["sqlite"], both["sqlite"].new_tenant()
    async with opened("sa-session-pysqlite", mine.place) as shop:
        with Session(shop.engine_) as session:
            for _ in range(3):
                with session.begin():
                    send(mine, session, tenant)
                    send(mine, session, tenant)
            assert len(list(session.dispatch.after_commit)) == 1


async def test_a_trace_is_begun_where_nobody_traces(both):
    netra = both["sqlite"].netra
    assert netra.trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").span_id == "b7ad6b7169203331"
    for header in (None, "", "nonsense", f"00-{'0' * 32}-{'0' * 16}-01"):
        begun = netra.trace(header)
        assert TraceContext.parse(begun.traceparent) == begun
    with netra.scope("acme", trace=begun), netra.scope("acme", "somebody") as inner:
        assert (inner.trace, inner.actor) == (begun, "somebody")
