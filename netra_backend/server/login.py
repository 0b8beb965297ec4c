"""Logging in at the pages through an identity provider, and sessions in a cookie that no script reads.

The cookie of the way must come back when the provider's page sends the browser here, so it is `Lax`; the session's own is `Strict`. A
`Strict` cookie is not sent along the provider's redirect, so the callback answers with a page that goes on by itself from our own site.
"""

from __future__ import annotations

import re
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import HTMLResponse

from ..errors import InvalidInput, NetraError
from ..kernel.scope import SYSTEM_TENANT
from ..oauth.sso.errors import LoginRefused
from ..oauth.sso.sessions import Session
from .access import LOGIN_COOKIE, Access, cookie_of
from .errors import AuthenticationFailed, PermissionDenied
from .oauth import LONGEST_QUERY
from .oauth2 import issuer_of
from .routing import Caller, answer
from .sessions import SSO_COOKIE

router: Final = APIRouter(prefix="/ui/sso", include_in_schema=False)

_TARGET: Final = re.compile(r"/ui/[A-Za-z0-9/_.-]{0,200}\Z")
_COOKIE: Final = "{name}={value}; Path=/; Secure; HttpOnly; SameSite={site}; Max-Age={age}"
_WAY_S: Final = 600

TenantRef = Annotated[str, Path(max_length=256, description="A tenant.")]
Target = Annotated[str, Query(max_length=256, description="The page to go on to.")]


@router.get("/callback")
async def callback(caller: Caller, request: Request) -> Response:
    """Where the provider sends the browser back to; a page that goes on by itself, or one that says why not."""
    given = request.query_params
    if len(given.multi_items()) != len(given) or len(request.url.query) > LONGEST_QUERY:
        raise InvalidInput("a parameter stands twice, or they are too long", fix="Begin again where you came from.")
    browser = cookie_of(request.headers.get("cookie", "").encode("latin-1"), LOGIN_COOKIE).decode("latin-1")
    try:
        text, session, target = await caller.edge.netra.sso.logins.finish(dict(given), browser)
    except LoginRefused as error:
        return _page(f"<p>You are not logged in: {escape(error.detail)}.</p>", error.status, _gone(LOGIN_COOKIE))
    age = max(1, (session.expires_us - caller.edge.netra.runtime.clock.wall_us()) // 1_000_000)
    cookie = _COOKIE.format(name=SSO_COOKIE, value=text, site="Strict", age=age)
    body = f'<meta http-equiv="refresh" content="0; url={escape(target)}"><p><a href="{escape(target)}">Go on</a></p>'
    return _page(body, 200, cookie, _gone(LOGIN_COOKIE))


@router.get("/session")
async def shown(caller: Caller, request: Request) -> Response:
    """Who is logged in, and until when."""
    session = await _session(caller, request)
    return answer(
        {
            "tenant": None if session.is_operator else session.tenant,
            "role": "operator" if session.is_operator else session.role,
            "issuer": session.issuer,
            "subject": session.subject,
            "backup": session.backup,
            "expires_at": session.expires_us / 1_000_000,
        }
    )


@router.post("/logout")
async def log_out(caller: Caller, request: Request, everywhere: bool = False) -> Response:  # noqa: FBT001, FBT002  (a query parameter)
    """End this session, or all of this person's."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise PermissionDenied("another site's page asked for this")
    session = await _session(caller, request)
    await caller.edge.netra.sso.logins.log_out(session, everywhere=everywhere)
    return Response(status_code=204, headers={"set-cookie": _gone(SSO_COOKIE)})


@router.get("")
async def begin_as_operator(caller: Caller, request: Request, to: Target = "/ui/overview") -> Response:
    """Send an operator's browser to the installation's own provider."""
    return await _begin(caller, request, SYSTEM_TENANT, to)


@router.get("/{tenant}")
async def begin(caller: Caller, request: Request, tenant: TenantRef, to: Target = "/ui/overview") -> Response:
    """Send a tenant's browser to its provider."""
    found = await caller.edge.directory.get(tenant)
    return await _begin(caller, request, found.tenant if found is not None else "", to)


async def _begin(caller: Access, request: Request, tenant: str, target: str) -> Response:
    if not _TARGET.match(target) or "//" in target or ".." in target:
        raise InvalidInput("this is no page of ours", fix="Give `to` as a path below /ui/.")
    try:
        if not tenant:
            raise LoginRefused("no_provider")
        address, browser = await caller.edge.netra.sso.logins.begin(tenant, f"{issuer_of(caller, request)}/ui/sso/callback", target)
    except NetraError as error:
        if not isinstance(error, LoginRefused) and error.status != 404:
            raise
        return _page("<p>Nobody can log in here.</p>", 404)
    cookie = _COOKIE.format(name=LOGIN_COOKIE, value=browser, site="Lax", age=_WAY_S)
    return Response(status_code=303, headers={"location": address, "set-cookie": cookie})


async def _session(caller: Access, request: Request) -> Session:
    text = cookie_of(request.headers.get("cookie", "").encode("latin-1"), SSO_COOKIE).decode("latin-1")
    session = await caller.edge.netra.sso.logins.session(text) if text else None
    if session is None:
        raise AuthenticationFailed
    return session


def _gone(name: str) -> str:
    return _COOKIE.format(name=name, value="", site="Strict", age=0)


def _page(body: str, status: int, *cookies: str) -> Response:
    shown = HTMLResponse(f"<!doctype html><title>Netra</title>{body}", status)
    for cookie in cookies:
        shown.headers.append("set-cookie", cookie)
    return shown
