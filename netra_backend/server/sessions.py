"""Sessions of browsers: who may look at pages, for how long, and what their requests must carry.

`/ui/login` hands a key over once, as a bearer; from then on a key is in a cookie that no script reads and no other site's page sends.
The key of a portal link is that key itself. Any other key gets one of its own for the session, with the same rights, which ends after
`SESSION_S`, with the key it came from, or when its user signs out: the operator's key itself never lies in a browser.

A cookie is sent by the browser whoever asks. So a request that it lets in, and that is more than a look at a page, comes from a page of
ours: it carries that session's token in a header (which no other origin may set), and what the browser says of its origin is this host.

Over plain http a cookie and a key can be read on their way. Pages are therefore served to this host, over TLS, or through a proxy that
is trusted to say that it was TLS; to everybody else they say how (`check_private`).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from ..kernel.scope import Scope
from ..kernel.setting_types import Network
from ..storage import api_keys
from ..storage.api_keys import PORTAL
from ..storage.transaction import Tx
from .body import Headers
from .errors import InsecureTransport, PermissionDenied

if TYPE_CHECKING:
    from .access import Access
    from .auth import Authenticator, Principal

router: Final = APIRouter(prefix="/ui", include_in_schema=False)

COOKIE: Final = "__Host-netra"
"""`__Host-`: this host, every path, TLS (or this machine)."""

SSO_COOKIE: Final = "__Host-netra-sso"
"""Holds the text of a login session (`login.py`)."""

CSRF_HEADER: Final = b"x-netra-csrf"
SESSION_S: Final = 12 * 3600
LINK_S: Final = 7 * 24 * 3600
NAME: Final = "dashboard session"
_SET: Final = "{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={age}"
_THIS_HOST: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@router.post("/session", status_code=204)
async def sign_in(request: Request) -> Response:
    """Put a key with the rights of this request's into the browser's cookie."""
    access = _access(request)
    principal = access.principal
    if not access.by_key:
        raise PermissionDenied("a session begins with a key, not with the cookie of another one")
    if not (principal.is_operator or principal.may("tenant") or principal.may("webhooks:view")):
        raise PermissionDenied("this key may look at nothing that these pages show")
    if PORTAL in principal.scopes:
        return _with_cookie(access.credential.partition(b" ")[2].strip().decode("latin-1"), LINK_S)
    scope = Scope(principal.tenant, principal.actor, access.trace)
    pepper = await access.edge.authenticator.pepper()
    return _with_cookie(await access.write(_begin, pepper, principal, scope=scope), SESSION_S)


@router.delete("/session", status_code=204)
async def sign_out(request: Request) -> Response:
    """End the session, the portal link, or the login at a provider; the browser forgets its cookie."""
    access = _access(request)
    if await access.log_out():
        return _with_cookie("", 0, SSO_COOKIE)
    await end(access)
    return _with_cookie("", 0)


async def end(access: Access) -> None:
    """Revoke the key that was used, if it is a link's or a session's."""
    principal = access.principal
    if PORTAL not in principal.scopes:
        raise PermissionDenied("only the key of a portal link or a session can be logged out")
    await access.write(api_keys.revoke, principal.tenant, principal.key_id, scope=Scope(principal.tenant, principal.actor, access.trace))
    access.edge.authenticator.forget()


def key_in(headers: Headers) -> bytes | None:
    """The key in the cookie, empty if that is; None if there is no cookie."""
    for each in headers.get(b"cookie", b"").split(b";"):
        name, _, value = each.strip().partition(b"=")
        if name == COOKIE.encode():
            return value
    return None


async def csrf_of(authenticator: Authenticator, key: bytes) -> str:
    """The token that a session's own pages carry: known to whoever can read them, and of no use without the cookie."""
    return hmac.digest(await authenticator.pepper(), b"csrf\0" + key, hashlib.sha256).hex()[:32]


def check_origin(headers: Headers, csrf: str) -> None:
    """Raise `PermissionDenied` unless the request comes from a page of this session."""
    origin, host = headers.get(b"origin"), headers.get(b"host", b"")
    if headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin" or (origin is not None and origin.partition(b"://")[2] != host):
        raise PermissionDenied("another site's page asked for this")
    if not hmac.compare_digest(headers.get(CSRF_HEADER, b""), csrf.encode()):
        raise PermissionDenied("this request does not carry its session's token")


def check_private(scope: Mapping[str, Any], headers: Headers, proxies: Sequence[Network]) -> None:
    """Raise `InsecureTransport` where somebody on the way could read what a page shows."""
    if scope.get("scheme") == "https":
        return
    peer = _address((scope.get("client") or ("",))[0])
    forwarded = headers.get(b"x-forwarded-proto")
    if forwarded is not None:
        private = forwarded == b"https" and peer is not None and any(peer in network for network in proxies)
    else:
        private = peer is not None and peer.is_loopback and _names_this_host(headers.get(b"host", b""))
    if not private:
        raise InsecureTransport


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _names_this_host(host: bytes) -> bool:
    """A name of this machine: a page under another one was not asked for from here, or is another site's (DNS rebinding)."""
    try:
        return urlsplit(f"//{host.decode('ascii')}").hostname in _THIS_HOST
    except ValueError:
        return False


async def _begin(tx: Tx, pepper: bytes, principal: Principal) -> str:
    ends_us = tx.now_us + SESSION_S * 1_000_000
    expires_us = ends_us if principal.expires_us is None else min(ends_us, principal.expires_us)
    scopes = (*sorted(principal.scopes), PORTAL)
    _, key = await api_keys.create(
        tx, tenant=principal.tenant, pepper=pepper, name=NAME, scopes=scopes, expires_us=expires_us, parent=principal.key_id
    )
    return key


def _with_cookie(value: str, age_s: int, name: str = COOKIE) -> Response:
    return Response(status_code=204, headers={"set-cookie": _SET.format(name=name, value=value, age=age_s)})


def _access(request: Request) -> Access:
    access: Access = request.scope["netra.access"]
    return access
