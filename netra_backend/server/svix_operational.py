"""The operator's own endpoints, which operational events go to: `/api/v1/operational-webhook/endpoint`.

They are endpoints of the system tenant, with everything that endpoints have. Svix's operations and shapes; every route is the
operator's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Response

from ..kernel.ids import to_text
from ..kernel.scope import SYSTEM_TENANT, check_tenant
from ..storage import tenants
from ..storage.sealing import Sealer
from ..storage.transaction import Tx
from ..webhooks import endpoints
from ..webhooks.keys import told
from ..webhooks.model import WELL, Endpoint
from . import svix_endpoint, svix_headers
from .access import Access
from .models import EndpointIn, EndpointPatch, EndpointUpsert, HeadersIn, HeadersPatch, SecretRotate
from .pagination import CREATED, DEFAULT_LIMIT, Asked, Iterator, Limit, Order, page
from .render import endpoint_out
from .routing import Caller, answer, no_content, once

router: Final = APIRouter(prefix="/api/v1/operational-webhook/endpoint", tags=["Operational webhook endpoint"])


@router.get("", operation_id="v1.operational-webhook.endpoint.list")
async def list_endpoints(caller: Caller, limit: Limit = DEFAULT_LIMIT, iterator: Iterator = None, order: Order = None) -> Response:
    """The operator's endpoints, the oldest first."""
    asked = Asked(limit, iterator, order == "descending")
    fetch = partial(caller.read, svix_endpoint.page_of, scope=caller.system_scope)
    return answer(await page(asked, CREATED, fetch, svix_endpoint.place_of, lambda found: endpoint_out(*found)))


@router.post("", operation_id="v1.operational-webhook.endpoint.create", status_code=201)
async def create_endpoint(caller: Caller, body: EndpointIn) -> Response:
    """Add an endpoint that operational events are sent to: of all types, or of those in `filterTypes`."""

    async def make(tx: Tx) -> tuple[bytes, Endpoint]:
        await tenants.ensure_system(tx)
        made = await svix_endpoint.create(tx, caller.edge.netra.sealer, body)
        return made.id, made

    async def again(tx: Tx, ref: bytes) -> Endpoint:
        return await endpoints.get(tx, to_text("ep", ref))

    made, replayed = await once(caller, caller.system_scope, "POST /operational-webhook/endpoint", make, again)
    _changed(caller)
    return answer(endpoint_out(made, WELL), 201, replayed=replayed)


@router.get("/{endpoint_id}", operation_id="v1.operational-webhook.endpoint.get")
async def get_endpoint(caller: Caller, endpoint_id: str) -> Response:
    """One endpoint, by id or uid."""
    return answer(endpoint_out(*await caller.read(svix_endpoint.find, endpoint_id, scope=caller.system_scope)))


@router.put("/{endpoint_id}", operation_id="v1.operational-webhook.endpoint.update")
async def update_endpoint(caller: Caller, endpoint_id: str, body: EndpointUpsert) -> Response:
    """Replace an endpoint, or make it (201) where the path is a uid that none has. Secret and headers stay."""
    check_tenant(endpoint_id)
    endpoint, made = await caller.write(_upsert, caller.edge.netra.sealer, endpoint_id, body, scope=caller.system_scope)
    _changed(caller)
    found = await caller.read(svix_endpoint.find, endpoint.text_id, scope=caller.system_scope)
    return answer(endpoint_out(*found), 201 if made else 200)


@router.patch("/{endpoint_id}", operation_id="netra.operational-webhook.endpoint.patch")
async def patch_endpoint(caller: Caller, endpoint_id: str, body: EndpointPatch) -> Response:
    """Change what is named of an endpoint."""
    endpoint = await _change(caller, endpoint_id, body.changes())
    return answer(endpoint_out(*await caller.read(svix_endpoint.find, endpoint.text_id, scope=caller.system_scope)))


@router.delete("/{endpoint_id}", operation_id="v1.operational-webhook.endpoint.delete", status_code=204)
async def delete_endpoint(caller: Caller, endpoint_id: str) -> Response:
    """Delete an endpoint: what was due for it is cancelled."""
    await caller.write(endpoints.bury, endpoint_id, scope=caller.system_scope)
    _changed(caller)
    return no_content()


@router.get("/{endpoint_id}/headers", operation_id="v1.operational-webhook.endpoint.get-headers")
async def get_headers(caller: Caller, endpoint_id: str) -> Response:
    """The headers sent with each event; of those that are credentials, only the names."""
    found: Endpoint = await caller.read(endpoints.get, endpoint_id, scope=caller.system_scope)
    return answer(svix_headers.headers_out(found.headers))


@router.put("/{endpoint_id}/headers", operation_id="v1.operational-webhook.endpoint.update-headers", status_code=204)
async def update_headers(caller: Caller, endpoint_id: str, body: HeadersIn) -> Response:
    """Replace the headers."""
    await _change(caller, endpoint_id, {"headers": body.headers})
    return no_content()


@router.patch("/{endpoint_id}/headers", operation_id="netra.operational-webhook.endpoint.patch-headers", status_code=204)
async def patch_headers(caller: Caller, endpoint_id: str, body: HeadersPatch) -> Response:
    """Set some of the headers, and take away those in `deleteHeaders`."""
    await caller.write(svix_headers.patch, endpoint_id, body.headers, body.delete_headers or [], scope=caller.system_scope)
    _changed(caller)
    return no_content()


@router.get("/{endpoint_id}/secret", operation_id="v1.operational-webhook.endpoint.get-secret")
async def get_secret(caller: Caller, endpoint_id: str) -> Response:
    """What the receiver verifies by; that it was read is audited in the same transaction."""
    key: bytes = await caller.write(endpoints.disclose_secret, caller.edge.netra.sealer, endpoint_id, scope=caller.system_scope)
    return answer({"key": told(key)})


@router.post("/{endpoint_id}/secret/rotate", operation_id="v1.operational-webhook.endpoint.rotate-secret", status_code=204)
async def rotate_secret(caller: Caller, endpoint_id: str, body: SecretRotate | None = None) -> Response:
    """Give the endpoint a new secret; the former ones sign beside it for 24 hours, or as the body says."""
    wanted = body or SecretRotate()
    overlap_s = endpoints.ROTATION_OVERLAP_S if wanted.grace_period_seconds is None else wanted.grace_period_seconds

    async def make(tx: Tx) -> tuple[bytes, None]:
        await endpoints.rotate_secret(tx, caller.edge.netra.sealer, endpoint_id, wanted.key, wanted.key_kind, overlap_s)
        return (await endpoints.get(tx, endpoint_id)).id, None

    async def again(_tx: Tx, _ref: bytes) -> None:
        return None

    await once(caller, caller.system_scope, "POST /operational-webhook/endpoint/{endpoint_id}/secret/rotate", make, again)
    _changed(caller)
    return no_content()


async def _upsert(tx: Tx, sealer: Sealer, reference: str, body: EndpointUpsert) -> tuple[Endpoint, bool]:
    await tenants.ensure_system(tx)
    return await svix_endpoint.upsert(tx, sealer, reference, body)


async def _change(caller: Access, reference: str, changes: Mapping[str, Any]) -> Endpoint:
    changed: Endpoint = await caller.write(endpoints.update, reference, changes, scope=caller.system_scope)
    _changed(caller)
    return changed


def _changed(caller: Access) -> None:
    """What this process sends by is read anew at once."""
    caller.edge.netra.webhooks.snapshots.forget(SYSTEM_TENANT)
