"""Which provider the demo's company is connected to: the one that Netra brings for tests, or the certified `oidc-provider` of npm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urljoin

from ...errors import CannotStart
from ...resilience.egress import Reply
from ...testing import certified

TOKENS_LIVE_S: Final = "2"
PROFILE: Final = "idempotent-grace"
"""A refresh token that comes again within the window gets the same answer: the kill may take one away."""

REPLAY_WINDOW_S: Final = 30
MOST_STEPS: Final = 10

Said = Mapping[str, Any]


class Provider(Protocol):
    """What the second act asks of it."""

    module: str
    """What runs it."""

    words: str
    """What it is, for the story."""

    is_strict: bool
    """Whether a refresh token that comes twice costs the connection, so that the kill must come between two renewals."""

    def check(self) -> None:
        """Raise what is missing for it."""
        ...

    def options(self, back: str) -> tuple[str, ...]:
        """Its command line; users are sent back to `back`."""
        ...

    def registration(self, said: Said) -> dict[str, Any]:
        """The vault's registration with it, by what it said when it was ready."""
        ...


class OwnProvider:
    """`testing.provider`."""

    module = "netra_backend.testing.provider"
    words = f"a provider whose access tokens live {TOKENS_LIVE_S} s, and whose refresh tokens rotate"
    is_strict = False

    def check(self) -> None:
        """See `Provider`."""

    def options(self, back: str) -> tuple[str, ...]:  # noqa: ARG002  (it sends users back wherever they are said to come from)
        """See `Provider`."""
        return "--profile", PROFILE, "--lifetime", TOKENS_LIVE_S, "--port", "0"

    def registration(self, said: Said) -> dict[str, Any]:
        """See `Provider`."""
        url = said["url"]
        endpoints = {"token": [f"{url}/token"], "authorize": f"{url}/authorize", "revoke": f"{url}/revoke"}
        client = {"client_id": said["client_id"], "client_secrets": said["client_secrets"], "endpoints": endpoints}
        return client | {"replay_window_s": REPLAY_WINDOW_S}


class CertifiedProvider:
    """`testing.certified`."""

    module = "netra_backend.testing.certified"
    words = f"the certified oidc-provider, whose access tokens live {TOKENS_LIVE_S} s, and whose refresh tokens rotate"
    is_strict = True

    def check(self) -> None:
        """See `Provider`."""
        certified.program()

    def options(self, back: str) -> tuple[str, ...]:
        """See `Provider`."""
        return "--back", back, "--lifetime", TOKENS_LIVE_S

    def registration(self, said: Said) -> dict[str, Any]:
        """See `Provider`; the rest is what it publishes."""
        return {name: said[name] for name in ("issuer", "client_id", "client_secrets")} | {"scopes": ["openid", "read"]}


async def walked(fetch: Callable[[str, Sequence[tuple[str, str]]], Awaitable[Reply]], url: str) -> Reply:
    """The page at which a browser that is sent to `url` ends, with the cookies that it was given on its way."""
    cookies: dict[str, str] = {}
    for _ in range(MOST_STEPS):
        reply = await fetch(url, [("cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))] if cookies else [])
        headers = [(name.lower(), value) for name, value in reply.headers]
        for name, value in headers:
            if name == "set-cookie":
                key, _, kept = value.partition(";")[0].partition("=")
                cookies[key] = kept
        if not 300 <= reply.status < 400:
            return reply
        url = urljoin(url, dict(headers)["location"])
    raise CannotStart(f"the provider sends a browser on and on, at last to {url}", fix="Read its log.")
