"""An endpoint's own headers: `/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers`. Values that may be credentials are not shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Response

from ..storage.transaction import Tx
from ..webhooks import endpoints
from ..webhooks.model import Endpoint
from .models import HeadersIn, HeadersPatch, check_headers
from .routing import Caller, answer, no_content
from .svix_endpoint import changed

router: Final = APIRouter(prefix="/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers", tags=["Endpoint"])

_SENSITIVE: Final = re.compile(r"auth|cookie|credential|key|pass|secret|signature|token", re.IGNORECASE)


@router.get("", operation_id="v1.endpoint.get-headers")
async def get_headers(caller: Caller, endpoint_id: str) -> Response:
    """The headers that each request carries besides ours; of those that may be credentials only the names, in `sensitive`."""
    endpoint: Endpoint = await caller.read(endpoints.get, endpoint_id)
    return answer(headers_out(endpoint.headers))


@router.put("", operation_id="v1.endpoint.set-headers", status_code=204)
async def set_headers(caller: Caller, endpoint_id: str, body: HeadersIn) -> Response:
    """Replace the headers."""
    await caller.write(endpoints.update, endpoint_id, {"headers": body.headers})
    changed(caller)
    return no_content()


@router.patch("", operation_id="v1.endpoint.patch-headers", status_code=204)
async def patch_headers(caller: Caller, endpoint_id: str, body: HeadersPatch) -> Response:
    """Set some headers and remove some."""
    await caller.write(patch, endpoint_id, body.headers, body.delete_headers or [])
    changed(caller)
    return no_content()


def headers_out(headers: Mapping[str, str]) -> dict[str, Any]:
    """Svix's EndpointHeadersOut."""
    hidden = [name for name in headers if _SENSITIVE.search(name)]
    return {"headers": {name: value for name, value in headers.items() if name not in hidden}, "sensitive": hidden}


async def patch(tx: Tx, reference: str, given: Mapping[str, str], removed: list[str]) -> None:
    """Change headers by name, in whatever case."""
    endpoint = await endpoints.get_to_change(tx, reference)
    gone = {name.lower() for name in (*given, *removed)}
    headers = {name: value for name, value in endpoint.headers.items() if name.lower() not in gone} | dict(given)
    await endpoints.update(tx, endpoint.text_id, {"headers": check_headers(headers)})
