"""What a tenant is registered as at a provider: a registration's members, checked; a preset's and an issuer's own part filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from ..errors import InvalidInput
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress import Egress, Reply
from .model import API_KEY, Client
from .providers import filled

LONGEST_NAME: Final = 128
MOST_SECRETS: Final = 2
MOST_ENDPOINTS: Final = 8
MEMBERS: Final = frozenset(
    {
        "kind",
        "provider",
        "parameters",
        "issuer",
        "endpoints",
        "client_id",
        "client_secrets",
        "client_secret",
        "auth",
        "scopes",
        "replay_window_s",
        "default_lifetime_s",
        "idle_s",
    }
)


class Registrar:
    """Completes registrations: from the preset of a known provider, else from what the issuer publishes about itself."""

    def __init__(self, runtime: Runtime, egress: Egress, deadline_s: float) -> None:
        self._runtime = runtime
        self._egress = egress
        self._deadline_s = deadline_s

    async def complete(self, scope: Scope, name: str, registration: Mapping[str, Any]) -> Client:
        """The registration as it will stand; `InvalidInput` where something is missing."""
        if registration.get("kind") is not None:
            return _of_a_key(name, registration, self._runtime.ids.new())
        full = filled(registration)
        given = _registration(name, full, self._runtime.ids.new())
        if not given.token_endpoints and given.issuer is not None:
            given = await self._discovered(scope, given, chooses_auth=not full.get("auth"))
        if not given.token_endpoints:
            raise InvalidInput("no token endpoint is named", fix="Give `provider`, `issuer`, or `endpoints` with `token`.")
        return given

    async def _discovered(self, scope: Scope, given: Client, *, chooses_auth: bool) -> Client:
        """What the issuer publishes about itself (RFC 8414 section 3, OpenID Connect Discovery 4)."""
        issuer = given.issuer or ""
        parts = urlsplit(issuer)
        path = parts.path.rstrip("/")
        base = f"{parts.scheme}://{parts.netloc}"
        places = (f"{base}/.well-known/oauth-authorization-server{path}", f"{base}{path}/.well-known/openid-configuration")
        for place in places:
            reply = await self._egress.request("GET", place, tenant=scope.tenant, timeout_s=self._deadline_s)
            found = _metadata(reply)
            if found is not None and found.get("issuer") == issuer:
                return replace(
                    given,
                    token_endpoints=(checked_url(found.get("token_endpoint"), "token_endpoint"),),
                    authorize_endpoint=given.authorize_endpoint or _published(found, "authorization_endpoint"),
                    revoke_endpoint=given.revoke_endpoint or _published(found, "revocation_endpoint"),
                    device_endpoint=given.device_endpoint or _published(found, "device_authorization_endpoint"),
                    auth=_auth(found, given) if chooses_auth else given.auth,
                )
        raise InvalidInput(f"{issuer} publishes no metadata of its own", fix="Check `issuer`, or give `endpoints` with `token`.")


def _of_a_key(name: str, registration: Mapping[str, Any], id_: bytes) -> Client:
    """A registration of a service that has no OAuth: its keys are kept under it."""
    if registration["kind"] != API_KEY or len(registration) > 1:
        raise InvalidInput("a registration of a kind has nothing else", fix='Give {"kind": "api_key"} alone, or leave `kind` out.')
    return Client(id_, name, None, (), None, None, "", "none", ())


def _published(found: Mapping[str, Any], name: str) -> str | None:
    return checked_url(found[name], name) if found.get(name) is not None else None


def _auth(found: Mapping[str, Any], given: Client) -> str:
    """How to authenticate at the token endpoint: basic where the issuer takes it, as it must where it says nothing (RFC 8414 section 2)."""
    ways = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return "post" if given.auth == "basic" and "client_secret_basic" not in ways and "client_secret_post" in ways else given.auth


def client_of(client: Client) -> dict[str, Any]:
    """The JSON of a registration: its secrets are counted, never shown."""
    return {
        "name": client.name,
        "provider": client.provider,
        "kind": API_KEY if not client.client_id else "oauth",
        "issuer": client.issuer,
        "endpoints": {
            "token": list(client.token_endpoints),
            "authorize": client.authorize_endpoint,
            "revoke": client.revoke_endpoint,
            "device": client.device_endpoint,
        },
        "client_id": client.client_id,
        "auth": client.auth,
        "client_secrets": len(client.secrets),
        "scopes": list(client.scopes),
        "replay_window_s": client.replay_window_s,
        "default_lifetime_s": client.default_lifetime_s,
        "idle_s": client.idle_s,
    }


def checked_name(name: str) -> str:
    """A name of a registration or a connection."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or "/" in name:
        raise InvalidInput("the name is not acceptable", fix=f"Give 1 to {LONGEST_NAME} printable characters without '/'.")
    return name


def _registration(name: str, given: Mapping[str, Any], id_: bytes) -> Client:
    """A registration's members, checked. Unknown ones are a slip, and refused."""
    if strange := set(given) - MEMBERS:
        raise InvalidInput(f"a registration has no member {min(strange)!r}", fix=f"It may have {', '.join(sorted(MEMBERS))}.")
    endpoints = given.get("endpoints") or {}
    tokens = endpoints.get("token") or ()
    tokens = [tokens] if isinstance(tokens, str) else list(tokens)
    secrets = given.get("client_secrets") or ([given["client_secret"]] if given.get("client_secret") else [])
    if not isinstance(given.get("client_id"), str) or not given["client_id"]:
        raise InvalidInput("client_id is missing", fix="Give the id that the provider knows you by.")
    if len(secrets) > MOST_SECRETS or len(tokens) > MOST_ENDPOINTS or not all(isinstance(each, str) and each for each in secrets):
        raise InvalidInput(f"at most {MOST_SECRETS} secrets and {MOST_ENDPOINTS} token endpoints, all of them texts")
    auth = given.get("auth") or ("basic" if secrets else "none")
    if auth not in {"basic", "post", "none"}:
        raise InvalidInput(f"auth {auth!r}", fix="It is basic, post or none.")
    return Client(
        id_,
        name,
        checked_url(given["issuer"], "issuer") if given.get("issuer") else None,
        tuple(checked_url(each, "endpoints.token") for each in tokens),
        _place(endpoints, "authorize"),
        _place(endpoints, "revoke"),
        given["client_id"],
        auth,
        tuple(secrets),
        0,
        _texts(given.get("scopes") or ()),
        _seconds(given, "replay_window_s"),
        _seconds(given, "default_lifetime_s"),
        given.get("provider"),
        _place(endpoints, "device"),
        _seconds(given, "idle_s"),
    )


def _place(endpoints: Mapping[str, Any], kind: str) -> str | None:
    return checked_url(endpoints[kind], f"endpoints.{kind}") if endpoints.get(kind) else None


def _texts(value: Any) -> tuple[str, ...]:
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, Sequence) or not all(isinstance(each, str) for each in found):
        raise InvalidInput("scopes are a list of texts")
    return tuple(found)


def _seconds(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**9:
        raise InvalidInput(f"{name} is a whole number of seconds, or is left out")
    return value


def checked_url(value: Any, what: str) -> str:
    """An address. Whether it may be asked is decided when it is (`resilience.egress`)."""
    if not isinstance(value, str) or urlsplit(value).scheme not in {"http", "https"}:
        raise InvalidInput(f"{what} is not an http or https address")
    return value


def _metadata(reply: Reply) -> dict[str, Any] | None:
    try:
        found = orjson.loads(reply.body)
    except ValueError:
        return None
    return found if reply.status == 200 and isinstance(found, dict) else None
