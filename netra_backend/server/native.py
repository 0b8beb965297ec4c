"""Routes of our own: tenants, audit entries. Errors are problem+json (RFC 9457)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from ..kernel.ids import from_text, to_text
from ..kernel.scope import Scope
from ..storage import audit_append, tenants
from ..storage.statements import Row
from ..storage.tenants import Tenant
from ..storage.transaction import Tx
from .access import Access
from .models import Metadata, Name, Rate, Uid
from .pagination import CREATED, DEFAULT_LIMIT, FIRST, LAST, Asked, Iterator, Limit, Window, page
from .render import timestamp
from .routing import Caller, answer, once

router: Final = APIRouter(prefix="/api/v1", tags=["Netra"])

After = Annotated[str | None, Query(max_length=64, description="The id of the last entry that is known.")]


class TenantIn(BaseModel):
    """A new tenant; its name is the uid unless one is given."""

    model_config = ConfigDict(extra="forbid")

    uid: Uid
    name: Name | None = None
    metadata: Metadata | None = None
    rate_limit: Rate | None = None


@router.get("/tenants", operation_id="netra.tenant.list")
async def list_tenants(caller: Caller, limit: Limit = DEFAULT_LIMIT, iterator: Iterator = None) -> Response:
    """All tenants, the oldest first."""
    fetch = partial(caller.read, _tenants, scope=caller.system_scope)
    return answer(await page(Asked(limit, iterator), CREATED, fetch, _place, tenant_out))


@router.post("/tenants", operation_id="netra.tenant.create", status_code=201)
async def create_tenant(caller: Caller, body: TenantIn) -> Response:
    """Add a tenant."""

    async def make(tx: Tx) -> tuple[bytes, Tenant]:
        made = await tenants.create(tx, body.name or body.uid, uid=body.uid, metadata=body.metadata, rate_limit=body.rate_limit)
        return made.id, made

    async def again(tx: Tx, ref: bytes) -> Tenant:
        return await tenants.get(tx, to_text("app", ref))

    tenant, replayed = await once(caller, caller.system_scope, "POST /tenants", make, again)
    caller.edge.directory.forget()
    return answer(tenant_out(tenant), 201, replayed=replayed)


@router.get("/tenants/{tenant}", operation_id="netra.tenant.get")
async def get_tenant(caller: Caller) -> Response:
    """One tenant, by id, uid or name."""
    return answer(tenant_out(caller.tenant))


@router.get("/tenants/{tenant}/audit", operation_id="netra.audit.list")
async def list_audit(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Response:
    """A tenant's audit entries by id; `after` continues behind one."""
    return answer(await _audit(caller, caller.scope, limit, after))


@router.get("/audit", operation_id="netra.audit.list-installation")
async def list_own_audit(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Response:
    """The audit entries of what belongs to the installation: operators' keys, event types."""
    return answer(await _audit(caller, caller.system_scope, limit, after))


def tenant_out(tenant: Tenant) -> dict[str, Any]:
    """One tenant."""
    return {
        "tenant": tenant.tenant,
        "id": tenant.app_id,
        "uid": tenant.uid,
        "name": tenant.name,
        "metadata": tenant.metadata,
        "rate_limit": tenant.rate_limit,
        "created_at": timestamp(tenant.created_us),
        "updated_at": timestamp(tenant.updated_us),
    }


async def _audit(caller: Access, scope: Scope, limit: int, after: str | None) -> dict[str, Any]:
    start = from_text("aud", after) if after is not None else b""
    rows: list[Row] = await caller.read(_entries, start, limit + 1, scope=scope)
    data = [_entry_out(row) for row in rows[:limit]]
    return {"data": data, "after": data[-1]["id"] if data else after, "done": len(rows) <= limit}


def _entry_out(row: Row) -> dict[str, Any]:
    id_, at_us, actor, action, table, target, outcome, trace_id, before, after = row
    return {
        "id": to_text("aud", id_),
        "at": timestamp(at_us),
        "actor": actor,
        "action": action,
        "table": table or None,
        "target": target,
        "outcome": outcome,
        "trace_id": trace_id or None,
        "before": None if before is None else orjson.Fragment(before),
        "after": None if after is None else orjson.Fragment(after),
    }


async def _entries(tx: Tx, after: bytes, limit: int) -> list[Row]:
    return await tx.all(audit_append.Q.list_audit_entries, after=after, limit=limit)


async def _tenants(tx: Tx, window: Window[tuple[int, bytes]]) -> list[Tenant]:
    return await tenants.page(tx, window.start(FIRST, LAST), window.count, back=window.back)


def _place(tenant: Tenant) -> tuple[int, bytes]:
    return tenant.created_us, tenant.id
