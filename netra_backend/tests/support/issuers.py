"""An issuer that does as it is told: metadata, keys, a token endpoint that answers whatever a test has put there.

Whoever is sent to its form is sent back at once, with a code that names the nonce: `code-NONCE`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

from .server import served_over
from .tokens import public, rsa


class FakeIssuer:
    """Its `url` is its issuer identifier. `asked` has the path of every request, `forms` the forms of those that had one."""

    def __init__(self, *keys: Any, **metadata: Any) -> None:
        self.keys = list(keys) or [rsa()]
        self.metadata = metadata
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.down: int | None = None
        self.held: asyncio.Event | None = None
        self.token: Any = lambda _form: (400, {"error": "invalid_grant"})
        self.active: dict[str, dict[str, Any]] = {}
        self.url = ""

    def count(self, path: str) -> int:
        """How often a path was asked."""
        return self.asked.count(path)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.asked.append(path)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if self.held is not None:
            await self.held.wait()
        if path == "/authorize":
            back = self._sent_back(dict(parse_qsl(scope["query_string"].decode())))
            await send({"type": "http.response.start", "status": 303, "headers": [(b"location", back.encode())]})
            await send({"type": "http.response.body", "body": b""})
            return
        status, answer = self._answer(path, dict(parse_qsl(body.decode(), keep_blank_values=True)))
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": raw})

    def _answer(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        if form:
            self.forms.append(form)
        if self.down is not None:
            return self.down, {"error": "server_error"}
        if path == "/.well-known/openid-configuration":
            return 200, self.published()
        if path == "/jwks":
            return 200, public(*self.keys) if isinstance(self.keys, list) else self.keys
        if path == "/token":
            return self.token(form)
        if path == "/introspect":
            return 200, self.active.get(form.get("token", ""), {"active": False})
        return 404, {"error": "not_found"}

    def _sent_back(self, asked: dict[str, str]) -> str:
        return f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], 'code': 'code-' + asked['nonce'], 'iss': self.url})}"

    def published(self) -> dict[str, Any]:
        """Its metadata."""
        places = {
            "authorization_endpoint": "authorize",
            "token_endpoint": "token",
            "jwks_uri": "jwks",
            "introspection_endpoint": "introspect",
        }
        return {"issuer": self.url, **{name: f"{self.url}/{path}" for name, path in places.items()}, **self.metadata}


@asynccontextmanager
async def issuing(*keys: Any, **metadata: Any):
    """A fake issuer that listens."""
    issuer = FakeIssuer(*keys, **metadata)
    async with served_over(issuer) as (host, port):
        issuer.url = f"http://{host}:{port}"
        yield issuer
