"""Whose turn it is to be renewed: nobody's waits for all of another tenant's, however many those are."""

from __future__ import annotations

import pytest

from netra_backend.oauth import due, store
from netra_backend.oauth.due import DueConnections, fairly
from netra_backend.oauth.model import Client, Due, Grant
from netra_backend.storage.sealing import RootKeys, Sealer
from netra_backend.storage.tenants import ensure

from ..support.storage import SYSTEM
from ..support.webhooks import in_tenant

SEALER = Sealer(RootKeys({"r1": b"1" * 32}))
CLIENT = Client(b"c" * 16, "idp", None, ("http://one/token",), "http://one/authorize", None, "id", "none", ())


async def connected(database, tenant, count, since_us):
    """So many connections of the tenant whose time has come, the first of them first."""
    await database.write(ensure, tenant, scope=SYSTEM)
    await database.write(store.set_client, SEALER, CLIENT, scope=in_tenant(tenant))
    for number in range(count):
        grant = Grant(f"{tenant} {number}", f"rt {tenant} {number}", since_us + 1000 * number, since_us + 1000 * number + 10)
        await database.write(store.import_grant, SEALER, f"user {number}", "idp", grant, scope=in_tenant(tenant))


async def test_all_that_are_due_come_page_by_page_the_longest_due_first(database):
    await connected(database, "acme", 4, 0)
    await connected(database, "globex", 2, 1500)
    pages, after = [], None
    while page := await database.read(store.due, after, 4, scope=SYSTEM):
        pages.append([each.tenant for each in page])
        after = page[-1]
    assert pages == [["acme", "acme", "globex", "acme"], ["globex", "acme"]]


async def test_of_each_tenant_one_is_taken_before_a_second_of_any(database):
    await connected(database, "acme", 6, 0)
    await connected(database, "globex", 2, 10**6)
    taken = await DueConnections(database).take(5)
    assert [each.tenant for each in taken] == ["acme", "globex", "acme", "globex", "acme"]
    assert [each.due_us for each in taken if each.tenant == "acme"] == sorted(each.due_us for each in taken if each.tenant == "acme")


@pytest.mark.parametrize("backlog", [3, 4, 8, 39])
async def test_whoever_is_behind_a_backlog_of_another_tenant_comes_before_it_is_done(database, monkeypatch, backlog):
    monkeypatch.setattr(due, "LOOKED_AT", 2)
    await connected(database, "acme", backlog, 0)
    await connected(database, "globex", 1, 10**6)
    walk = DueConnections(database)
    taken = [
        await walk.take(2) for _ in range(1 + backlog // 4)
    ]  # nothing of the backlog is renewed meanwhile, as where its provider hangs
    assert "globex" in {each.tenant for look in taken for each in look}


def test_no_more_are_taken_than_there_is_room_for_and_all_where_there_is():
    found = [Due(number, tenant, bytes(16), 1) for number, tenant in enumerate("aaabbc")]
    assert [[each.due_us for each in fairly(found, limit)] for limit in (0, 2, 4, 10)] == [[], [0, 3], [0, 3, 5, 1], [0, 3, 5, 1, 4, 2]]
