"""Adopted and own transactions in any order, with savepoints, rollbacks and keys: a model says which messages there are.

What Netra writes of its own may have to wait for the adopted transaction (SQLite's one lock; on PostgreSQL a key or a
tenant's first use), so it is begun on another thread, and is over a moment after the adopted one, whatever the order.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_backend import Netra

from ..support.adopting import House, settings_of
from ..support.places import File, Shared
from ..support.shops import KINDS, Counter, open_orders

EXAMPLES = 100
BOUND_S = 20.0
KEYS = st.sampled_from(["", "", "a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["begin", "commit", "rollback", "savepoint", "back", "release"]), st.just("")),
    st.tuples(st.sampled_from(["send", "send", "send", "write", "own commit", "own rollback"]), KEYS),
)
NUMBERS = itertools.count(1)


class Undone(Exception):
    """Raised inside a transaction of Netra's own."""


class Model:
    """The refs that must be there: those of committed transactions, whoever's."""

    def __init__(self):
        self.there = set()
        self.levels = []

    def began(self):
        self.levels = [set()]

    def sent(self, ref):
        self.levels[-1].add(ref)

    def ended(self, kept):
        self.there |= set().union(*self.levels) if kept else set()
        self.levels = []


class Run:
    """One example: a tenant of its own, a shop's connection, and a thread for what Netra does by itself."""

    def __init__(self, mine, shop, pool):
        self.mine, self.shop, self.pool = mine, shop, pool
        self.model = Model()
        self.orders = Model()
        self.tenant = mine.new_tenant()
        self.own = []
        self.own_refs = set()
        self.used_own = False

    def step(self, name, key):
        inside = bool(self.model.levels)
        if name in {"write", "own commit", "own rollback"}:
            self._by_netra(name, key)
        elif inside != (name == "begin"):
            getattr(self, f"_{name}")(key)

    def _begin(self, _):
        self.shop._begin()
        self.model.began()
        self.orders.began()

    def _send(self, key):
        ref = key or f"n{next(NUMBERS)}"
        order = f"{self.tenant}-{next(NUMBERS)}"
        self.shop._sql(f"insert into shop_order (ref) values ('{order}')")
        tx = self.mine.netra.adopt(self.shop.guest, tenant=self.tenant)
        self.mine.netra.sync.webhooks.send(tx, "order.made", {"ref": ref}, event_id=key or None)
        self.model.sent(ref)
        self.orders.sent(order)

    def _savepoint(self, _):
        self.shop._sql(f"savepoint level{len(self.model.levels)}")
        for model in (self.model, self.orders):
            model.levels.append(set())

    def _back(self, _):
        if len(self.model.levels) > 1:
            for model in (self.model, self.orders):
                model.levels.pop()
            self.shop._sql(f"rollback to savepoint level{len(self.model.levels)}")
            self.shop._sql(f"release savepoint level{len(self.model.levels)}")

    def _release(self, _):
        if len(self.model.levels) > 1:
            for model in (self.model, self.orders):
                inner = model.levels.pop()
                model.levels[-1] |= inner
            self.shop._sql(f"release savepoint level{len(self.model.levels)}")

    def _commit(self, _):
        self.shop._commit()
        self._over(kept=True)

    def _rollback(self, _):
        self.shop._rollback()
        self._over(kept=False)

    def _over(self, *, kept):
        self.model.ended(kept)
        self.orders.ended(kept)
        self._wait()

    def _by_netra(self, name, key):
        ref = key or f"n{next(NUMBERS)}"
        self.used_own = True
        self.own.append(self.pool.submit(self._write if name == "write" else self._transact, ref, key, name))
        if name != "own rollback":
            self.own_refs.add(ref)
        if not self.model.levels:
            self._wait()

    def _write(self, ref, key, _):
        async def send(tx):
            return await self.mine.netra.webhooks.send(tx, "order.made", {"ref": ref}, event_id=key or None)

        self.mine.netra.sync.write(send, tenant=self.tenant)

    def _transact(self, ref, key, name):
        with suppress(Undone), self.mine.netra.sync.transaction(tenant=self.tenant) as tx:
            self.mine.netra.sync.webhooks.send(tx, "order.made", {"ref": ref}, event_id=key or None)
            if name == "own rollback":
                raise Undone

    def _wait(self):
        for each in self.own:
            each.result(BOUND_S)
        self.own = []
        self.model.there |= self.own_refs

    def check(self):
        if self.model.levels:
            self._rollback("")
        assert self.mine.messages(self.tenant) == self.model.there
        count = self.mine.place.query(f"select count(*) from netra_message where tenant = '{self.tenant}'")[0][0]
        assert count == len(self.model.there), "one key made two messages"
        assert {ref for ref in self.mine.orders() if ref.startswith(f"{self.tenant}-")} == self.orders.there
        if not self.model.there and not self.used_own:
            assert self.mine.rows_of(self.tenant) == {}, "something is left of what was rolled back"


@contextmanager
def opened_for_threads(kind, place, folder):
    options = settings_of(folder, lease_ttl="60s", transaction_timeout="20s")
    with Netra(place.url, workers=False, environ={}, **options) as netra, ThreadPoolExecutor(8) as pool:
        open_orders(place)
        shop = KINDS[kind](Counter(place))
        shop._open()
        yield House(netra, place, receiver=None), shop, pool
        shop._close()


@pytest.fixture(scope="module", params=["sqlite3-immediate", "psycopg"])
def world(request, tmp_path_factory, postgres_server):
    folder = tmp_path_factory.mktemp("model")
    if KINDS[request.param].engine == "sqlite":
        with opened_for_threads(request.param, File(folder / "netra.db"), folder) as world:
            yield world
        return
    with postgres_server.database() as name, opened_for_threads(request.param, Shared(postgres_server, name), folder) as world:
        yield world


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps=st.lists(STEPS, max_size=14))
def test_any_order_of_adopted_and_own_transactions_leaves_what_the_model_says(world, steps):
    run = Run(*world)
    for name, key in steps:
        run.step(name, key)
    run.check()
