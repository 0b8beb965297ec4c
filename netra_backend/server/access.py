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
from ..kernel import debugging
from ..kernel.debugging import any_session
from ..kernel.scope import SYSTEM_TENANT, Scope, TraceContext
from ..storage.tenants import Tenant
from ..storage.transaction import StoreFunction
from . import sessions
from .auth import Principal
from .body import Headers
from .errors import AuthenticationFailed, MalformedPath, PermissionDenied

if TYPE_CHECKING:
    from .edge import Edge

_BY_LOGIN: Final = b"Login "
"""What a login session's text stands behind, where keys stand behind `Bearer`."""

LOGIN_COOKIE: Final = "__Host-netra-login"
"""Binds a way to a provider to the browser that began it."""

ACCESS: Final = "netra.access"
"""Where in the ASGI scope the routes find who was let in."""

Rule = Literal["public", "any", "tenant", "session", "operator"]
"""`public` needs no key; `any` a valid one; `tenant` one of the tenant in the path; `session` one that may look at pages, whose tenant
it then is; `operator` an operator's."""

_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f/]")
PUBLIC: Final = frozenset({
    ("ready",), ("openapi.json",), ("api", "v1", "health"), ("api", "v1", "health", "ping"),
    ("",), ("ui",), ("ui", "login"), ("ui", "netra.js"), ("ui", "netra.css"),
    ("ui", "netra.svg"),
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
    csrf: str = field(default="", repr=False)
    credential: bytes = field(default=b"", repr=False)

    @property
    def by_key(self) -> bool:
        """Whether a key in the header let it in, not a browser's cookie."""
        return not self.csrf

    @property
    def tenant(self) -> Tenant:
        """The tenant that the path names; `NotFound` if there is none."""
        if self.found is None:
            raise no_tenant(self.reference)
        return self.found

    @property
    def scope(self) -> Scope:
        """For work on that tenant's data."""
        tenant = self.tenant.tenant
        marks = debugging.marks_of(tenant) if any_session else ()
        return Scope(tenant, self.principal.actor, self.trace, debug=marks)

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

    async def check_again(self) -> None:
        """Raise `AuthenticationFailed` where the key has ended since: for what is answered over a long time."""
        if self.credential.startswith(_BY_LOGIN):
            await _logged_in(self.edge, self.credential.removeprefix(_BY_LOGIN))
        else:
            await self.edge.authenticator.authenticate(self.credential)

    async def log_out(self) -> bool:
        """End the login session that let this request in; False where that was a key."""
        if not self.credential.startswith(_BY_LOGIN):
            return False
        logins = self.edge.netra.sso.logins
        session = await logins.session(self.credential.removeprefix(_BY_LOGIN).decode("latin-1"))
        if session is not None:
            await logins.log_out(session)
        return True

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
        case ("oauth2", "jwks") | (".well-known", "oauth-authorization-server") if method == "GET":
            return "public"
        case ("ui", "sso", *_):
            return "public"  # a way to a provider, or its session's own cookie (`login.py`)
        case ("oauth2", "token" | "introspect") if method == "POST":
            return "public"  # whoever asks authenticates as a client, in the form or beside it (`oauth2.py`)
        case ("oauth", "link", _) if method in {"GET", "POST"}:
            return "public"
        case ("api", "v1", "event-type", *_) if method == "GET":
            return "any"
        case ("api", "v1", "traces", _) if method == "GET":
            return "any"
        case ("api", "v1", "auth", "logout") | ("ui", "session") if method == "POST":
            return "any"
        case ("ui", *_):
            return "session"
        case ("api", "v1", "app" | "tenants", _) if method != "GET":
            return "operator"
        case ("api", "v1", "tenants", _, "keys" | "debug", *_):
            return "operator"
        case ("api", "v1", "tenants", _, "audit", *_) if method != "GET":
            return "operator"
        case ("api", "v1", "app" | "tenants", _, *_):
            return "tenant"
        case _:
            return "operator"


TO_LOOK: Final = ("tenant", "webhooks:view")
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
            return TO_LOOK
        case ("api", "v1", "app", _, "endpoint", *_):
            return _TO_MANAGE
        case _:
            return ("tenant",)


async def admit(edge: Edge, method: str, segments: Sequence[str], headers: Headers, trace: TraceContext) -> Access:
    """Let a request in or raise: 401, 403, or 404 for a tenant that is not the key's."""
    rule = rule_of(method, segments, dev=edge.dev)
    if rule == "public":
        return Access(edge, NOBODY, trace)
    key = None if b"authorization" in headers else sessions.key_in(headers)
    if key is None and b"authorization" not in headers and (text := cookie_of(headers.get(b"cookie", b""), sessions.SSO_COOKIE)):
        key, credential = text, _BY_LOGIN + text
        principal = await _logged_in(edge, text)
    else:
        credential = headers.get(b"authorization", b"") if key is None else b"Bearer " + key
        principal = await edge.authenticator.authenticate(credential)
    csrf = "" if key is None else await sessions.csrf_of(edge.authenticator, key)
    if key is not None and (segments[0] != "ui" or method not in {"GET", "HEAD"}):
        sessions.check_origin(headers, csrf)
    reference = _reference(segments)
    found = await edge.directory.get(reference) if reference else None
    access = Access(edge, principal, trace, found, reference, csrf=csrf, credential=credential)
    if rule != "any" and not principal.is_operator:
        _check_tenant(access, rule, method, segments)
    return access


def _check_tenant(access: Access, rule: Rule, method: str, segments: Sequence[str]) -> None:
    """What a tenant's key may do, on its own paths and on pages."""
    principal, found = access.principal, access.found
    if access.reference and (found is None or found.tenant != principal.tenant):
        raise no_tenant(access.reference)
    if rule == "operator":
        raise PermissionDenied("this needs an operator's key")
    sufficient = TO_LOOK if rule == "session" else scopes_that_do(method, segments)
    if not any(map(principal.may, sufficient)):
        raise PermissionDenied(f"this key does not have the scope {sufficient[0]}")


def cookie_of(cookies: bytes, wanted: str) -> bytes:
    """The value of a cookie, or nothing."""
    for each in cookies.split(b";"):
        name, _, value = each.strip().partition(b"=")
        if name == wanted.encode():
            return value
    return b""


OF_ROLES: Final = {
    "viewer": frozenset({"webhooks:view"}),
    "admin": frozenset({"tenant", "webhooks:view", "webhooks:replay", "webhooks:rotate", "webhooks:manage"}),
}
"""What a tenant's people may do, as the scopes of a key."""


async def _logged_in(edge: Edge, text: bytes) -> Principal:
    """Whoever has this session."""
    session = await edge.netra.sso.logins.session(text.decode("latin-1"))
    if session is None:
        raise AuthenticationFailed
    if session.is_operator:
        return Principal(session.tenant, session.actor, frozenset())
    return Principal(session.tenant, session.actor, OF_ROLES[session.role])


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


NOBODY: Final = Principal("", "nobody", frozenset())
