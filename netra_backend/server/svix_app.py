"""Applications, which are tenants: `/api/v1/app`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from ..kernel.ids import to_text, try_from_text
from ..kernel.scope import check_tenant
from ..observability.debug import store as debug
from ..storage import api_keys, tenants
from ..storage.tenants import Tenant
from ..storage.transaction import Tx
from ..webhooks import endpoints
from .access import Access, no_tenant
from .models import ApplicationIn, ApplicationPatch
from .pagination import CREATED, DEFAULT_LIMIT, FIRST, LAST, Asked, Iterator, Limit, Order, Window, page
from .render import application_out
from .routing import Caller, answer, no_content, once

router: Final = APIRouter(prefix="/api/v1/app", tags=["Application"])

_AT_ONCE: Final = 50
"""Endpoints that are deleted in one transaction, which keeps everybody from SQLite's write lock for some milliseconds."""


@router.get("", operation_id="v1.application.list")
async def list_applications(caller: Caller, limit: Limit = DEFAULT_LIMIT, iterator: Iterator = None, order: Order = None) -> Response:
    """All applications, the oldest first."""
    asked = Asked(limit, iterator, order == "descending")
    return answer(await page(asked, CREATED, partial(caller.read, _page, scope=caller.system_scope), _place, application_out))


@router.post("", operation_id="v1.application.create", status_code=201)
async def create_application(caller: Caller, body: ApplicationIn, *, get_if_exists: Annotated[bool, Query()] = False) -> Response:
    """Add an application. With `get_if_exists` one of that uid is returned (200) in place of a conflict (409)."""
    if get_if_exists and body.uid is not None:
        tenant, made = await caller.write(_get_or_create, body, scope=caller.system_scope)
        caller.edge.directory.forget()
        return answer(application_out(tenant), 201 if made else 200)

    async def make(tx: Tx) -> tuple[bytes, Tenant]:
        made = await _create(tx, body)
        return made.id, made

    async def again(tx: Tx, ref: bytes) -> Tenant:
        return await tenants.get(tx, to_text("app", ref))

    tenant, replayed = await once(caller, caller.system_scope, "POST /app", make, again)
    caller.edge.directory.forget()
    return answer(application_out(tenant), 201, replayed=replayed)


@router.get("/{app_id}", operation_id="v1.application.get")
async def get_application(caller: Caller) -> Response:
    """One application, by id or uid."""
    return answer(application_out(caller.tenant))


@router.put("/{app_id}", operation_id="v1.application.update")
async def update_application(caller: Caller, app_id: str, body: ApplicationIn) -> Response:
    """Replace an application, or make it (201) where the path is a uid that nobody has."""
    if caller.found is None and try_from_text("app", app_id) is not None:
        raise no_tenant(app_id)
    check_tenant(app_id)
    tenant, made = await caller.write(_upsert, app_id, body, scope=caller.system_scope)
    caller.edge.directory.forget()
    return answer(application_out(tenant), 201 if made else 200)


@router.patch("/{app_id}", operation_id="v1.application.patch")
async def patch_application(caller: Caller, app_id: str, body: ApplicationPatch) -> Response:
    """Change what is named of an application."""
    tenant = await caller.write(tenants.update, app_id, body.changes(), scope=caller.system_scope)
    caller.edge.directory.forget()
    return answer(application_out(tenant))


@router.delete("/{app_id}", operation_id="v1.application.delete", status_code=204)
async def delete_application(caller: Caller) -> Response:
    """Delete an application with its endpoints; what was due for them is cancelled.

    Of one with very many endpoints they go part by part: where that is cut off, the application is there with those that are left.
    """
    while await caller.edge.netra.database.write(_thin_out, scope=caller.scope, lane="bulk"):
        continue
    await caller.write(_delete, caller.tenant.tenant)
    caller.edge.authenticator.forget()
    caller.edge.directory.forget()
    caller.edge.netra.webhooks.snapshots.forget(caller.tenant.tenant)
    return no_content()


async def create_for_message(access: Access, body: ApplicationIn) -> Tenant:
    """The application that a message brought with it; it stays if the message is refused."""
    tenant: Tenant
    tenant, _ = await access.edge.netra.database.write(_get_or_create, body, scope=access.system_scope)
    access.edge.directory.forget()
    return tenant


async def _page(tx: Tx, window: Window[tuple[int, bytes]]) -> list[Tenant]:
    return await tenants.page(tx, window.start(FIRST, LAST), window.count, back=window.back)


def _place(tenant: Tenant) -> tuple[int, bytes]:
    return tenant.created_us, tenant.id


async def _create(tx: Tx, body: ApplicationIn, uid: str | None = None) -> Tenant:
    uid = body.uid or uid
    return await tenants.create(tx, body.name, uid=uid, metadata=body.metadata, rate_limit=body.throttle_rate)


async def _get_or_create(tx: Tx, body: ApplicationIn) -> tuple[Tenant, bool]:
    known = await tenants.find(tx, body.uid or "")
    return (known, False) if known is not None else (await _create(tx, body), True)


async def _upsert(tx: Tx, reference: str, body: ApplicationIn) -> tuple[Tenant, bool]:
    if await tenants.find(tx, reference) is None:
        return await _create(tx, body, reference), True
    return await tenants.update(tx, reference, body.changes()), False


async def _thin_out(tx: Tx) -> bool:
    """Delete some of more endpoints than one transaction takes; False where there are no more than that."""
    found = await endpoints.page(tx, FIRST, _AT_ONCE + 1)
    if len(found) <= _AT_ONCE:
        return False
    for endpoint in found[:_AT_ONCE]:
        await endpoints.bury(tx, endpoint.text_id)
    return True


async def _delete(tx: Tx, tenant: str) -> None:
    """Endpoints first: each one's end cancels what is due for it, and raises the version that fan-outs are checked by.

    The tenant's keys end with it: afterwards nobody could revoke them. So do its debug sessions, with what they have recorded.
    """
    while found := await endpoints.page(tx, FIRST, _AT_ONCE):
        for endpoint in found:
            await endpoints.bury(tx, endpoint.text_id)
    await tx.execute(endpoints.Q.bump_version)
    await debug.end_all(tx)
    await api_keys.revoke_all(tx, tx.tenant)
    await tenants.bury(tx, tenant)
