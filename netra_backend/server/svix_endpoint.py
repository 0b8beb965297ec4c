"""Endpoints and their signing secrets: `/api/v1/app/{app_id}/endpoint`."""

from __future__ import annotations

from functools import partial
from typing import Final

from fastapi import APIRouter, Response

from ..errors import NotFound
from ..kernel.ids import to_text, try_from_text
from ..kernel.scope import check_tenant
from ..storage.sealing import Sealer
from ..storage.transaction import Tx
from ..webhooks import endpoints
from ..webhooks.health import with_health
from ..webhooks.keys import decode_secret, told
from ..webhooks.model import WELL, Endpoint, EndpointHealth
from .access import Access
from .models import EndpointIn, EndpointPatch, EndpointUpsert, SecretRotate
from .pagination import CREATED, DEFAULT_LIMIT, FIRST, LAST, Asked, Iterator, Limit, Order, Window, page
from .render import endpoint_out
from .routing import Caller, answer, no_content, once

router: Final = APIRouter(prefix="/api/v1/app/{app_id}/endpoint", tags=["Endpoint"])
READS_TOKENS: Final = "connection:token"


@router.get("", operation_id="v1.endpoint.list")
async def list_endpoints(
    caller: Caller,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    order: Order = None,
) -> Response:
    """An application's endpoints, the oldest first."""
    asked = Asked(limit, iterator, order == "descending")
    return answer(await page(asked, CREATED, partial(caller.read, page_of), place_of, lambda found: endpoint_out(*found)))


@router.post("", operation_id="v1.endpoint.create", status_code=201)
async def create_endpoint(caller: Caller, body: EndpointIn) -> Response:
    """Add an endpoint. Its address is judged at each connection, not here."""

    async def make(tx: Tx) -> tuple[bytes, Endpoint]:
        made = await create(tx, caller.edge.netra.sealer, body)
        check_right(caller, None, made)
        return made.id, made

    async def again(tx: Tx, ref: bytes) -> Endpoint:
        return await endpoints.get(tx, to_text("ep", ref))

    endpoint, replayed = await once(caller, caller.scope, "POST /app/{app_id}/endpoint", make, again)
    changed(caller)
    return answer(endpoint_out(endpoint, WELL), 201, replayed=replayed)


@router.get("/{endpoint_id}", operation_id="v1.endpoint.get")
async def get_endpoint(caller: Caller, endpoint_id: str) -> Response:
    """One endpoint, by id or uid."""
    return answer(endpoint_out(*await caller.read(find, endpoint_id)))


@router.put("/{endpoint_id}", operation_id="v1.endpoint.update")
async def update_endpoint(caller: Caller, endpoint_id: str, body: EndpointUpsert) -> Response:
    """Replace an endpoint, or make it (201) where the path is a uid that none has. Secret and headers stay."""
    check_tenant(endpoint_id)
    sealer = caller.edge.netra.sealer

    async def put(tx: Tx) -> tuple[Endpoint, bool]:
        before = await _find(tx, endpoint_id)
        found = await upsert(tx, sealer, endpoint_id, body)
        check_right(caller, before, found[0])
        return found

    endpoint, made = await caller.write(put)
    changed(caller)
    return answer(endpoint_out(*await caller.read(find, endpoint.text_id)), 201 if made else 200)


@router.patch("/{endpoint_id}", operation_id="v1.endpoint.patch")
async def patch_endpoint(caller: Caller, endpoint_id: str, body: EndpointPatch) -> Response:
    """Change what is named of an endpoint."""

    async def patch(tx: Tx) -> Endpoint:
        before = await endpoints.get(tx, endpoint_id)
        after = await endpoints.update(tx, endpoint_id, body.changes())
        check_right(caller, before, after)
        return after

    endpoint = await caller.write(patch)
    changed(caller)
    return answer(endpoint_out(*await caller.read(find, endpoint.text_id)))


@router.delete("/{endpoint_id}", operation_id="v1.endpoint.delete", status_code=204)
async def delete_endpoint(caller: Caller, endpoint_id: str) -> Response:
    """Delete an endpoint: what was due for it is cancelled."""
    await caller.write(endpoints.bury, endpoint_id)
    changed(caller)
    return no_content()


@router.get("/{endpoint_id}/secret", operation_id="v1.endpoint.get-secret")
async def get_secret(caller: Caller, endpoint_id: str) -> Response:
    """What a receiver verifies by: the newest shared secret, or the public key of the newest pair.

    A write, because reading a secret is audited in its own transaction.
    """
    key: bytes = await caller.write(endpoints.disclose_secret, caller.edge.netra.sealer, endpoint_id)
    return answer({"key": told(key)})


@router.post("/{endpoint_id}/secret/rotate", operation_id="v1.endpoint.rotate-secret")
async def rotate_secret(caller: Caller, endpoint_id: str, body: SecretRotate | None = None) -> Response:
    """Give the endpoint a new secret and return it; the former ones sign beside it for 24 hours, or as the body says.

    Who brings the secret knows it; to be told one that is made here takes the scope `endpoint:secret`.
    """
    wanted = body or SecretRotate()
    if wanted.key is None:
        caller.require("endpoint:secret")
    sealer = caller.edge.netra.sealer
    overlap_s = endpoints.ROTATION_OVERLAP_S if wanted.grace_period_seconds is None else wanted.grace_period_seconds

    async def make(tx: Tx) -> tuple[bytes, bytes]:
        await endpoints.rotate_secret(tx, sealer, endpoint_id, wanted.key, wanted.key_kind, overlap_s)
        endpoint = await endpoints.get(tx, endpoint_id)
        return endpoint.id, await again(tx, endpoint.id)

    async def again(tx: Tx, ref: bytes) -> bytes:
        if wanted.key is not None:  # never the newest one: by the time of a repetition that may be another, which was made here
            return decode_secret(wanted.key)
        return await endpoints.disclose_secret(tx, sealer, to_text("ep", ref))

    key, replayed = await once(caller, caller.scope, "POST /app/{app_id}/endpoint/{endpoint_id}/secret/rotate", make, again)
    changed(caller)
    return answer({"key": told(key)}, replayed=replayed)


def check_right(access: Access, before: Endpoint | None, after: Endpoint) -> None:
    """Who has a connection's token sent to a place of his choice can read it there: that takes the scope that reading it takes."""
    if after.auth is not None and (before is None or (before.url, before.auth) != (after.url, after.auth)):
        access.require(READS_TOKENS)


def changed(access: Access) -> None:
    """What this process sends by is read anew at once, not within half a second."""
    access.edge.netra.webhooks.snapshots.forget(access.tenant.tenant)


Found = tuple[Endpoint, EndpointHealth]
"""An endpoint and its health."""


async def find(tx: Tx, reference: str) -> Found:
    """One endpoint with its health, by id or uid."""
    return (await with_health(tx, [await endpoints.get(tx, reference)]))[0]


async def page_of(tx: Tx, window: Window[tuple[int, bytes]]) -> list[Found]:
    """A page of the tenant's endpoints, each with its health."""
    return await with_health(tx, await endpoints.page(tx, window.start(FIRST, LAST), window.count, back=window.back))


def place_of(found: Found) -> tuple[int, bytes]:
    """Where it stands in the list."""
    return found[0].created_us, found[0].id


async def create(tx: Tx, sealer: Sealer, body: EndpointIn) -> Endpoint:
    """Add an endpoint as the body describes it."""
    columns = {"uid": None, **body.changes()}
    new = Endpoint(tenant=tx.tenant, id=b"", headers=body.headers or {}, created_us=0, updated_us=0, **columns)
    return await endpoints.create(tx, sealer, new, body.secret, body.key_kind)


async def upsert(tx: Tx, sealer: Sealer, reference: str, body: EndpointUpsert) -> tuple[Endpoint, bool]:
    """Replace an endpoint, or make it; whether it was made."""
    if await _find(tx, reference) is not None:
        return await endpoints.update(tx, reference, body.changes()), False
    if try_from_text("ep", reference) is not None:
        raise NotFound(f"there is no endpoint {reference[:80]!r}")
    columns = {**body.changes(), "uid": body.uid or reference}
    new = Endpoint(tenant=tx.tenant, id=b"", headers={}, created_us=0, updated_us=0, **columns)
    return await endpoints.create(tx, sealer, new, None), True


async def _find(tx: Tx, reference: str) -> Endpoint | None:
    try:
        return await endpoints.get(tx, reference)
    except NotFound:
        return None
