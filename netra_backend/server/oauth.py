"""Routes of the vault: client registrations, connections, their tokens. Errors are problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse

from ..errors import InvalidInput
from ..oauth import store
from ..oauth.errors import ConnectFailed, LinkUsed, UnknownState
from ..oauth.service import OAuth, token_of
from .access import Access
from .pagination import DEFAULT_LIMIT, Limit
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1/tenants/{tenant}", tags=["OAuth"])
public: Final = APIRouter(tags=["OAuth"])
LONGEST_QUERY: Final = 8192

_NAME: Final = r"^[^\x00-\x1f\x7f/]+$"
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=_NAME)]
ClientName = Annotated[str, Path(description="A registration's name.", max_length=128)]
LinkToken = Annotated[str, Path(description="What the link ends with.", max_length=128)]
ConnectionName = Annotated[str, Path(description="A connection's name.", max_length=128)]
After = Annotated[str, Query(max_length=128, description="The name of the last one that is known.")]
Text = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f]+$")]
Secret = Annotated[str, Field(min_length=1, max_length=16 * 1024, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$")]  # or a key, in lines
Key = Annotated[str, Field(min_length=1, max_length=16 * 1024, pattern=r"^[\x09\x0a\x0d\x20-\x7e]+$")]
Token = Annotated[str, Field(min_length=1, max_length=16 * 1024, pattern=r"^[\x20-\x7e]+$")]


class EndpointsIn(BaseModel):
    """Where the provider is asked. `token` may name several addresses of one issuer, in order of preference."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[list[Text], Field(max_length=8)] = Field(default_factory=list)
    authorize: Text | None = None
    revoke: Text | None = None
    device: Text | None = None


class AssertionIn(BaseModel):
    """What the client signs to be given a token (RFC 7523 section 2.1). An empty `subject` leaves that claim out."""

    model_config = ConfigDict(extra="forbid")

    key: Key
    key_id: Text | None = None
    issuer: Text | None = None
    subject: Annotated[str, Field(max_length=2048, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    audience: Text | None = None
    lifetime_s: Annotated[int, Field(ge=1, le=300)] | None = None
    claims: dict[str, Any] = Field(default_factory=dict)


class ClientIn(BaseModel):
    """What a tenant is registered as at a provider."""

    model_config = ConfigDict(extra="forbid")

    client_id: Text | None = None
    kind: Literal["api_key"] | None = None
    provider: Text | None = None
    parameters: Annotated[dict[Text, Text], Field(max_length=8)] = Field(default_factory=dict)
    client_secrets: Annotated[list[Secret], Field(max_length=2)] = Field(default_factory=list)
    issuer: Text | None = None
    endpoints: EndpointsIn = Field(default_factory=EndpointsIn)
    auth: Annotated[str, Field(pattern="^(basic|post|none|private_key_jwt)$")] | None = None
    scopes: Annotated[list[Text], Field(max_length=200)] = Field(default_factory=list)
    replay_window_s: Annotated[int, Field(ge=0, le=10**9)] | None = None
    default_lifetime_s: Annotated[int, Field(ge=0, le=10**9)] | None = None
    idle_s: Annotated[int, Field(ge=0, le=10**9)] | None = None
    assertion: AssertionIn | None = None


class TokensIn(BaseModel):
    """Tokens that were got elsewhere. From their import on nobody else may refresh them."""

    model_config = ConfigDict(extra="forbid")

    access_token: Token | None = None
    api_key: Token | None = None
    refresh_token: Token | None = None
    expires_in: Annotated[float, Field(ge=0, lt=2**40)] | None = None
    expires_at: Annotated[float, Field(ge=0, lt=2**40)] | None = None
    token_type: Text | None = None
    scope: Annotated[str, Field(max_length=4096)] | None = None


class ConnectionIn(BaseModel):
    """A connection to be made: of tokens, or by a user who is sent to the provider."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    client: Name
    grant: Literal["authorization_code", "link", "device_code", "client_credentials", "jwt_bearer"] = "authorization_code"
    tokens: TokensIn | None = None
    redirect_uri: Text | None = None


@router.get("/oauth/clients", operation_id="netra.oauth.client.list")
async def list_clients(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: After = "") -> Response:
    """Registrations by name, without their secrets; `after` continues behind one."""
    with _vault(caller) as vault:
        return answer(_page(await vault.clients(after=after, limit=limit + 1), limit, after))


@router.put("/oauth/clients/{client}", operation_id="netra.oauth.client.set")
async def set_client(caller: Caller, client: ClientName, body: ClientIn) -> Response:
    """Register as a client of a provider, or change that. Secrets are sealed and never shown again."""
    with _vault(caller) as vault:
        return answer(await vault.set_client(None, client, body.model_dump(exclude_unset=True, exclude_none=True)))


@router.get("/oauth/clients/{client}", operation_id="netra.oauth.client.get")
async def get_client(caller: Caller, client: ClientName) -> Response:
    """One registration, without its secrets."""
    with _vault(caller) as vault:
        return answer(await vault.client(None, client))


@router.get("/connections", operation_id="netra.connection.list")
async def list_connections(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: After = "") -> Response:
    """Connections by name; `after` continues behind one. No token is in it."""
    with _vault(caller) as vault:
        return answer(_page(await vault.connections(after=after, limit=limit + 1), limit, after))


@router.post("/connections", operation_id="netra.connection.make", status_code=201)
async def make_connection(caller: Caller, request: Request, body: ConnectionIn) -> Response:
    """Make a connection of tokens that were got elsewhere, or give a connection of that name new ones; 201.

    Without tokens: where to send the user (`authorize_url`, `expires_at`), who comes back to this server's `/oauth/callback`; 200. `grant`
    may ask for a `link` to be sent to him (`url`), for a `device_code` that he types (`user_code`, `verification_uri`), or for a token
    by the client's own right (`client_credentials`, 201), or by what its registration's `assertion` signs (`jwt_bearer`, 201).
    """
    public = caller.edge.netra.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    here = public.rstrip("/") + "/oauth"
    back = body.redirect_uri or f"{here}/callback"
    with _vault(caller) as vault:
        if body.tokens is None:
            match body.grant:
                case "client_credentials" | "jwt_bearer":
                    return answer(await vault.own(None, body.name, body.client, body.grant), 201)
                case "device_code":
                    return answer(await vault.device(None, body.name, body.client))
                case "link":
                    return answer(await vault.link(None, body.name, body.client, back, f"{here}/link"))
            return answer(await vault.connect(None, body.name, body.client, back))
        tokens = body.tokens.model_dump(exclude_none=True)
        return answer(await vault.import_(None, body.name, body.client, tokens), 201)


@router.get("/connections/{connection}", operation_id="netra.connection.get")
async def get_connection(caller: Caller, connection: ConnectionName) -> Response:
    """How a connection stands. No token is in it."""
    with _vault(caller) as vault:
        return answer(await vault.status(None, connection))


@router.get("/connections/{connection}/token", operation_id="netra.connection.token")
async def get_token(caller: Caller, connection: ConnectionName, min_valid_s: Annotated[float, Query(ge=0, le=86400)] = 0) -> Response:
    """An access token that lives, refreshed first if it does not. Needs the scope `connection:token`."""
    with _vault(caller) as vault:
        token = await vault.token(None, connection, min_valid_s)
    await caller.write(store.note_reading, connection, token.generation)
    shown = answer(token_of(token))
    shown.headers["cache-control"] = "no-store"
    return shown


@router.post("/connections/{connection}/refresh", operation_id="netra.connection.refresh")
async def refresh_connection(caller: Caller, connection: ConnectionName) -> Response:
    """Renew the token now; the connection as it stands then."""
    with _vault(caller) as vault:
        return answer(await vault.renew(None, connection))


@router.post("/connections/{connection}/revoke", operation_id="netra.connection.revoke")
async def revoke_connection(caller: Caller, connection: ConnectionName) -> Response:
    """Forget the tokens for good and tell the provider."""
    with _vault(caller) as vault:
        return answer(await vault.revoke(None, connection))


@router.delete("/connections/{connection}", operation_id="netra.connection.delete", status_code=204)
async def delete_connection(caller: Caller, connection: ConnectionName) -> Response:
    """The same, and the name is free."""
    with _vault(caller) as vault:
        await vault.revoke(None, connection, delete=True)
    return Response(status_code=204)


@public.get("/oauth/callback", operation_id="netra.oauth.callback")
async def callback(caller: Caller, request: Request) -> Response:
    """Where a provider sends the user back to (RFC 6749 section 4.1.2): `state` with `code` or `error`. A page for people."""
    given = request.query_params
    if len(given.multi_items()) != len(given) or len(request.url.query) > LONGEST_QUERY:
        raise InvalidInput("a parameter stands twice, or they are too long", fix="Begin again where you came from.")
    try:
        await caller.edge.netra.oauth.callback(dict(given))
    except (ConnectFailed, UnknownState) as error:
        return _told(f"Not connected: {error.detail}. You can close this page and try again.", error.status)
    return _told("Connected. You can close this page.", 200)


@public.get("/oauth/link/{token}", operation_id="netra.oauth.link.show")
async def show_link(caller: Caller, token: LinkToken) -> Response:
    """What a link is for, with a button that follows it: programs that look at links in messages use none up."""
    try:
        found = await caller.edge.netra.oauth.shown_link(token)
    except LinkUsed as error:
        return _told(f"This link leads nowhere any more. {error.fix}", error.status)
    words = f"{escape(found['tenant'])} asks you to connect {escape(found['name'])} at {escape(found['provider'])}."
    return _page_of(f'<p>{words}</p><form method="post"><button>Continue to {escape(found["provider"])}</button></form>', 200)


@public.post("/oauth/link/{token}", operation_id="netra.oauth.link.follow")
async def follow_link(caller: Caller, token: LinkToken) -> Response:
    """Send the user on to the provider: 303, once."""
    try:
        address = await caller.edge.netra.oauth.follow_link(token)
    except LinkUsed as error:
        return _told(f"This link leads nowhere any more. {error.fix}", error.status)
    return Response(status_code=303, headers={"location": address, "cache-control": "no-store", "referrer-policy": "no-referrer"})


def _told(words: str, status: int) -> Response:
    return _page_of(f"<p>{escape(words)}</p>", status)


def _page_of(body: str, status: int) -> Response:
    policy = "default-src 'none'; frame-ancestors 'none'"
    headers = {"cache-control": "no-store", "content-security-policy": policy, "referrer-policy": "no-referrer"}
    return HTMLResponse(f"<!doctype html><title>Netra</title>{body}", status, headers)


@contextmanager
def _vault(caller: Access) -> Iterator[OAuth]:
    """The vault, in the name of who asks."""
    netra = caller.edge.netra
    with netra.scope(caller.tenant.tenant, caller.principal.actor, trace=caller.trace):
        yield netra.oauth


def _page(found: list[dict[str, Any]], limit: int, after: str) -> dict[str, Any]:
    data = found[:limit]
    return {"data": data, "after": data[-1]["name"] if data else after, "done": len(found) <= limit}
