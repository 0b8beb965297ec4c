"""The watch over the contract suite refuses what it is there for, and lets the rest pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..support.catalogue import OF_A_TENANT, OF_THE_FLEET, STATEMENTS
from ..support.isolation.watched import TenantMissing
from ..support.storage import ACME, ENGINES, SYSTEM, query, run, with_its_server

STRAYS = {
    "a read": "select count(*) from netra_message",
    "a predicate that is gone": OF_A_TENANT["webhooks.list_endpoints"].text.replace("tenant = :tenant and", ""),
    "a change": "update netra_api_key set name = ''",
    "a delete": "delete from netra_idempotency where key = ''",
    "a common table expression": "with x as (select * from netra_delivery) select * from x",
    "a join": "select 1 from netra_node n left join netra_endpoint e on true",
}


@pytest.fixture(params=ENGINES)
def engine(request):
    return with_its_server(request)


def stray(text):
    return replace(STATEMENTS["storage.probe"], text=text)


@pytest.mark.parametrize("name", STRAYS)
async def test_a_query_on_a_tenants_table_without_its_tenant_is_refused(database, name):
    for door in (database.read, database.write):
        with pytest.raises(TenantMissing):
            await door(query, stray(STRAYS[name]), scope=SYSTEM)


async def test_a_tenant_that_is_nothing_is_none(database):
    with pytest.raises(TenantMissing):
        await database.read(query, stray("select 1 from netra_message where tenant = :tenant"), scope=SYSTEM)


async def test_statements_of_the_fleet_and_on_tables_without_tenants_pass(database):
    assert await database.read(query, OF_THE_FLEET["storage.outbox_has_rows"], scope=SYSTEM) == []
    assert await database.write(run, stray("update netra_probe set count = count"), scope=ACME) == 1
