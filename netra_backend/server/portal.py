"""The pages behind a portal link: what a tenant's people see of their webhooks, read-only, until the dashboard takes their place.

`/ui/login` takes the key from behind the link's `#` by a few lines of script of our own and hands it over once; from then on it is in a
cookie that no script reads and no other site's page sends. The pages themselves are plain HTML and read without script.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import resources
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import NotFound
from ..kernel.scope import Scope
from ..storage import tenants
from ..storage.transaction import Tx
from ..webhooks import endpoints, search
from ..webhooks.health import with_health
from ..webhooks.search import AttemptFilter, MessageFilter
from .access import SESSION_COOKIE
from .errors import AuthenticationFailed, PermissionDenied
from .pages import HEADERS
from .pagination import CREATED, FIRST, Asked, Iterator, page
from .render import attempt_out, delivery_out, endpoint_out, message_out
from .routing import Caller
from .svix_auth import end_session
from .svix_message import find_message, message_place, messages_in

router: Final = APIRouter(prefix="/ui", include_in_schema=False)

MESSAGES_A_PAGE: Final = 50
MOST_SHOWN: Final = 250
_COOKIE: Final = f"{SESSION_COOKIE}={{value}}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={{age}}"
_LONGEST_S: Final = 7 * 24 * 3600
_KINDS: Final = {"portal.js": "text/javascript", "portal.css": "text/css"}


@router.get("/login")
async def login() -> Response:
    """Takes the key from the link; see the module's docstring."""
    return _html("login.html")


@router.get("/portal.js")
async def script() -> Response:
    """The script of `/ui/login` and of the sign-out button."""
    return _asset("portal.js")


@router.get("/portal.css")
async def style() -> Response:
    """How the pages look."""
    return _asset("portal.css")


@router.post("/session", status_code=204)
async def sign_in(caller: Caller, request: Request) -> Response:
    """Put the key of this request into the browser's cookie."""
    if caller.principal.is_operator or not caller.principal.may("webhooks:view"):
        raise PermissionDenied("only the key of a portal link opens these pages")
    key = request.headers["authorization"].partition(" ")[2].strip()
    return Response(status_code=204, headers={**HEADERS, "set-cookie": _COOKIE.format(value=key, age=_LONGEST_S)})


@router.delete("/session", status_code=204)
async def sign_out(caller: Caller, request: Request) -> Response:
    """End the link and forget its key. `SameSite=Strict` keeps other sites from asking for it; `Sec-Fetch-Site` says so again."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise PermissionDenied("another site's page asked for this")
    await end_session(caller)
    return Response(status_code=204, headers={**HEADERS, "set-cookie": _COOKIE.format(value="", age=0)})


@router.get("/webhooks")
async def overview(caller: Caller, iterator: Iterator = None) -> Response:
    """A tenant's endpoints and its messages, the newest first."""
    scope = _scope(caller)
    found = await caller.read(_overview, scope=scope)
    fetch = partial(caller.read, messages_in, MessageFilter(), scope=scope)
    listed = await page(Asked(MESSAGES_A_PAGE, iterator), CREATED, fetch, message_place, message_out)
    return _html("webhooks.html", **found, messages=listed)


@router.get("/webhooks/{msg_id}")
async def message(caller: Caller, msg_id: str) -> Response:
    """One message: how it stands at each endpoint, and its attempts."""
    return _html("message.html", **await caller.read(_message, msg_id, scope=_scope(caller)))


def _scope(caller: Caller) -> Scope:
    """The tenant is the key's own."""
    return Scope(caller.principal.tenant, caller.principal.actor, caller.trace)


async def _overview(tx: Tx) -> dict[str, Any]:
    tenant = await tenants.by_name(tx, tx.tenant)
    if tenant is None:
        raise AuthenticationFailed
    found = await endpoints.page(tx, FIRST, MOST_SHOWN + 1)
    shown = await with_health(tx, found[:MOST_SHOWN])
    return {"tenant": tenant.name, "endpoints": [endpoint_out(*each) for each in shown], "more_endpoints": len(found) > MOST_SHOWN}


async def _message(tx: Tx, reference: str) -> dict[str, Any]:
    tenant = await tenants.by_name(tx, tx.tenant)
    if tenant is None:
        raise NotFound("there is no such tenant any more")
    found = await find_message(tx, reference)
    destinations = await search.destinations(tx, found.id, None, MOST_SHOWN, back=False)
    attempts = await search.attempts_of_message(tx, found.id, AttemptFilter(), None, MOST_SHOWN, back=False)
    return {
        "tenant": tenant.name,
        "message": message_out(found, with_content=False),
        "payload": found.payload,
        "destinations": [{**endpoint_out(endpoint), **delivery_out(delivery)} for delivery, endpoint in destinations],
        "attempts": [attempt_out(attempt, None, with_content=True) for attempt in attempts],
    }


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader(__package__, "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _html(name: str, **values: Any) -> Response:
    return Response(_templates().get_template(name).render(**values), 200, HEADERS, "text/html")


@cache
def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath("pages", name).read_bytes()


def _asset(name: str) -> Response:
    return Response(_read(name), 200, HEADERS, _KINDS[name])
