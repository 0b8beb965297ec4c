"""What a tenant is registered as at a provider: a registration's members, checked; a preset's and an issuer's own part filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from ..errors import InvalidInput
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress import Egress
from .assertion import LIVES_S, PRIVATE_KEY_JWT, check_key, is_key
from .issuers import discovered, is_address
from .model import API_KEY, Assertion, Client
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
        "assertion",
    }
)
ASSERTED: Final = frozenset({"key", "key_id", "issuer", "subject", "audience", "lifetime_s", "claims"})
ASSERTION_S: Final = 180
"""For the clocks of both sides and one request. Each has a fresh assertion, so a longer life helps nobody but who steals one."""

LONGEST_TEXT: Final = 2048
MOST_CLAIM_BYTES: Final = 4096
OURS: Final = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
"""Claims that each assertion has of its own; a fixed one would make it another's, or out of date."""


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
        if full.get("assertion") and not (registration.get("auth") or full.get("client_secrets") or full.get("client_secret")):
            full["auth"] = "none"  # it signs, and has nothing else to prove itself by, whatever the preset takes secrets by
        given = _registration(name, full, self._runtime.ids.new())
        if not given.token_endpoints and given.issuer is not None:
            given = await self._discovered(scope, given, chooses_auth=not full.get("auth"))
        if not given.token_endpoints:
            raise InvalidInput("no token endpoint is named", fix="Give `provider`, `issuer`, or `endpoints` with `token`.")
        return given

    async def _discovered(self, scope: Scope, given: Client, *, chooses_auth: bool) -> Client:
        """With what the issuer publishes about itself."""
        found = await discovered(self._egress, scope, given.issuer or "", self._deadline_s)
        return replace(
            given,
            token_endpoints=(checked_url(found.get("token_endpoint"), "token_endpoint"),),
            authorize_endpoint=given.authorize_endpoint or _published(found, "authorization_endpoint"),
            revoke_endpoint=given.revoke_endpoint or _published(found, "revocation_endpoint"),
            device_endpoint=given.device_endpoint or _published(found, "device_authorization_endpoint"),
            auth=_auth(found, given) if chooses_auth else given.auth,
        )


def _of_a_key(name: str, registration: Mapping[str, Any], id_: bytes) -> Client:
    """A registration of a service that has no OAuth: its keys are kept under it."""
    if registration["kind"] != API_KEY or len(registration) > 1:
        raise InvalidInput("a registration of a kind has nothing else", fix='Give {"kind": "api_key"} alone, or leave `kind` out.')
    return Client(id_, name, None, (), None, None, "", "none", ())


def _published(found: Mapping[str, Any], name: str) -> str | None:
    return checked_url(found[name], name) if found.get(name) is not None else None


def _auth(found: Mapping[str, Any], given: Client) -> str:
    """How to authenticate at the token endpoint: basic where the issuer takes it, as it must where it says nothing (RFC 8414 section 2)."""
    ways = found.get("token_endpoint_auth_methods_supported")
    if not isinstance(ways, list):
        return given.auth
    return "post" if given.auth == "basic" and "client_secret_basic" not in ways and "client_secret_post" in ways else given.auth


def client_of(client: Client) -> dict[str, Any]:
    """The JSON of a registration: its secrets are counted, never shown, nor is the key that signs."""
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
        "assertion": client.assertion.facts() if client.assertion is not None else None,
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
        raise InvalidInput(
            "the secrets or the token endpoints are too many, or no texts", fix=f"Give at most {MOST_SECRETS} and {MOST_ENDPOINTS}."
        )
    auth = given.get("auth") or ("none" if not secrets else PRIVATE_KEY_JWT if is_key(secrets[0]) else "basic")
    if auth not in {"basic", "post", "none", PRIVATE_KEY_JWT}:
        raise InvalidInput(f"auth {auth!r}", fix="It is basic, post, none or private_key_jwt.")
    if auth == PRIVATE_KEY_JWT:
        if not secrets:
            raise InvalidInput("there is no key to sign with", fix="Give one or two private keys as `client_secrets`.")
        for each in secrets:
            check_key(each)
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
        _assertion(given["assertion"], given["client_id"]) if given.get("assertion") is not None else None,
    )


def _assertion(given: Any, client_id: str) -> Assertion:
    """What the client signs, checked (RFC 7523 section 3)."""
    if not isinstance(given, Mapping) or set(given) - ASSERTED:
        raise InvalidInput("the assertion is none", fix=f"It may have {', '.join(sorted(ASSERTED))}.")
    if not isinstance(given.get("key"), str):
        raise InvalidInput(
            "the assertion has no key to sign with", fix="Give a private key as `assertion.key`, as PEM or as a JSON Web Key."
        )
    check_key(given["key"])
    lifetime_s = given.get("lifetime_s", ASSERTION_S)
    if isinstance(lifetime_s, bool) or not isinstance(lifetime_s, int) or not 1 <= lifetime_s <= LIVES_S:
        raise InvalidInput(f"assertion.lifetime_s is a whole number of seconds, {LIVES_S} at most", fix="Each request signs anew.")
    issuer = _text(given, "issuer") or client_id
    subject = given["subject"] if given.get("subject") == "" else _text(given, "subject") or issuer
    return Assertion(
        given["key"], issuer, subject, _text(given, "audience"), lifetime_s, _claims(given.get("claims") or {}), _text(given, "key_id")
    )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isprintable()):
        raise InvalidInput(f"assertion.{name} is none", fix=f"Give a text of at most {LONGEST_TEXT} printable characters.")
    return value


def _claims(given: Any) -> Mapping[str, Any]:
    """Claims beside the registered ones, `scope` among them where a provider reads it there."""
    if not isinstance(given, Mapping) or OURS & set(given):
        raise InvalidInput("assertion.claims are none of ours", fix=f"Leave out {', '.join(sorted(OURS))}: each assertion has its own.")
    try:
        fits = len(orjson.dumps(given)) <= MOST_CLAIM_BYTES
    except TypeError:  # no JSON, or a text that is none
        fits = False
    if not fits:
        raise InvalidInput("assertion.claims are no JSON, or too large", fix=f"Give a JSON object of at most {MOST_CLAIM_BYTES} bytes.")
    return given


def _place(endpoints: Mapping[str, Any], kind: str) -> str | None:
    return checked_url(endpoints[kind], f"endpoints.{kind}") if endpoints.get(kind) else None


def _texts(value: Any) -> tuple[str, ...]:
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, Sequence) or not all(isinstance(each, str) for each in found):
        raise InvalidInput("the scopes are none", fix="Give a list of texts, or one text with spaces between.")
    return tuple(found)


def _seconds(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**9:
        raise InvalidInput(f"{name} {value!r}", fix="Give a whole number of seconds, or leave it out.")
    return value


def checked_url(value: Any, what: str) -> str:
    """An address. Whether it may be asked is decided when it is (`resilience.egress`)."""
    if not is_address(value):
        raise InvalidInput(f"{what} is not an http or https address", fix="Write it whole: https://idp.example.com/token.")
    return value
