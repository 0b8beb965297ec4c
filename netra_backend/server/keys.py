"""API keys: `/api/v1/keys` holds the operators', `/api/v1/tenants/{t}/keys` a tenant's. All of it is the operator's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InvalidInput, NotFound
from ..kernel.ids import from_text, to_text
from ..kernel.scope import SYSTEM_TENANT, Scope
from ..storage import api_keys
from ..storage.api_keys import SCOPES, ApiKey
from ..storage.transaction import Tx
from .access import Access
from .models import Name
from .pagination import DEFAULT_LIMIT, Limit
from .render import microseconds, timestamp
from .routing import Caller, answer, once

router: Final = APIRouter(prefix="/api/v1", tags=["Keys"])

MOST_OVERLAP_S: Final = 7 * 24 * 3600


class KeyIn(BaseModel):
    """A new key. An operator's key has every scope; a tenant's has those named, at first `tenant`."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: Annotated[list[str], Field(max_length=10)] | None = None
    expires_at: datetime | None = None


class KeyRotate(BaseModel):
    """How long the former key is valid beside the new one, in seconds."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: Annotated[int, Field(ge=0, le=MOST_OVERLAP_S)] = 24 * 3600


@router.get("/keys", operation_id="netra.key.list-operators")
async def list_operator_keys(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: str | None = None) -> Response:
    """The operators' keys. What a key is, nobody can read again."""
    return answer(await _list(caller, caller.system_scope, limit, after))


@router.post("/keys", operation_id="netra.key.create-operator", status_code=201)
async def create_operator_key(caller: Caller, body: KeyIn) -> Response:
    """Add an operator's key; `key` in the answer is shown once."""
    return await _create(caller, caller.system_scope, body, "POST /keys")


@router.post("/keys/{key_id}/revoke", operation_id="netra.key.revoke-operator")
async def revoke_operator_key(caller: Caller, key_id: str) -> Response:
    """End an operator's key: here at once, in other processes within half a second."""
    return await _revoke(caller, caller.system_scope, key_id, "POST /keys/{key_id}/revoke")


@router.post("/keys/{key_id}/rotate", operation_id="netra.key.rotate-operator", status_code=201)
async def rotate_operator_key(caller: Caller, key_id: str, body: KeyRotate | None = None) -> Response:
    """Add a key like this one; this one ends after the overlap."""
    return await _rotate(caller, caller.system_scope, key_id, body, "POST /keys/{key_id}/rotate")


@router.get("/tenants/{tenant}/keys", operation_id="netra.key.list")
async def list_keys(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: str | None = None) -> Response:
    """A tenant's keys."""
    return answer(await _list(caller, caller.scope, limit, after))


@router.post("/tenants/{tenant}/keys", operation_id="netra.key.create", status_code=201)
async def create_key(caller: Caller, body: KeyIn) -> Response:
    """Add a tenant's key; `key` in the answer is shown once."""
    return await _create(caller, caller.scope, body, "POST /tenants/{tenant}/keys")


@router.post("/tenants/{tenant}/keys/{key_id}/revoke", operation_id="netra.key.revoke")
async def revoke_key(caller: Caller, key_id: str) -> Response:
    """End a tenant's key: here at once, in other processes within half a second."""
    return await _revoke(caller, caller.scope, key_id, "POST /tenants/{tenant}/keys/{key_id}/revoke")


@router.post("/tenants/{tenant}/keys/{key_id}/rotate", operation_id="netra.key.rotate", status_code=201)
async def rotate_key(caller: Caller, key_id: str, body: KeyRotate | None = None) -> Response:
    """Add a key like this one; this one ends after the overlap."""
    return await _rotate(caller, caller.scope, key_id, body, "POST /tenants/{tenant}/keys/{key_id}/rotate")


async def _list(caller: Access, scope: Scope, limit: int, after: str | None) -> dict[str, Any]:
    start = from_text("key", after) if after is not None else b""
    found: list[ApiKey] = await caller.read(api_keys.page, scope.tenant, start, limit + 1, scope=scope)
    data = [key_out(key) for key in found[:limit]]
    return {"data": data, "after": data[-1]["id"] if data else after, "done": len(found) <= limit}


async def _create(caller: Access, scope: Scope, body: KeyIn, route: str) -> Response:
    pepper = await caller.edge.authenticator.pepper()
    scopes = _scopes(scope, body.scopes)
    expires_us = _expiry(caller, body.expires_at)

    async def make(tx: Tx) -> tuple[bytes, dict[str, Any]]:
        return await _add(tx, pepper, body.name, scopes, expires_us)

    shown, replayed = await once(caller, scope, route, make, _shown_before)
    return answer(shown, 201, replayed=replayed)


async def _revoke(caller: Access, scope: Scope, key_id: str, route: str) -> Response:
    async def make(tx: Tx) -> tuple[bytes, dict[str, Any]]:
        key = await _find(tx, from_text("key", key_id))
        if key.revoked_us is None:
            await api_keys.revoke(tx, tx.tenant, key.id)
        return key.id, key_out(await _find(tx, key.id))

    async def again(tx: Tx, ref: bytes) -> dict[str, Any]:
        return key_out(await _find(tx, ref))

    shown, replayed = await once(caller, scope, route, make, again)
    caller.edge.authenticator.forget()
    return answer(shown, replayed=replayed)


async def _rotate(caller: Access, scope: Scope, key_id: str, body: KeyRotate | None, route: str) -> Response:
    pepper = await caller.edge.authenticator.pepper()
    overlap_us = (body or KeyRotate()).overlap_s * 1_000_000

    async def make(tx: Tx) -> tuple[bytes, dict[str, Any]]:
        former = await _find(tx, from_text("key", key_id))
        if not former.is_valid(tx.now_us):
            raise NotFound(f"there is no live key {key_id[:80]}")
        ends_us = tx.now_us + overlap_us
        await api_keys.expire(tx, tx.tenant, former.id, ends_us if former.expires_us is None else min(ends_us, former.expires_us))
        lifetime_us = None if former.expires_us is None else former.expires_us - former.created_us
        return await _add(tx, pepper, former.name, former.scopes, None if lifetime_us is None else tx.now_us + lifetime_us)

    shown, replayed = await once(caller, scope, route, make, _shown_before)
    caller.edge.authenticator.forget()
    return answer(shown, 201, replayed=replayed)


def key_out(key: ApiKey, secret: str | None = None) -> dict[str, Any]:
    """A key without its secret, save in the answer that made it."""
    out = {
        "id": to_text("key", key.id),
        "tenant": key.tenant,
        "name": key.name,
        "scopes": key.scopes,
        "created_at": timestamp(key.created_us),
        "expires_at": None if key.expires_us is None else timestamp(key.expires_us),
        "revoked_at": None if key.revoked_us is None else timestamp(key.revoked_us),
    }
    return out if secret is None else {**out, "key": secret}


def _expiry(caller: Access, at: datetime | None) -> int | None:
    try:
        expires_us = None if at is None else microseconds(at)
    except OverflowError as error:
        raise InvalidInput(f"expires_at: {error}", fix="Give a time such as 2031-01-01T00:00:00Z.") from None
    if expires_us is not None and expires_us <= caller.edge.netra.runtime.clock.wall_us():
        raise InvalidInput("expires_at is in the past", fix="Give a time that is to come, or leave it out.")
    return expires_us


def _scopes(scope: Scope, given: list[str] | None) -> tuple[str, ...]:
    if scope.tenant == SYSTEM_TENANT:
        if given:
            raise InvalidInput("an operator's key has every scope", fix="Leave scopes out.")
        return ()
    unknown = [name for name in given or () if name not in SCOPES]
    if unknown:
        raise InvalidInput(f"no scope is called {unknown[0][:80]!r}", fix=f"Choose among {', '.join(SCOPES)}.")
    return tuple(dict.fromkeys(given)) if given else (SCOPES[0],)


async def _add(tx: Tx, pepper: bytes, name: str, scopes: tuple[str, ...], expires_us: int | None) -> tuple[bytes, dict[str, Any]]:
    key, secret = await api_keys.create(tx, tenant=tx.tenant, pepper=pepper, name=name, scopes=scopes, expires_us=expires_us)
    return key.id, key_out(key, secret)


async def _shown_before(tx: Tx, ref: bytes) -> dict[str, Any]:
    """A repeated request learns which key it made, and not the key: that was shown once."""
    return key_out(await _find(tx, ref))


async def _find(tx: Tx, key_id: bytes) -> ApiKey:
    before = (int.from_bytes(key_id, "big") - 1).to_bytes(16, "big") if any(key_id) else b""
    found = await api_keys.page(tx, tx.tenant, before, 1)  # the first behind the id's predecessor
    if not found or found[0].id != key_id:
        raise NotFound(f"there is no key {to_text('key', key_id)}")
    return found[0]
