"""Django's cache and the ORM's transaction, and what another process serves meanwhile; on either engine."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from django.db import transaction

from netra_backend.errors import UsageError
from netra_backend.storage.adopted.errors import OneTenant

from ..support.cache.server import Server
from ..support.django_caches import cache_of, look, opened
from ..support.places import File, Shared
from ..support.shops import KINDS, Counter, open_orders
from ..support.zygote import until


@pytest.fixture(params=["sqlite", "psycopg"])
def shop(request, tmp_path):
    """(two processes' views of one database, a Django alias of it in this thread)"""
    kind = KINDS[f"django-{request.param}"]
    if request.param == "sqlite":
        yield from shops(kind, File(tmp_path / "netra.db"), tmp_path)
        return
    postgres = request.getfixturevalue("postgres_server")
    with postgres.database() as name:
        yield from shops(kind, Shared(postgres, name), tmp_path)


def shops(kind, place, tmp_path):
    with opened(place, tmp_path) as one, opened(place, tmp_path) as two, one.scope(tenant="acme"):
        open_orders(place)
        shop = kind(Counter(place))
        shop._open()
        try:
            yield one, two, shop
        finally:
            shop._close()


def insert(shop, ref):
    shop._sql(f"insert into shop_order (ref) values ('{ref}')")


def both_caches(shop):
    one, two, django = shop
    return cache_of(one, DATABASE=django.alias), cache_of(two, DATABASE=django.alias)


def events(netra):
    """How many invalidations stand in the log, once all are numbered."""
    until(lambda: look(netra), "numbered")
    return netra.cache.node.applied


def test_what_an_orm_transaction_invalidates_is_dropped_everywhere_when_it_commits_and_not_when_it_is_rolled_back(shop):
    one, two, django = shop
    mine, others = both_caches(shop)
    others.set("card", "old", depends_on=["org:7"])
    before = events(two)

    def change():
        django._begin()
        insert(django, "a")
        one.sync.cache.invalidate(one.adopt(django.guest, "acme"), "org:7")

    change()
    django._rollback()
    assert events(two) == before
    assert others.get("card") == "old"
    change()
    django._commit()
    until(lambda: look(two) and others.get("card") is None, "dropped in the other process")
    assert mine.get("card") is None
    assert events(two) == before + 1


def test_what_is_set_in_a_transaction_is_kept_after_its_commit_and_a_rollback_changes_nothing(shop):
    one, two, django = shop
    mine, others = both_caches(shop)
    others.set("k", "old")
    before = events(two)
    django._begin()
    insert(django, "a")
    mine.set("k", "never")
    assert mine.add("added", "never")
    mine.delete("k")
    mine.clear()
    django._rollback()
    assert events(two) == before
    assert (others.get("k"), others.get("added")) == ("old", None)
    django._begin()
    insert(django, "b")
    mine.set("k", "new", depends_on=["org:7"])
    assert mine.get("k") is None  # not yet: it may still be rolled back
    assert (look(two), others.get("k")) == (True, "old")
    django._commit()
    assert mine.get("k") == "new"
    until(lambda: look(two) and others.get("k") is None, "the old value is gone in the other process")
    with one.sync.transaction() as tx:
        one.sync.cache.invalidate(tx, "org:7")
    assert mine.get("k") is None


def test_after_a_rollback_the_process_that_rolled_back_serves_again_what_it_keeps(shop):
    one, _, django = shop
    mine, _ = both_caches(shop)
    mine.set("k", "old", depends_on=["org:7"])
    django._begin()
    insert(django, "a")
    one.sync.cache.invalidate(one.adopt(django.guest, "acme"), "org:7")
    assert mine.get("k") is None
    with transaction.atomic(using=django.alias):
        mine.clear()
        transaction.set_rollback(True, using=django.alias)
    assert mine.get("k") is None  # the outer one is not over
    django._rollback()
    until(lambda: mine.get("k") == "old", "it knows that nothing was invalidated")


def test_after_a_commit_whose_hooks_were_not_run_nothing_older_is_served(shop):
    one, two, django = shop
    mine, _ = both_caches(shop)
    mine.set("k", "old")
    before = events(two)
    django._begin()
    insert(django, "a")
    transaction.on_commit(lambda: 1 / 0, using=django.alias)
    mine.set("k", "new")
    with pytest.raises(ZeroDivisionError):
        django._commit()
    assert mine.get("k") is None
    until(lambda: look(one) and mine.get("k", "none") == "none", "resolved")
    assert events(two) == before + 1
    assert mine.get("k") is None


def test_what_is_deleted_or_cleared_in_a_transaction_goes_with_its_commit(shop):
    _, two, django = shop
    mine, others = both_caches(shop)
    for step in (lambda: mine.delete("k"), mine.clear, lambda: mine.set("k", 1, 0), lambda: mine.touch("k", 0)):
        others.set("k", "old")
        django._begin()
        insert(django, f"{time.monotonic_ns()}")
        step()
        assert (look(two), others.get("k")) == (True, "old")
        django._commit()
        until(lambda: look(two) and others.get("k") is None, "gone")


def test_in_a_transaction_a_function_is_called_and_its_value_not_kept(shop):
    _, _, django = shop
    mine, _ = both_caches(shop)
    django._begin()
    insert(django, "a")
    assert mine.get_or_set("k", lambda: "what may be rolled back") == "what may be rolled back"
    django._rollback()
    assert mine.get("k") is None
    assert mine.get_or_set("k", lambda: "true") == "true"
    django._begin()
    assert mine.get_or_set("k", lambda: "other") == "true"
    django._commit()


def test_a_transaction_of_one_tenant_takes_no_writes_of_a_cache_that_names_another(shop):
    one, _, django = shop
    mine, named = cache_of(one, DATABASE=django.alias), cache_of(one, DATABASE=django.alias, TENANT="globex")
    django._begin()
    insert(django, "a")
    mine.set("k", 1)
    with pytest.raises(OneTenant):
        named.set("k", 2)
    django._commit()
    assert (mine.get("k"), named.get("k")) == (1, None)


def test_a_number_is_counted_in_a_transaction_if_that_commits(shop):
    _, _, django = shop
    mine, _ = both_caches(shop)
    mine.set("n", 1)
    django._begin()
    insert(django, "a")
    assert mine.incr("n") == 2
    django._commit()
    assert mine.get("n") == 2


# Two processes


def test_of_two_processes_neither_serves_what_the_other_has_replaced(shop):
    _, two, _ = shop
    mine, others = both_caches(shop)
    for number in range(3):
        others.set("k", f"old {number}")
        mine.set("k", f"new {number}")
        look(two)
        assert (mine.get("k"), others.get("k")) == (f"new {number}", None)


def test_no_read_that_begins_a_lease_after_a_set_is_given_what_was_kept_before(tmp_path):
    place = File(tmp_path / "netra.db")
    with opened(place, tmp_path, cache_lease="1s") as one, opened(place, tmp_path, cache_lease="1s") as two, one.scope(tenant="acme"):
        mine, others = cache_of(one), cache_of(two)
        others.set("k", "old")
        mine.set("k", "new")
        committed = time.monotonic()

        def is_gone():
            began = time.monotonic()
            found = others.get("k")
            assert found is None or began <= committed + 1.0
            return found is None

        until(is_gone, "the other process has heard of it")


def test_a_cache_on_another_database_than_the_named_alias_says_what_to_do(shop, tmp_path):
    _, _, django = shop
    folder = tmp_path / "other"
    folder.mkdir()
    with opened(File(folder / "netra.db"), folder) as other, other.scope(tenant="acme"):
        wrong, right = cache_of(other, DATABASE=django.alias), cache_of(other)
        django._begin()
        insert(django, "a")
        for call in (lambda: wrong.set("k", 1), lambda: wrong.delete("k"), wrong.clear):
            with pytest.raises(UsageError) as caught:
                call()
            assert "DATABASE" in caught.value.fix
        right.set("k", 1)
        django._commit()
        assert right.get("k") == 1


def test_what_was_invalidated_while_a_function_was_at_work_is_not_kept(shop):
    one, two, _ = shop
    mine, _ = both_caches(shop)
    value = ["old"]

    def read():
        seen = value[0]
        value[0] = "new"
        with two.sync.transaction(tenant="acme") as tx:
            two.sync.cache.invalidate(tx, "org:7")
        until(lambda: look(one) and one.cache.node.applied >= 1, "this process has heard of it")
        return seen

    assert mine.get_or_set("k", read, depends_on=["org:7"]) == "old"
    assert mine.get_or_set("k", lambda: value[0], depends_on=["org:7"]) == "new"


def test_with_a_shared_tier_one_process_finds_what_another_has_set(tmp_path):
    place = File(tmp_path / "netra.db")
    with closing(Server(tmp_path)) as server:
        url = {"cache_url": server.url}
        with opened(place, tmp_path, **url) as one, opened(place, tmp_path, **url) as two, one.scope(tenant="acme"):
            mine, others = cache_of(one), cache_of(two)
            mine.set("k", {"n": 1}, depends_on=["org:7"])
            look(two)
            assert others.get("k") == {"n": 1}
            assert not others.add("k", 2)
            assert others.touch("k", 1000)
            with one.sync.transaction() as tx:
                one.sync.cache.invalidate(tx, "org:7")
            until(lambda: look(two) and others.get("k") is None, "dropped there as well")
