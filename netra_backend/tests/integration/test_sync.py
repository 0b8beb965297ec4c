"""Netra in a program without an event loop: `with Netra(...)`, and the same calls without `await` under `netra.sync`."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from netra_backend import Netra
from netra_backend.errors import CannotStart, InvalidInput, KeyReused, NestedTransaction, TransactionTimeout, UsageError
from netra_backend.kernel.ids import to_text
from netra_backend.webhooks import SignatureRejected

from ..support.adopting import settings_of
from ..support.places import File, Shared


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        yield File(tmp_path / "netra.db")
        return
    server = request.getfixturevalue("postgres_server")
    with server.database() as name:
        yield Shared(server, name)


@pytest.fixture
def netra(place, tmp_path):
    with Netra(place.url, workers=False, environ={}, **settings_of(tmp_path)) as netra:
        yield netra


def refs(place):
    return sorted(payload for (payload,) in place.query("select payload from netra_message"))


async def send(tx, payload, netra):
    return await netra.webhooks.send(tx, "order.made", payload)


def test_a_store_function_is_shipped_and_its_result_comes_back(netra, place):
    message = netra.sync.write(send, 1, netra, tenant="acme")
    assert message.startswith("msg_")
    assert refs(place) == ["1"]


def test_threads_write_at_once(netra, place):
    with ThreadPoolExecutor(8) as pool:
        sent = set(pool.map(lambda n: netra.sync.write(send, n, netra, tenant="acme"), range(40)))
    assert len(sent) == 40
    assert refs(place) == sorted(str(n) for n in range(40))


def test_an_error_passes_through_as_it_is_and_nothing_is_written(netra, place):
    async def fail(tx):
        await send(tx, 1, netra)
        raise ZeroDivisionError("of mine")

    with pytest.raises(ZeroDivisionError, match="of mine"):
        netra.sync.write(fail, tenant="acme")
    assert refs(place) == []


def test_a_transaction_is_held_over_a_block_and_committed_at_its_end(netra, place):
    with netra.sync.transaction(tenant="acme") as tx:
        first = netra.sync.webhooks.send(tx, "order.made", 1, event_id="one")
        again = netra.sync.webhooks.send(tx, "order.made", 1, event_id="one")
        with pytest.raises(KeyReused):
            netra.sync.webhooks.send(tx, "order.made", 2, event_id="one")
        assert refs(place) == []
    assert first == again
    assert refs(place) == ["1"]


def test_an_entry_and_an_event_of_ones_own_are_there_when_the_block_has_ended(netra, place):
    with pytest.raises(ZeroDivisionError), netra.sync.transaction(tenant="acme") as tx:
        netra.sync.audit.record(tx, "order.approve", "1")
        netra.sync.events.record(tx, "order.approved", {"order": 1}, "1")
        raise ZeroDivisionError
    with netra.sync.transaction(tenant="acme") as tx:
        entry = netra.sync.audit.record(tx, "order.approve", "2", before={"state": "open"}, after={"state": "approved"})
        assert [netra.sync.events.record(tx, "order.approved", {"order": 1}, "1") for _ in range(2)] == [True, False]
    rows = place.query("select id, target, before, after from netra_audit_entry where action = 'order.approve'")
    assert [(to_text("aud", id_), *rest) for id_, *rest in rows] == [(entry, "2", '{"state":"open"}', '{"state":"approved"}')]


def test_a_block_that_raises_rolls_back_and_raises_its_own_error(netra, place):
    with pytest.raises(ZeroDivisionError), netra.sync.transaction(tenant="acme") as tx:
        netra.sync.webhooks.send(tx, "order.made", 1)
        raise ZeroDivisionError
    assert refs(place) == []
    netra.sync.write(send, 2, netra, tenant="acme")


def test_a_transaction_that_cannot_begin_says_why(netra):
    with pytest.raises(InvalidInput), netra.sync.transaction(tenant="a b"):
        pytest.fail("it began")


def test_a_second_write_inside_a_held_transaction_is_refused_and_does_not_wait_for_itself(netra, place):
    with netra.sync.transaction(tenant="acme") as tx:
        with pytest.raises(NestedTransaction):
            netra.sync.write(send, 1, netra, tenant="acme")
        netra.sync.webhooks.send(tx, "order.made", 2)
    netra.sync.write(send, 3, netra, tenant="acme")
    assert refs(place) == ["2", "3"]


def test_a_transaction_held_too_long_is_rolled_back(place, tmp_path):
    with Netra(place.url, workers=False, environ={}, **settings_of(tmp_path, transaction_timeout="100ms")) as netra:
        ended = threading.Event()
        with pytest.raises(TransactionTimeout), netra.sync.transaction(tenant="acme") as tx:
            netra.sync.webhooks.send(tx, "order.made", 1)
            assert not ended.wait(0.3)
            netra.sync.webhooks.send(tx, "order.made", 2)
        assert refs(place) == []


def test_the_scope_of_the_thread_holds_on_the_loop(netra, place):
    with netra.sync.scope(tenant="acme", trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        netra.sync.write(send, 1, netra)
    assert place.query("select tenant, trace_id from netra_message") == [("acme", "0af7651916cd43dd8448eb211c80319c")]


def test_a_tenant_is_found_and_a_signature_verified(netra):
    assert netra.sync.tenant("acme") == "acme"
    with pytest.raises(SignatureRejected):
        netra.sync.webhooks.verify(
            {"webhook-id": "m", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,x"}, b"{}", "whsec_" + "A" * 32
        )


def test_what_has_no_meaning_without_a_loop_is_not_there(netra):
    for name in ("start", "stop", "sync", "database", "nonsense"):
        with pytest.raises(AttributeError, match=r"netra\.sync has no"):
            getattr(netra.sync, name)
    with pytest.raises(AttributeError):
        _ = netra.sync.webhooks.nonsense


def test_before_it_is_entered_and_after_it_is_left_nothing_waits_for_ever(tmp_path):
    netra = Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **settings_of(tmp_path))
    with pytest.raises(UsageError, match="not open"):
        netra.sync.tenant("acme")
    with netra:
        netra.sync.tenant("acme")
    with pytest.raises(UsageError, match="not open"), netra.sync.transaction(tenant="acme"):
        pytest.fail("it began")


def test_one_that_cannot_start_leaves_no_thread_behind(tmp_path):
    (tmp_path / "netra.db").mkdir()
    before = threading.active_count()
    with pytest.raises((CannotStart, Exception)), Netra(f"sqlite:///{tmp_path / 'netra.db'}", environ={}, **settings_of(tmp_path)):
        pytest.fail("it started")
    assert threading.active_count() == before


async def test_from_the_loops_own_thread_it_is_refused_and_from_another_thread_it_is_not(tmp_path):
    async with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **settings_of(tmp_path)) as netra:
        with pytest.raises(UsageError, match="wait for its own event loop") as refused:
            netra.sync.tenant("acme")
        assert "Await" in refused.value.fix
        with pytest.raises(UsageError), netra.sync.transaction(tenant="acme"):
            pytest.fail("it began")
        assert await asyncio.to_thread(netra.sync.tenant, "acme") == "acme"


async def test_an_adopted_call_runs_where_it_is_called_also_on_the_loop(tmp_path):
    async with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **settings_of(tmp_path)) as netra:
        with closing(sqlite3.connect(tmp_path / "netra.db")) as connection:
            tx = netra.sync.adopt(connection, tenant="acme")
            netra.sync.webhooks.send(tx, "order.made", 1)
            await netra.webhooks.send(tx, "order.made", 2)
            connection.commit()
    assert refs(File(tmp_path / "netra.db")) == ["1", "2"]
