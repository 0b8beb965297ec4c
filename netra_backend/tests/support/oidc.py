"""The certified authorization server from npm (`oidc-provider`), on Node, with faults of ours in front of its token endpoint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx

from netra_backend.testing.certified import CLIENT_ID, CLIENT_SECRET, Process

BACK = "http://127.0.0.1/back"
CLIENT = (CLIENT_ID, CLIENT_SECRET)
_VERIFIER = "v" * 43


def fingerprint(token: str) -> str:
    """As `stats` tells of a code or a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


class OidcProvider:
    """`async with OidcProvider() as provider`, or `start` and `close`. It answers what `testing.provider.Provider` is asked in these tests."""

    def __init__(self, *, rotate: bool = True, lifetime_s: int = 3600, keys: Sequence[dict[str, Any]] = ()) -> None:
        self._options = {"rotate": rotate, "lifetime_s": lifetime_s, "keys": list(keys), "back": BACK}

    def start(self) -> Self:
        self._process = Process(self._options, quiet=True)
        self.url = self._process.url
        return self

    def close(self) -> None:
        self._process.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def registration(self, **changes: Any) -> dict[str, Any]:
        """By the issuer alone: the rest is what it publishes."""
        return {"issuer": self.url, "client_id": CLIENT[0], "client_secrets": [CLIENT[1]], "scopes": ["openid", "read"], **changes}

    def suffer(self, outage: str) -> None:
        """Fail at everything until this is called with `none`: `error`, `cut`, `held`."""
        self._control(outage=outage)

    def become(self, subject: str) -> None:
        """Whoever logs in from now on is this one."""
        self._control(subject=subject)

    def consent(self, begun: dict[str, Any]) -> dict[str, str]:
        """What a user brings back who was sent there, logged in and consented."""
        with httpx.Client() as browser:
            place = begun["authorize_url"]
            while not place.startswith(BACK):
                answer = browser.get(place)
                assert answer.is_redirect, answer.text
                place = urljoin(self.url, answer.headers["location"])
        return dict(parse_qsl(urlsplit(place).query))

    def grant(self) -> dict[str, Any]:
        """The tokens of a user, got by this test itself."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
        asked = {"response_type": "code", "client_id": CLIENT[0], "redirect_uri": BACK, "scope": "openid read", "state": "s"}
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        code = self.consent({"authorize_url": f"{self.url}/auth?{urlencode(asked)}"})["code"]
        members = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": _VERIFIER}
        answer = httpx.post(f"{self.url}/token", data=members, auth=CLIENT)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refresh(self, refresh_token: str) -> httpx.Response:
        """Somebody else's use of a refresh token."""
        return httpx.post(f"{self.url}/token", data={"grant_type": "refresh_token", "refresh_token": refresh_token}, auth=CLIENT)

    def is_active(self, token: str) -> bool:
        """What the server says of a token (RFC 7662)."""
        return bool(httpx.post(f"{self.url}/token/introspection", data={"token": token}, auth=CLIENT).json()["active"])

    def fail(self, fault: str, times: int = 1) -> None:
        """The fault of the next token requests."""
        self._control(fault=fault, times=times)

    def _control(self, **asked: Any) -> None:
        httpx.post(f"{self.url}/control", json=asked).raise_for_status()

    def came(self, grant: str) -> list[str]:
        """Fingerprints of what came to its token endpoint by that grant, in order."""
        return [line["came"] for line in self.stats()["requests"] if line["grant"] == grant]

    def stats(self) -> dict[str, Any]:
        """Every token request since the start, and the most at once."""
        found: dict[str, Any] = httpx.get(f"{self.url}/stats").json()
        return found

    def refreshes(self) -> list[dict[str, Any]]:
        """Every refresh that it saw, in order."""
        return [line for line in self.stats()["requests"] if line["grant"] == "refresh_token"]

    def superseded(self) -> list[dict[str, Any]]:
        """Refreshes with a token that had been traded before, and whose answer was not lost."""
        return list(self.stats()["superseded"])

    def ask(self, op: str, **options: Any) -> Any:
        """As `VaultWorld` asks its providers."""
        return self.registration(**options["changes"]) if op == "registration" else getattr(self, op)(**options)

    def kill(self) -> None:
        """As `VaultWorld` ends its providers."""
        self.close()
