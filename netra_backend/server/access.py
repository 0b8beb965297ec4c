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
from .body import Headers
from .errors import MalformedPath, PermissionDenied

if TYPE_CHECKING:
    from .edge import Edge

SESSION_COOKIE: Final = "__Host-netra"
"""Holds the key of a portal link while somebody looks at its pages. `__Host-`: this host, every path, TLS (or loopback)."""

ACCESS: Final = "netra.access"
"""Where in the ASGI scope the routes find who was let in."""

Rule = Literal["public", "any", "tenant", "session", "operator"]
"""`public` needs no key; `any` a valid one; `tenant` one of the tenant in the path; `session` one in the cookie of a portal's
page, whose tenant it then is; `operator` an operator's."""

_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f/]")
PUBLIC: Final = frozenset({
    ("ready",), ("openapi.json",), ("api", "v1", "health"), ("api", "v1", "health", "ping"),
    ("ui", "login"), ("ui", "portal.js"), ("ui", "portal.css"),
})  # fmt: skip


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
        case ("oauth", "link", _) if method in {"GET", "POST"}:
            return "public"
        case ("api", "v1", "event-type", *_) if method == "GET":
            return "any"
        case ("api", "v1", "auth", "logout") | ("ui", "session") if method == "POST":
            return "any"
        case ("ui", "webhooks", *_) | ("ui", "session"):
            return "session"
        case ("api", "v1", "app" | "tenants", _) if method != "GET":
            return "operator"
        case ("api", "v1", "tenants", _, "keys", *_):
            return "operator"
        case ("api", "v1", "app" | "tenants", _, *_):
            return "tenant"
        case _:
            return "operator"


_TO_VIEW: Final = ("tenant", "webhooks:view")
_TO_REPLAY: Final = ("tenant", "webhooks:replay")
_TO_ROTATE: Final = ("tenant", "webhooks:rotate")
_TO_MANAGE: Final = ("tenant", "webhooks:manage")
REPLAYS: Final = frozenset({"send-example", "recover", "replay-missing", "bulk-replay"})


def scopes_that_do(method: str, segments: Sequence[str]) -> tuple[str, ...]:
    """The scopes of which a tenant's key needs one on its own tenant's paths, the usual one first."""
    match segments:
        case ("api", "v1", "app", _, "endpoint", _, "secret") if method == "GET":
            return ("endpoint:secret",)
        case ("api", "v1", "tenants", _, "connections", _, "token"):
            return ("connection:token",)
        case ("api", "v1", "app", _, "endpoint", _, "secret", "rotate"):
            return _TO_ROTATE
        case ("api", "v1", "app", _, "endpoint", _, verb) if verb in REPLAYS:
            return _TO_REPLAY
        case ("api", "v1", "app", _, "msg", _, "endpoint", _, "resend"):
            return _TO_REPLAY
        case ("api", "v1", "app", _, *_) if method in {"GET", "HEAD"}:
            return _TO_VIEW
        case ("api", "v1", "app", _, "endpoint", *_):
            return _TO_MANAGE
        case _:
            return ("tenant",)


async def admit(edge: Edge, method: str, segments: Sequence[str], headers: Headers, trace: TraceContext) -> Access:
    """Let a request in or raise: 401, 403, or 404 for a tenant that is not the key's."""
    rule = rule_of(method, segments, dev=edge.dev)
    if rule == "public":
        return Access(edge, _NOBODY, trace)
    if rule == "session":
        return await _admit_session(edge, headers, trace)
    principal = await edge.authenticator.authenticate(headers.get(b"authorization"))
    if rule == "any":
        return Access(edge, principal, trace)
    reference = _reference(segments)
    found = await edge.directory.get(reference) if reference else None
    if principal.is_operator:
        return Access(edge, principal, trace, found, reference)
    if reference and (found is None or found.tenant != principal.tenant):
        raise no_tenant(reference)
    if rule == "operator":
        raise PermissionDenied("this needs an operator's key")
    sufficient = scopes_that_do(method, segments)
    if not any(map(principal.may, sufficient)):
        raise PermissionDenied(f"this key does not have the scope {sufficient[0]}")
    return Access(edge, principal, trace, found, reference)


async def _admit_session(edge: Edge, headers: Headers, trace: TraceContext) -> Access:
    """The cookie is sent by the browser whatever page asks for it, so what has an effect must come from a page of ours."""
    principal = await edge.authenticator.authenticate(b"Bearer " + session_of(headers.get(b"cookie", b"")))
    if principal.is_operator or not principal.may("webhooks:view"):
        raise PermissionDenied("these pages are opened by the key of a portal link")
    return Access(edge, principal, trace)


def session_of(cookies: bytes) -> bytes:
    """The key in the portal's cookie, or nothing."""
    for each in cookies.split(b";"):
        name, _, value = each.strip().partition(b"=")
        if name == SESSION_COOKIE.encode():
            return value
    return b""


def _reference(segments: Sequence[str]) -> str:
    """How the path names its tenant, if it names one."""
    match segments:
        case ("api", "v1", "app" | "tenants", reference, *_) | ("api", "v1", "auth", "app-portal-access" | "app", reference, *_):
            return reference
        case _:
            return ""


def no_tenant(reference: str) -> NetraError:
    """The one answer for a tenant that does not exist, was deleted, or is somebody else's."""
    return NotFound(f"there is no tenant {reference[:80]!r}", fix="Make it with an operator's key: netra tenant create.")


_NOBODY: Final = Principal("", "nobody", frozenset())
