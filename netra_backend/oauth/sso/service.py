"""Single sign-on as the rest of Netra sees it: `netra.sso`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from copy import copy
from typing import Any, Final

from ...errors import InvalidInput
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, TraceContext, system_scope
from ...storage.database import Database
from ...storage.sealing import Sealer
from ...storage.tenants import ensure_system
from ..registration import checked_name
from ..service import OAuth
from . import store
from .health import worst
from .issuing import Issuing
from .login import Logins
from .model import Offered, Provider, checked_options, is_subject
from .rotation import Rotation
from .settings import SsoSettings
from .watch import Member, Prober, Watch

MOST_RANK: Final = 1000
ScopeOf = Callable[[str | None], Awaitable[Scope]]


class Sso:
    """Providers that people log in at, and which of them. `as_operator` is the installation's own sign-on, for operators."""

    def __init__(
        self, database: Database, runtime: Runtime, settings: SsoSettings, sealer: Sealer, vault: OAuth, member: Member, scope_of: ScopeOf
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self.scope_of = scope_of
        self._vault = vault
        self.watch = Watch(database, runtime, settings, sealer, member, Prober(vault.refresher, vault.egress, vault.deadline_s))
        vault.refresher.observe = self.watch.observe
        self.issuing = Issuing(database, runtime, sealer, vault.judges)
        self.logins = Logins(database, runtime, settings, sealer, vault, self.watch.hint)
        self.watch.chores += [self.issuing.look, self.logins.look]

    def as_operator(self, actor: str = "operator", trace: TraceContext | None = None) -> Sso:
        """The installation's own sign-on, in the name of whoever administers it: the same calls, for no tenant."""

        async def installation(_: str | None) -> Scope:
            scope = system_scope(actor, trace)
            await self._database.write(ensure_system, scope=scope)
            return scope

        found = copy(self)
        found.scope_of = installation
        return found

    async def start(self, *, watches: bool) -> None:
        """Begin; with `watches` look after providers whenever no other process does."""
        await self.logins.renewals.start()
        if watches:
            self.watch.start()

    async def stop(self) -> None:
        """End."""
        await self.watch.stop()
        await self.logins.renewals.stop()

    async def set_provider(
        self, tenant: str | None = None, name: str = "", registration: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Add a provider that people log in at, or change it; as it stands then.

        `registration` has `client` (the name of a client registration with an `issuer`, or one to be made under the provider's name),
        `rank` (0 is asked first), `enabled`, and the options of docs/sso.md.
        """
        scope = await self.scope_of(tenant)
        given = dict(registration or {})
        client, rank, enabled = given.pop("client", None), given.pop("rank", 0), given.pop("enabled", True)
        if not client or not isinstance(client, str | Mapping):
            raise InvalidInput("client is missing", fix="Name the client registration that people log in by, or give one whole.")
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= MOST_RANK or not isinstance(enabled, bool):
            raise InvalidInput(
                f"rank {rank!r}, enabled {enabled!r}", fix=f"The rank is a whole number from 0 to {MOST_RANK}, enabled is true or false."
            )
        options = checked_options(given)
        if not isinstance(client, str):
            client = (await self._vault.register(scope, name, client))["name"]
        offered = Offered(checked_name(name), client, rank, enabled, options)
        found = await self._database.write(store.set_provider, offered, self._settings, scope=scope)
        rotation, _ = await self._database.read(store.rotation, scope=scope)
        return next(provider_of(each, rotation) for each in found if each.name == name)

    async def link(
        self, tenant: str | None = None, provider: str = "", subject: str = "", backup: str = "", backup_subject: str = ""
    ) -> dict[str, Any]:
        """Say beforehand that `backup_subject` at the provider `backup` is `subject` at `provider`; nobody else gets in by a backup."""
        if not is_subject(subject) or not is_subject(backup_subject):
            raise InvalidInput("a subject is 1 to 255 printable ASCII characters", fix="Give the `sub` that the issuer's tokens have.")
        scope = await self.scope_of(tenant)
        await self._database.write(store.link, provider, subject, backup, backup_subject, scope=scope)
        return {"provider": provider, "subject": subject, "backup": backup, "backup_subject": backup_subject}

    async def status(self, tenant: str | None = None) -> dict[str, Any]:
        """Where new logins go, why, and how well each provider is."""
        return await self._status(await self.scope_of(tenant))

    async def _status(self, scope: Scope) -> dict[str, Any]:
        found, rotation = await self._database.read(store.both, scope=scope)
        return status_of(found, rotation, self._settings)

    async def pin(self, tenant: str | None = None, provider: str | None = None) -> dict[str, Any]:
        """Lead all new logins to one provider, whatever its health, until this is called with None."""
        scope = await self.scope_of(tenant)
        await self._database.write(store.pin, provider, scope=scope)
        return await self._status(scope)

    async def issue(
        self,
        tenant: str | None = None,
        subject: str = "",
        *,
        audience: Collection[str] = (),
        scopes: Collection[str] = (),
        lives_s: float = 300,
        issuer: str | None = None,
        may_act: Mapping[str, Any] | None = None,
    ) -> str:
        """A token of ours for `subject`, which its tenant's services may trade for narrower ones at `/oauth2/token`.

        For a program that has found out by itself whom it speaks for. `issuer` is the server's address where `public_url` is not set;
        `may_act` names who alone may act for the subject (RFC 8693 section 4.4).
        """
        scope = await self.scope_of(tenant)
        name = issuer or self._settings.public_url
        if name is None:
            raise InvalidInput("this issuer has no name", fix="Set NETRA_PUBLIC_URL, or give `issuer`, the server's address.")
        more = {} if may_act is None else {"may_act": dict(may_act)}
        names = [audience] if isinstance(audience, str) else list(audience)
        return await self.issuing.issue(scope, name.rstrip("/"), subject, names, scopes, lives_s, **more)

    async def rotate_keys(self) -> None:
        """Make the next signing key, which is published at once and signs in an hour; it also happens by itself, once in 30 days."""
        await self.issuing.rotate()


def provider_of(provider: Provider, rotation: Rotation) -> dict[str, Any]:
    """The JSON of a provider."""
    operations = rotation.health.get(provider.issuer, {})
    return {
        "name": provider.name,
        "client": provider.client,
        "issuer": provider.issuer,
        "rank": provider.rank,
        "enabled": provider.enabled,
        "state": worst(operations),
        "operations": {name: {"state": health.state, "reason": health.reason or None} for name, health in sorted(operations.items())},
        "algorithms": list(provider.algorithms),
        "role_claim": provider.role_claim,
        "roles": {role: list(values) for role, values in provider.roles.items()},
        "default_role": provider.default_role,
        "audiences": list(provider.audiences),
    }


def status_of(found: list[Provider], rotation: Rotation, settings: SsoSettings) -> dict[str, Any]:
    """The JSON of a tenant's rotation."""
    return {
        "active": rotation.active or None,
        "pinned": rotation.pinned,
        "returning": rotation.returning,
        "share": rotation.share,
        "held": rotation.held,
        "flips": len(rotation.flips),
        "dwell_left_s": round(rotation.dwells(settings.dwell_s), 3),
        "providers": [provider_of(each, rotation) for each in found],
    }
