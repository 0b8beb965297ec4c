"""Routes of our own: tenants. Errors are problem+json (RFC 9457)."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from ..kernel.ids import to_text
from ..storage import tenants
from ..storage.tenants import Tenant
from ..storage.transaction import Tx
from .models import Metadata, Name, Rate, Uid
from .pagination import CREATED, DEFAULT_LIMIT, FIRST, LAST, Asked, Iterator, Limit, Window, page
from .render import timestamp
from .routing import Caller, answer, once

router: Final = APIRouter(prefix="/api/v1", tags=["Netra"])


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


async def _tenants(tx: Tx, window: Window[tuple[int, bytes]]) -> list[Tenant]:
    return await tenants.page(tx, window.start(FIRST, LAST), window.count, back=window.back)


def _place(tenant: Tenant) -> tuple[int, bytes]:
    return tenant.created_us, tenant.id
