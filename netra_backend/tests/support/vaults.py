"""A vault, or several on one database, and a provider that misbehaves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

from ...kernel.runtime import Runtime
from ...testing.clock import FakeClock, SeededChance
from ...testing.provider import Provider
from .platform import platform

TENANT = "acme"
NAME = "user-1"
FAST = {"oauth_http_timeout": "2s", "oauth_lease_ttl": "6s", "oauth_breaker_open": "200ms", "workers": False}
HASTY = {"oauth_http_timeout": "400ms", "oauth_lease_ttl": "3s"}
"""Where a time-out is what is tried: with these a busy machine causes one by itself."""


@asynccontextmanager
async def vault(folder, fault="", **settings):
    """One process's Netra, which is hasty where the provider's fault is a delay."""
    if fault.startswith("delay"):
        settings = {**HASTY, **settings}
    async with platform(folder, **{**FAST, **settings}) as netra:
        yield netra


@asynccontextmanager
async def timed(folder):
    """A vault on a clock that is turned by hand."""
    clock = FakeClock()
    async with vault(folder, runtime=Runtime(clock=clock, chance=SeededChance())) as netra:
        yield netra, clock


async def connect(netra, provider: Provider, *, expires_in=0, name=NAME, tenant=TENANT, **registration):
    """Register at the provider and import a new grant, whose access token has ended unless `expires_in` says otherwise."""
    await netra.oauth.set_client(tenant, "provider", provider.registration(**registration))
    tokens = provider.grant()
    await netra.oauth.import_(tenant, name, "provider", {**tokens, "expires_in": expires_in})
    return tokens


def consent(provider: Provider, begun):
    """What a user who was sent there brings back."""
    asked = dict(parse_qsl(urlsplit(begun["authorize_url"]).query))
    _, headers, _ = provider._authorize(asked)
    return dict(parse_qsl(urlsplit(headers["location"]).query))


async def audited(netra, tenant=TENANT):
    """The actions of the tenant's audit entries, in order."""
    from ...kernel.scope import Scope
    from ...storage import audit_append

    async def entries(tx):
        return [row[3] for row in await tx.all(audit_append.Q.list_audit_entries, after=b"", limit=1000)]

    return await netra.database.read(entries, scope=Scope(tenant, "tester"))
