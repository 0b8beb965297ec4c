"""The cache for synchronous programs: the same calls without `await`, in their own transactions, and decorated functions in any thread."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from netra_backend import Netra
from netra_backend.cache.errors import LoadTimeout
from netra_backend.cache.loads import plan_of
from netra_backend.errors import MissingTenant

from ..support.adopting import settings_of
from ..support.zygote import until


@pytest.fixture
def netra(tmp_path):
    options = {**settings_of(tmp_path), "disk_reserve_bytes": 0, "cache_lease": "20s"}
    with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **options) as netra:
        yield netra


def settled(netra):
    netra.run_blocking(netra.cache.follower.look())
    return not netra.cache.node.pending


def test_every_call_has_its_plain_form(netra):
    loads = []

    def load():
        loads.append(1)
        return {"n": len(loads)}

    with netra.scope(tenant="acme"):
        cache = netra.sync.cache
        assert [cache.get_or_load("k", load, ttl="1m", depends_on=["org:7"]) for _ in range(2)] == [{"n": 1}, {"n": 1}]
        loaded = cache.get_or_load("k", load, ttl="1m", info=True)
        assert (loaded.tier, loaded.stale) == ("l1", False)
        with netra.sync.transaction() as tx:
            cache.invalidate(tx, "org:7")
        assert cache.get_or_load("k", load, ttl="1m", depends_on=["org:7"]) == {"n": 2}
        cache.set("s", [1], ttl=60)
        assert cache.get_many(["s", "none"]) == {"s": [1]}
        cache.delete("s")
        assert cache.get("s", "gone") == "gone"
        assert cache.position().keys() == {"epoch", "applied", "pending", "lease_left_ms"}
        assert cache.probe()["stale"] == []
        assert cache.graph().keys() == {"nodes", "edges"}
    with pytest.raises(MissingTenant):
        netra.sync.cache.get("k")


def test_an_invalidation_in_an_adopted_transaction_is_there_if_and_only_if_its_owner_commits(netra, tmp_path):
    version = [1]
    with netra.scope(tenant="acme"), closing(sqlite3.connect(tmp_path / "netra.db", isolation_level=None)) as mine:

        def get():
            return netra.sync.cache.get_or_load("card", lambda: version[0], ttl="1m", depends_on=["org:7"])

        assert get() == 1
        for end, shown in (("rollback", 1), ("commit", 2)):
            mine.execute("begin immediate")
            version[0] += 1
            netra.sync.cache.invalidate(netra.adopt(mine, tenant="acme"), "org:7")
            if end == "rollback":
                version[0] -= 1
            mine.execute(end)
            assert get() == shown
        until(lambda: netra.cache.node.applied == 1 or settled(netra), "the one event is applied")
        assert get() == 2


def test_no_more_loads_than_were_allowed_are_in_progress_and_each_caller_is_answered(tmp_path):
    options = {**settings_of(tmp_path), "disk_reserve_bytes": 0, "cache_lease": "20s", "cache_loads": 2}
    with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **options) as netra:
        most, inside, lock = [], [], threading.Lock()
        full = threading.Event()

        @netra.cache.cached("n:{n}", ttl="1m")
        def load(n: int) -> int:
            with lock:
                inside.append(n)
                most.append(len(inside))
                if len(inside) == 2:
                    full.set()
            assert full.wait(20)
            with lock:
                inside.remove(n)
            return n

        def ask(n):
            with netra.scope(tenant="acme"):
                return load(n)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(12))) == list(range(12))
        assert max(most) == 2


def test_a_decorated_function_is_loaded_once_for_all_threads(netra):
    calls = []

    @netra.cache.cached("square:{n}", ttl="1m")
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    def ask(_):
        with netra.scope(tenant="acme"):
            return square(7)

    ask(0)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(50))) == {49}
    assert calls == [7]


def test_a_thread_that_waits_for_anothers_load_is_told_when_that_is_late(netra):
    begun, goes_on = threading.Event(), threading.Event()

    @netra.cache.cached("slow", ttl="1m", hard_timeout=0.05)
    def slow() -> int:
        begun.set()
        assert goes_on.wait(20)
        return 1

    def ask():
        with netra.scope(tenant="acme"):
            return slow()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask)
        assert begun.wait(20)
        with pytest.raises(LoadTimeout):
            ask()
        goes_on.set()
        assert first.result() == 1


class Interrupting(dict):
    """A tier's entries; the first look at one is when another thread has its turn."""

    def __init__(self, interrupt):
        self.thread = threading.Thread(target=interrupt)

    def __contains__(self, name):
        if self.thread.ident is None:
            self.thread.start()
            self.thread.join(0.2)  # it ends by then, or waits for this one
        return True


def test_threads_that_remember_how_to_make_values_anew_do_not_disturb_each_other(netra):
    loader, planned = netra.cache.loader, (None, None, plan_of(60, refresh=True), ())
    for number in range(17):
        loader._remember(f"acme|{number}", planned)
    entries = loader.node.tier.entries = Interrupting(lambda: loader._remember("acme|other", planned))
    loader._remember("acme|mine", planned)
    entries.thread.join()
    assert {"acme|other", "acme|mine"} <= loader._plans.keys()
    loader.node.tier.entries = {}
