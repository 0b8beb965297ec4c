"""Portal links: `/api/v1/auth`. A link carries a key of its tenant that ends by itself and can do what the operator says.

The key stands behind the `#` of the link, which browsers send to nobody: no proxy's log and no `Referer` has it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fastapi import APIRouter, Request, Response

from ..kernel.scope import Scope
from ..storage import api_keys
from ..storage.api_keys import PORTAL
from ..storage.transaction import Tx
from . import sessions
from .access import Access
from .message_in import application_of
from .models import PortalAccess, PortalExpiry
from .routing import Caller, answer, no_content
from .svix_app import create_for_message

router: Final = APIRouter(prefix="/api/v1/auth", tags=["Authentication"])

SCOPES_OF: Final = {
    "ViewBase": ("webhooks:view",),
    "ViewEndpointSecret": ("endpoint:secret",),
    "ManageEndpointSecret": ("endpoint:secret", "webhooks:rotate"),
    "ManageTransformations": (),  # there are none
    "CreateAttempts": ("webhooks:replay",),
    "ManageEndpoint": ("webhooks:manage", "endpoint:secret", "webhooks:rotate"),
}
"""What each of Svix's capabilities lets a key do."""
_LINK: Final = "portal link"


@router.post("/app-portal-access/{app_id}", operation_id="v1.authentication.app-portal-access")
async def app_portal_access(caller: Caller, request: Request, body: PortalAccess) -> Response:
    """A link into an application's own pages, and the key in it. Each call makes another: a link is told once, to who asked."""
    scope = await _scope(caller, body)
    secret = await caller.write(make_portal_key, await caller.edge.authenticator.pepper(), body, scope=scope)
    return answer(portal_link(caller.edge.netra.settings.public_url or str(request.base_url), secret))


@router.post("/logout", operation_id="v1.authentication.logout", status_code=204)
async def logout(caller: Caller) -> Response:
    """End the portal link whose key this request carries; other keys are refused."""
    await sessions.end(caller)
    return no_content()


@router.post("/app/{app_id}/expire-all", operation_id="v1.authentication.expire-all", status_code=204)
async def expire_all(caller: Caller, body: PortalExpiry | None = None) -> Response:
    """End an application's portal links, or those of some sessions, now or in a while."""
    wanted = body or PortalExpiry()
    await caller.write(_expire, wanted.session_ids, wanted.expiry)
    caller.edge.authenticator.forget()
    return no_content()


async def _scope(access: Access, body: PortalAccess) -> Scope:
    if access.found is None and body.application is not None:
        tenant = await create_for_message(access, application_of(body.application, access.reference))
        return access.system_scope.with_tenant(tenant.tenant)
    return access.scope


def portal_link(base: str, secret: str) -> dict[str, str]:
    """Svix's AppPortalAccessOut: the link at a server's address, and the key in it."""
    return {"url": f"{base.rstrip('/')}/ui/login#key={secret}", "token": secret}


async def make_portal_key(tx: Tx, pepper: bytes, body: PortalAccess) -> str:
    """Add the key of a portal link, which is told once."""
    named: Collection[str] = ("ViewBase",) if body.read_only else SCOPES_OF if body.capabilities is None else body.capabilities
    scopes = dict.fromkeys(scope for name in ("ViewBase", *named) for scope in SCOPES_OF[name])
    _, secret = await api_keys.create(
        tx,
        tenant=tx.tenant,
        pepper=pepper,
        name=body.session_id or _LINK,
        scopes=(*scopes, PORTAL),
        expires_us=tx.now_us + body.expiry * 1_000_000,
    )
    return secret


async def _expire(tx: Tx, sessions: list[str] | None, expiry_s: int) -> int:
    return await api_keys.end_portal(tx, tx.tenant, sessions, tx.now_us + expiry_s * 1_000_000)
