"""A tenant with two identity providers, the second for when the first fails; and who watches over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .issuers import FakeIssuer
from .platform import platform
from .storage import eventually

TENANT = "acme"
QUICK = {
    "oauth_http_timeout": "2s",
    "oauth_lease_ttl": "6s",
    "sso_dwell": "100ms",
    "sso_window": "100ms",
    "sso_return": "100ms",
    "workers": False,
}
"""Everything at once; a test looks by hand."""


@asynccontextmanager
async def signing_on(folder: Any, **settings: Any) -> AsyncIterator[Any]:
    """One process's Netra."""
    async with platform(folder, **{**QUICK, **settings}) as netra:
        yield netra


async def add_provider(netra: Any, name: str, issuer: FakeIssuer, tenant: str = TENANT, **options: Any) -> dict[str, Any]:
    """A client registration and a provider of that name."""
    registration = {"issuer": issuer.url, "client_id": "netra", "client_secrets": ["secret-a"], "scopes": ["openid"]}
    await netra.oauth.set_client(tenant, name, registration)
    found: dict[str, Any] = await netra.sso.set_provider(tenant, name, {"client": name, "default_role": "viewer", **options})
    return found


async def looked_until(netra: Any, **wanted: Any) -> dict[str, Any]:
    """Look after the tenant's providers, again and again, until its status says so."""
    last: dict[str, Any] = {}

    async def there() -> bool:
        await netra.sso.watch.look_at(TENANT)
        last.update(await netra.sso.status(TENANT))
        return wanted.items() <= last.items()

    try:
        await eventually(there)
    except AssertionError:
        raise AssertionError(f"it is {last}, not {wanted}") from None
    return last


def state_of(status: dict[str, Any], name: str) -> str:
    """How well a provider is."""
    return next(each["state"] for each in status["providers"] if each["name"] == name)
