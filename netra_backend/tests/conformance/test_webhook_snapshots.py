"""Endpoints in memory: one tenant that cannot be read keeps no other tenant's changes from being seen."""

from __future__ import annotations

from netra_backend.storage.sealing import CannotUnseal
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.snapshots import Snapshots

from ..support.webhooks import SEALER, endpoint_of, in_tenant


class OneIsLost:
    """A sealer to which one tenant's secrets do not open any more."""

    def __init__(self, tenant):
        self.tenant = tenant

    async def unseal(self, tx, tenant, place, sealed):
        if tenant == self.tenant:
            raise CannotUnseal
        return await SEALER.unseal(tx, tenant, place, sealed)


async def test_a_tenant_whose_secrets_do_not_open_hides_no_other_tenants_changes(database):
    made = {tenant: await endpoint_of(database, tenant) for tenant in ("acme", "globex", "initech")}
    sealer = OneIsLost("")
    snapshots = Snapshots(database, sealer)
    for tenant in made:
        await snapshots.refresh(tenant)
    sealer.tenant = "globex"
    for tenant, endpoint in made.items():
        await database.write(endpoints.update, endpoint.text_id, {"url": "http://127.0.0.1/new"}, scope=in_tenant(tenant))
    await snapshots.look()
    for tenant in ("acme", "initech"):
        assert [each.url for each in snapshots.peek(tenant).endpoints.values()] == ["http://127.0.0.1/new"]
    assert snapshots.peek("globex") is None
