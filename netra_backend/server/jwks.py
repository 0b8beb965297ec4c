"""The public keys of an endpoint's Ed25519 pairs, for receivers: open to everybody, as public keys are.

Only ids are taken, which nobody guesses, and whatever is not there has an empty set: the address does not tell which
tenants and endpoints exist.
"""

from __future__ import annotations

from typing import Final

import orjson
from fastapi import APIRouter, Response

from ..kernel.ids import try_from_text
from ..kernel.scope import Scope
from ..webhooks import endpoints
from .routing import Caller

router: Final = APIRouter(tags=["Endpoint"])

MEDIA_TYPE: Final = "application/jwk-set+json"
KEPT_S: Final = 60
"""How long a receiver may keep the set: a revoked key is believed no longer than this."""


@router.get("/webhooks/{app_id}/{endpoint_id}/jwks.json", operation_id="netra.endpoint.jwks")
async def public_keys(caller: Caller, app_id: str, endpoint_id: str) -> Response:
    """The live public keys of an endpoint as a JSON Web Key Set (RFC 7517 section 5), the newest first; no key is needed."""
    found = await _keys(caller, app_id, endpoint_id)
    return Response(orjson.dumps({"keys": found}), 200, {"cache-control": f"public, max-age={KEPT_S}"}, MEDIA_TYPE)


async def _keys(caller: Caller, app_id: str, endpoint_id: str) -> list[dict[str, str]]:
    id_ = try_from_text("ep", endpoint_id)
    tenant = await caller.edge.directory.get(app_id) if try_from_text("app", app_id) is not None else None
    if tenant is None or id_ is None:
        return []
    scope = Scope(tenant.tenant, caller.principal.actor, caller.trace)
    found: list[dict[str, str]] = await caller.read(endpoints.public_keys, caller.edge.netra.sealer, id_, scope=scope)
    return found
