"""Who may do what, decided from the method and the raw path, before anything of the request is parsed.

One table for all routes, closed by default: what no rule names is the operator's. The path is split before it is
decoded, and an encoded slash is refused, so that what is judged here is what is routed later.

A tenant's key on another tenant's path gets the answer of a path that names no tenant, 404: whether that tenant exists
is not its business. A tenant's key on the operator's routes gets 403, which tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote_to_bytes

from ..errors import NetraError, NotFound
from ..kernel.scope import SYSTEM_TENANT, Scope, TraceContext
from ..storage.tenants import Tenant
from ..storage.transaction import StoreFunction
from .auth import Principal
from .errors import MalformedPath, PermissionDenied

if TYPE_CHECKING:
    from .edge import Edge

ACCESS: Final = "netra.access"
"""Where in the ASGI scope the routes find who was let in."""

Rule = Literal["public", "any", "tenant", "operator"]
"""`public` needs no key; `any` a valid one; `tenant` one of the tenant in the path; `operator` an operator's."""

_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f/]")
PUBLIC: Final = frozenset({("ready",), ("openapi.json",), ("api", "v1", "health"), ("api", "v1", "health", "ping")})


@dataclass(frozen=True, slots=True)
class Access:
    """A request that was let in: by whom, for which tenant, in which trace."""

    edge: Edge
    principal: Principal
    trace: TraceContext
    found: Tenant | None = None
    reference: str = ""
    idempotency_key: str | None = None
    body: bytes = field(default=b"", repr=False)
    path: str = ""

    @property
    def tenant(self) -> Tenant:
        """The tenant that the path names; `NotFound` if there is none."""
        if self.found is None:
            raise no_tenant(self.reference)
        return self.found

    @property
    def scope(self) -> Scope:
        """For work on that tenant's data."""
        return Scope(self.tenant.tenant, self.principal.actor, self.trace)

    @property
    def system_scope(self) -> Scope:
        """For work on what belongs to the installation."""
        return Scope(SYSTEM_TENANT, self.principal.actor, self.trace)

    async def read(self, fn: StoreFunction, *args: Any, scope: Scope | None = None) -> Any:
        """Run a store function that only reads, on the tenant's data unless another scope is given."""
        return await self.edge.netra.database.read(fn, *args, scope=scope or self.scope)

    async def write(self, fn: StoreFunction, *args: Any, scope: Scope | None = None) -> Any:
        """Run a store function in a transaction, on the tenant's data unless another scope is given."""
        return await self.edge.netra.database.write(fn, *args, scope=scope or self.scope)

    def require(self, scope: str) -> None:
        """Raise `PermissionDenied` unless the key has this scope."""
        if not self.principal.may(scope):
            raise PermissionDenied(f"this key does not have the scope {scope}")


def segments_of(raw_path: bytes) -> tuple[str, ...]:
    """The path's segments, decoded one by one; a trailing slash makes no difference."""
    parts = raw_path[1:].removesuffix(b"/").split(b"/")
    if b"%" not in raw_path and raw_path.isascii():
        return tuple(raw_path[1:].removesuffix(b"/").decode("ascii").split("/"))
    try:
        decoded = tuple(unquote_to_bytes(part).decode() for part in parts)
    except UnicodeDecodeError:
        raise MalformedPath("the path is not UTF-8") from None
    if any(_FORBIDDEN.search(part) for part in decoded):
        raise MalformedPath("the path holds an encoded slash or a control character")
    return decoded


def rule_of(method: str, segments: Sequence[str], *, dev: bool = False) -> Rule:
    """Which kind of key a request needs."""
    if tuple(segments) in PUBLIC or (dev and tuple(segments) == ("metrics",)):
        return "public"
    match segments:
        case ("webhooks", _, _, "jwks.json") if method == "GET":
            return "public"
        case ("oauth", "callback") if method == "GET":
            return "public"
        case ("api", "v1", "event-type", *_) if method == "GET":
            return "any"
        case ("api", "v1", "app" | "tenants", _) if method != "GET":
            return "operator"
        case ("api", "v1", "tenants", _, "keys", *_):
            return "operator"
        case ("api", "v1", "app" | "tenants", _, *_):
            return "tenant"
        case _:
            return "operator"


def scope_needed(method: str, segments: Sequence[str]) -> str:
    """The scope that a tenant's key needs on its own tenant's paths."""
    match segments:
        case ("api", "v1", "app", _, "endpoint", _, "secret") if method == "GET":
            return "endpoint:secret"
        case ("api", "v1", "tenants", _, "connections", _, "token"):
            return "connection:token"
        case _:
            return "tenant"


async def admit(edge: Edge, method: str, segments: Sequence[str], authorization: bytes | None, trace: TraceContext) -> Access:
    """Let a request in or raise: 401, 403, or 404 for a tenant that is not the key's."""
    rule = rule_of(method, segments, dev=edge.dev)
    if rule == "public":
        return Access(edge, _NOBODY, trace)
    principal = await edge.authenticator.authenticate(authorization)
    if rule == "any":
        return Access(edge, principal, trace)
    reference = segments[3] if len(segments) > 3 and segments[2] in {"app", "tenants"} else ""
    found = await edge.directory.get(reference) if reference else None
    if principal.is_operator:
        return Access(edge, principal, trace, found, reference)
    if reference and (found is None or found.tenant != principal.tenant):
        raise no_tenant(reference)
    if rule == "operator":
        raise PermissionDenied("this needs an operator's key")
    if not principal.may(scope_needed(method, segments)):
        raise PermissionDenied(f"this key does not have the scope {scope_needed(method, segments)}")
    return Access(edge, principal, trace, found, reference)


def no_tenant(reference: str) -> NetraError:
    """The one answer for a tenant that does not exist, was deleted, or is somebody else's."""
    return NotFound(f"there is no tenant {reference[:80]!r}", fix="Make it with an operator's key: netra tenant create.")


_NOBODY: Final = Principal("", "nobody", frozenset())
