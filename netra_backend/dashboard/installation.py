"""The operator's own pages: tenants and keys, and the settings as `netra doctor` sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter

from ..kernel.scope import SYSTEM_TENANT
from ..storage import api_keys
from ..storage.api_keys import SCOPES, ApiKey
from ..storage.transaction import Tx
from . import choosing
from .lately import Lately
from .routing import page
from .visits import Visit

router: Final = APIRouter()
KEYS: Final = 250
_checked: Final[Lately[Sequence[Mapping[str, str]]]] = Lately(fresh_s=30.0)
"""The doctor opens the database anew, which takes longer than a page may."""


@page(router, "tenants", "tenants.html", "operator", of_tenant=False)
async def tenants(visit: Visit) -> dict[str, Any]:
    """All tenants, and the keys of the one that is chosen, or the operators'."""
    owner = visit.tenant.tenant if visit.tenant is not None else SYSTEM_TENANT
    keys: list[ApiKey] = await visit.read_all(_keys, owner)
    now_us = visit.now_us
    return {
        "listed": await choosing.listed(visit),
        "keys": [(key, key.is_valid(now_us)) for key in reversed(keys)],
        "more_keys": len(keys) == KEYS,
        "scopes": SCOPES,
    }


@page(router, "settings", "settings.html", "operator", of_tenant=False)
async def settings(visit: Visit) -> dict[str, Any]:
    """Every setting, secrets masked, and what `netra doctor` finds."""
    checked_us, checks = await _checked.get(visit.netra, visit.access.edge.doctor or _nobody)
    return {"settings": visit.netra.settings.masked(), "checks": checks, "checked_us": checked_us}


async def _nobody() -> Sequence[Mapping[str, str]]:
    """Where the server runs inside another program."""
    return ()


async def _keys(tx: Tx, tenant: str) -> list[ApiKey]:
    return await api_keys.page(tx, tenant, b"", KEYS)
