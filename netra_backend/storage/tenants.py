"""Tenants (Svix: applications): the name that stands in every row, an id, and a uid that its owner may change.

A tenant made by the library under "acme" has `acme` as its name and its uid. One made through REST without a uid is
named by its id. The name never changes, because it stands in the keys of every other table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson

from ..errors import Conflict, NotFound
from ..kernel.ids import to_text, try_from_text
from ..kernel.scope import SYSTEM_TENANT, check_tenant
from .audit_append import audit_append
from .statements import Row, Statements
from .transaction import Tx

Q = Statements(__package__)
TABLE: Final = "netra_tenant"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. `rate_limit` is messages per second, None for no limit."""

    tenant: str
    id: bytes
    uid: str | None
    name: str
    metadata: Mapping[str, Any]
    rate_limit: int | None
    created_us: int
    updated_us: int

    @property
    def app_id(self) -> str:
        """The id as text: `app_...`."""
        return to_text("app", self.id)

    def facts(self) -> dict[str, Any]:
        """What an audit entry says of it."""
        facts = {key: value for key, value in asdict(self).items() if key in {"uid", "name", "metadata", "rate_limit"}}
        return {"id": self.app_id, **facts}


def _tenant(row: Row) -> Tenant:
    tenant, id_, uid, name, metadata, rate_limit, created_us, updated_us = row
    return Tenant(tenant, id_, uid, name, orjson.loads(metadata), rate_limit, created_us, updated_us)


async def create(
    tx: Tx,
    name: str,
    *,
    uid: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    rate_limit: int | None = None,
) -> Tenant:
    """Add a tenant; `Conflict` where the uid is taken."""
    free = uid is not None and await name_is_free(tx, uid)
    if uid is not None and await find(tx, check_tenant(uid)) is not None:
        raise Conflict(f"a tenant with the uid {uid!r} exists already", fix="Take another uid, or get the existing one.")
    return await make(tx, name, uid, metadata, rate_limit, free=free)


async def name_is_free(tx: Tx, name: str) -> bool:
    """Whether no tenant has or had this name.

    To be asked before `find`: of two copies at once the second then finds what the first has made, or is refused by a
    unique key and runs again. Asked afterwards, it may hear of a name that was taken since, and make a second tenant.
    """
    return await tx.one(Q.tenant_name_is_taken, tenant=name) is None


async def make(
    tx: Tx, name: str, uid: str | None, metadata: Mapping[str, Any] | None = None, rate_limit: int | None = None, *, free: bool = True
) -> Tenant:
    """Add a tenant without a look for another of that uid. Its uid is its name where that is `free`, else its id is."""
    id_ = tx.new_id()
    app_id = to_text("app", id_)
    tenant = uid if uid is not None and free else app_id
    made = Tenant(tenant, id_, uid, name, dict(metadata or {}), rate_limit, tx.now_us, tx.now_us)
    await _insert(tx, made)
    return made


async def _insert(tx: Tx, made: Tenant) -> None:
    entry = await audit_append(tx, "tenant.create", made.tenant, table=TABLE, after=made.facts(), tenant=made.tenant)
    await tx.execute(
        Q.insert_tenant,
        tenant=made.tenant,
        id=made.id,
        uid=made.uid,
        name=made.name,
        metadata=orjson.dumps(made.metadata).decode(),
        rate_limit=made.rate_limit,
        now_us=tx.now_us,
        audit_id=entry,
    )


async def find(tx: Tx, reference: str) -> Tenant | None:
    """The tenant whose id, uid or name this is (in that order)."""
    if reference == SYSTEM_TENANT:
        return None
    id_ = try_from_text("app", reference)
    row = await tx.one(Q.tenant_by_id, id=id_) if id_ is not None else None
    row = row or await tx.one(Q.tenant_by_uid, uid=reference) or await tx.one(Q.tenant_by_name, tenant=reference)
    return _tenant(row) if row and row[0] != SYSTEM_TENANT else None


async def ensure_system(tx: Tx) -> None:
    """The system tenant's row, for what the operator owns as a tenant does. No list shows it and no reference finds it."""
    if not await name_is_free(tx, SYSTEM_TENANT):
        return
    id_ = tx.new_id()
    made = Tenant(SYSTEM_TENANT, id_, None, "the operator", {}, None, tx.now_us, tx.now_us)
    await _insert(tx, made)


async def by_name(tx: Tx, tenant: str) -> Tenant | None:
    """The tenant of exactly this name, which may be another's uid by now."""
    row = await tx.one(Q.tenant_by_name, tenant=tenant)
    return _tenant(row) if row else None


async def get(tx: Tx, reference: str) -> Tenant:
    """Like `find`, but `NotFound` with the command that makes one."""
    found = await find(tx, reference)
    if found is None:
        raise NotFound(f"there is no tenant {reference[:80]!r}", fix=f"Make it: netra tenant create {reference[:80]}")
    return found


async def ensure(tx: Tx, reference: str) -> Tenant:
    """The tenant of that reference, made now if there is none: what the library does on first use."""
    free = await name_is_free(tx, check_tenant(reference))
    found = await find(tx, reference)
    return found if found is not None else await make(tx, reference, reference, free=free)


async def update(tx: Tx, reference: str, changes: Mapping[str, Any]) -> Tenant:
    """Change uid, name, metadata or rate_limit; what `changes` does not name stays."""
    before = await _get_to_change(tx, reference)
    after = replace(before, **changes, updated_us=tx.now_us)
    if after.uid is not None and after.uid != before.uid:
        holder = await find(tx, check_tenant(after.uid))
        if holder is not None and holder.tenant != before.tenant:
            raise Conflict(f"a tenant with the uid {after.uid!r} exists already", fix="Take another uid.")
    entry = await audit_append(
        tx, "tenant.update", before.tenant, table=TABLE, before=before.facts(), after=after.facts(), tenant=before.tenant
    )
    await tx.execute(
        Q.update_tenant,
        tenant=before.tenant,
        uid=after.uid,
        name=after.name,
        metadata=orjson.dumps(after.metadata).decode(),
        rate_limit=after.rate_limit,
        now_us=tx.now_us,
        audit_id=entry,
    )
    return after


async def bury(tx: Tx, reference: str) -> Tenant:
    """Delete a tenant: a tombstone, under which nothing is found or delivered any more."""
    gone = await _get_to_change(tx, reference)
    entry = await audit_append(tx, "tenant.delete", gone.tenant, table=TABLE, before=gone.facts(), tenant=gone.tenant)
    await tx.execute(Q.bury_tenant, tenant=gone.tenant, now_us=tx.now_us, audit_id=entry)
    return gone


async def _get_to_change(tx: Tx, reference: str) -> Tenant:
    """The tenant, its row locked first: of two changes at once the second sees what the first has done."""
    found = await get(tx, reference)
    await tx.execute(Q.hold_tenant, tenant=found.tenant)
    held = await by_name(tx, found.tenant)
    if held is None:
        raise NotFound(f"the tenant {reference[:80]!r} was deleted just now")
    return held


async def page(tx: Tx, after: tuple[int, bytes], limit: int, *, back: bool = False) -> list[Tenant]:
    """The next (or, going back, the previous) tenants by (created, id)."""
    statement = Q.list_tenants_back if back else Q.list_tenants
    rows = await tx.all(statement, created_us=after[0], id=after[1], limit=limit + 1)  # one of them may be the system's
    return [_tenant(row) for row in rows if row[0] != SYSTEM_TENANT][:limit]
