"""Netra as an authorization server: `/oauth2/token` (RFC 8693), `/oauth2/introspect` (RFC 7662), its keys and its metadata (RFC 8414).

The two that take a form are the only places where one is parsed: 64 KiB, 32 fields, and none twice, save `audience` and `resource`,
which the standard lets repeat. Whoever asks is a service of a tenant: `client_id` is the id of one of its API keys, `client_secret` that
key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import orjson
from fastapi import APIRouter, Request, Response

from ..kernel.ids import to_text
from ..kernel.scope import Scope
from ..oauth.sso import exchange
from ..oauth.sso.exchange import ExchangeRefused, Requester
from ..oauth.sso.issuing import Issuing
from .access import Access
from .auth import Principal
from .errors import AuthenticationFailed
from .routing import Caller, answer

router: Final = APIRouter(tags=["Tokens"])

MOST_FIELDS: Final = 32
KEPT_S: Final = 300
"""How long a receiver may keep our keys: less than a new one is published before it signs."""

_REPEATED: Final = frozenset({"audience", "resource"})
_FORM: Final = "application/x-www-form-urlencoded"
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}


@router.post("/oauth2/token", operation_id="netra.oauth2.token")
async def token(caller: Caller, request: Request) -> Response:
    """Trade a subject's token for a narrower one (RFC 8693 section 2)."""
    return await _answered(caller, request, _trade)


@router.post("/oauth2/introspect", operation_id="netra.oauth2.introspect")
async def introspect(caller: Caller, request: Request) -> Response:
    """Whether a token of ours is active, for a service of its tenant (RFC 7662 section 2)."""
    return await _answered(caller, request, _introspect)


@router.get("/oauth2/jwks", operation_id="netra.oauth2.jwks")
async def keys(caller: Caller) -> Response:
    """The public keys of our tokens as a JSON Web Key Set (RFC 7517 section 5)."""
    found = orjson.dumps({"keys": await caller.edge.netra.sso.issuing.published()})
    return Response(found, 200, {"cache-control": f"public, max-age={KEPT_S}"}, "application/jwk-set+json")


@router.get("/.well-known/oauth-authorization-server", operation_id="netra.oauth2.metadata")
async def metadata(caller: Caller, request: Request) -> Response:
    """What we publish about ourselves (RFC 8414 section 2)."""
    issuer = issuer_of(caller, request)
    return answer(
        {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/oauth2/token",
            "introspection_endpoint": f"{issuer}/oauth2/introspect",
            "jwks_uri": f"{issuer}/oauth2/jwks",
            "grant_types_supported": [exchange.GRANT],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
    )


def issuer_of(caller: Access, request: Request) -> str:
    """Our name as an issuer."""
    return (caller.edge.netra.settings.public_url or f"{request.url.scheme}://{request.url.netloc}").rstrip("/")


Work = Callable[[Issuing, Scope, Requester, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


async def _answered(caller: Access, request: Request, work: Work) -> Response:
    """The answer to an authenticated client's form, or the error in the standard's words."""
    try:
        form = _form(request, caller.body)
        principal = await _client(caller, request, form)
        requester = Requester(principal.tenant, to_text("key", principal.key_id), principal.scopes)
        scope = Scope(principal.tenant, principal.actor, caller.trace)
        found = await work(caller.edge.netra.sso.issuing, scope, requester, issuer_of(caller, request), form)
    except ExchangeRefused as error:
        headers = {**_NO_STORE, "www-authenticate": "Basic"} if error.status == 401 else _NO_STORE
        words = {"error": error.error, "error_description": error.detail}
        return Response(orjson.dumps(words), error.status, headers, "application/json")
    return Response(orjson.dumps(found), 200, _NO_STORE, "application/json")


async def _trade(issuing: Issuing, scope: Scope, requester: Requester, issuer: str, form: Mapping[str, Any]) -> Mapping[str, Any]:
    if form.get("grant_type") != exchange.GRANT:
        raise ExchangeRefused("unsupported_grant_type", f"grant_type is {exchange.GRANT}")
    return await issuing.exchange(scope, requester, issuer, form)


async def _introspect(issuing: Issuing, scope: Scope, _: Requester, issuer: str, form: Mapping[str, Any]) -> Mapping[str, Any]:
    given = form.get("token")
    if not isinstance(given, str):
        raise ExchangeRefused("invalid_request", "token is missing")
    return await issuing.introspect(scope, issuer, given)


def _form(request: Request, body: bytes) -> dict[str, Any]:
    """The fields; `audience` and `resource` as lists."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise ExchangeRefused("invalid_request", f"the body is not {_FORM}")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise ExchangeRefused("invalid_request", f"the form cannot be read, or has more than {MOST_FIELDS} fields") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in _REPEATED:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ExchangeRefused("invalid_request", "a parameter stands twice")
        elif value:  # one without a value counts as left out (RFC 6749 section 3.2)
            found[name] = value
    return found


async def _client(caller: Access, request: Request, form: Mapping[str, Any]) -> Principal:
    """The tenant's key that asks (RFC 6749 section 2.3.1); one way of telling it, not two."""
    authorization = request.headers.get("authorization")
    if authorization is not None and "client_secret" in form:
        raise ExchangeRefused("invalid_request", "the client authenticates in two ways at once")
    name, secret = _of_header(authorization) if authorization is not None else (form.get("client_id"), form.get("client_secret"))
    if not isinstance(name, str) or not isinstance(secret, str):
        raise ExchangeRefused("invalid_client", "the client does not authenticate")
    try:
        principal = await caller.edge.authenticator.authenticate(b"Bearer " + secret.encode("latin-1", "replace"))
    except AuthenticationFailed:
        raise ExchangeRefused("invalid_client", "client_id and client_secret are no key") from None
    if principal.is_operator or to_text("key", principal.key_id) != name:
        raise ExchangeRefused("invalid_client", "client_id and client_secret are no key")
    return principal


def _of_header(authorization: str) -> tuple[str | None, str | None]:
    kind, _, given = authorization.partition(" ")
    try:
        name, colon, secret = base64.b64decode(given.strip(), validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return None, None
    return (unquote_plus(name), unquote_plus(secret)) if kind.lower() == "basic" and colon else (None, None)
