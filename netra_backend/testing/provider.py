"""An authorization server that rotates and fails as asked: a process of its own, or an object.

    python -m netra_backend.testing.provider --profile strict --fault drop@1 --port 0

prints one line `{"event":"ready","url","issuer","pid","port","client_id","client_secrets","tokens"}` on stdout when it listens (`tokens`
is a first grant), answers until SIGTERM or `--max-seconds`, and exits 0. Profiles: see `grants.py`. Faults, of token requests, each as
`NAME[:SECONDS][@TIMES]`:

- `none`; `drop`: the connection is cut after the tokens were rotated; `drop-before`: cut, and nothing was done;
- `500`, `503`, ...: that status, nothing was done; `503-after`: the same after rotating; `429`: with Retry-After 1;
- `delay:S`: the answer comes S seconds late; `garbage`: a success that is no JSON, after rotating; `slow`: a byte every 50 ms.

Who signs for a token (RFC 7523 section 2.1) must be trusted first: `/control` takes `{"trusted": {issuer: keys}}`, each keys a JSON Web
Key Set.

Paths: /token, /authorize (a code at once, no page), /device, /revoke, /userinfo (200 or 401), /.well-known/oauth-authorization-server and
/.well-known/openid-configuration; for tests /grant (a new grant), /stats (every token request), /control (another fault or profile).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import orjson

from ..kernel.clock import SystemClock
from ..oauth.errors import TokenRejected
from ..oauth.jws import decoded, strict_json
from ..oauth.validation import validate
from .grants import PROFILES, Grants
from .listening import stop_listening

CLIENT_ID: Final = "netra"
SECRETS: Final = ("secret-a",)
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SIGNED_BY: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
LONGEST_ASSERTION_S: Final = 300
_SLOW_S: Final = 0.05
_Answer = tuple[int, dict[str, str], bytes]


class Fault:
    """One way to fail, for the next `left` token requests (None: for all)."""

    def __init__(self, spec: str) -> None:
        head, _, times = spec.partition("@")
        self.name, _, seconds = head.partition(":")
        self.seconds = float(seconds or 1)
        self.left = int(times) if times else None
        known = {"none", "drop", "drop-before", "delay", "garbage", "slow"}
        status, _, after = self.name.partition("-")
        self.status = int(status) if status.isdigit() and after in {"", "after"} else 0
        if self.name not in known and not 400 <= self.status <= 599:
            raise ValueError(f"no fault is called {spec!r}")

    def take(self) -> str:
        """The fault's name if it strikes now."""
        if self.left == 0 or self.name == "none":
            return ""
        if self.left is not None:
            self.left -= 1
        return self.name


class Provider:
    """The server inside the caller's event loop: `async with Provider("strict", "drop@1") as provider: ... provider.url`.

    `devices` says of each device code what is answered: an error, or `approved` for a grant, once. `trusted` has the public keys of each
    issuer whose assertions are taken (RFC 7523), `asserted` the claims of those that were: each `jti` once, for five minutes at most, for
    this server's token endpoint or its issuer alone. `requests` has a line per token
    request: grant, number of the refresh token that came, newest number then, status, and whether the answer was `lost`.
    `most_in_flight` is the most of them that were under way at once.
    """

    def __init__(
        self,
        profile: str = "strict",
        fault: str = "none",
        *,
        lifetime_s: float = 3600,
        window_s: float = 30,
        secrets: Sequence[str] = SECRETS,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.grants = Grants(profile, lifetime_s=lifetime_s, window_s=window_s)
        self.fault = Fault(fault)
        self.secrets = tuple(secrets)
        self.requests: list[dict[str, Any]] = []
        self.most_in_flight = 0
        self.arrived = asyncio.Event()
        self._clock = SystemClock()
        self._in_flight: dict[str, int] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self.devices: dict[str, str] = {}
        self.trusted: dict[str, Any] = {}
        self.asserted: list[Mapping[str, Any]] = []
        self.device_lifetime_s: float = 600
        self.device_interval_s: float = 5
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut every connection."""
        await stop_listening(self._server)
        for writer in list(self._open):
            writer.transport.abort()

    @property
    def url(self) -> str:
        """Its address and its issuer identifier."""
        return f"http://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def grant(self) -> dict[str, Any]:
        """A new grant's first tokens, as if a user had consented."""
        return self.grants.new(self._clock.monotonic())

    def registration(self, **changes: Any) -> dict[str, Any]:
        """What Netra is told of it."""
        endpoints = {"token": [self.url + "/token"], "authorize": self.url + "/authorize", "revoke": self.url + "/revoke"}
        endpoints["device"] = self.url + "/device"
        return {"client_id": CLIENT_ID, "client_secrets": list(self.secrets), "endpoints": endpoints, **changes}

    def superseded(self) -> list[dict[str, Any]]:
        """Token requests with a refresh token that its family had replaced, whose replacement was not lost on the way."""
        lost = {(line["grant"], line["number"]) for line in self.requests if line["lost"]}
        return [line for line in self.requests if line["number"] < line["newest"] and (line["grant"], line["number"]) not in lost]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            method, target, _ = head[0].split(" ", 2)
            await self._answer(writer, method, target, fields, body)
        self._open.discard(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, target: str, fields: dict[str, str], body: bytes) -> None:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if method == "POST" and parts.path == "/token":
            await self._token(writer, fields, dict(parse_qsl(body.decode(), keep_blank_values=True)))
            return
        await _send(writer, *self._other(method, parts.path, query, fields, body))

    def _other(self, method: str, path: str, query: dict[str, str], fields: dict[str, str], body: bytes) -> _Answer:
        if path.startswith("/.well-known/"):
            return _json(self._metadata())
        if path == "/authorize":
            return self._authorize(query)
        if path == "/device" and method == "POST":
            return self._device_begun()
        if path == "/userinfo":
            good = self.grants.is_good(fields.get("authorization", "").removeprefix("Bearer "), self._clock.monotonic())
            return _json({"sub": "u1"}) if good else _json({"error": "invalid_token"}, 401)
        if path == "/revoke" and method == "POST":
            form = dict(parse_qsl(body.decode()))
            if not self._knows(fields, form):
                return _json({"error": "invalid_client"}, 401)
            self.grants.revoke_token(form.get("token", ""))
            return _json({})
        if path == "/grant":
            return _json(self.grant())
        if path == "/stats":
            return _json(
                {
                    "posts": len(self.requests),
                    "most_in_flight": self.most_in_flight,
                    "superseded": self.superseded(),
                    "requests": self.requests,
                }
            )
        if path == "/control" and method == "POST":
            return self._control(orjson.loads(body))
        return _json({"error": "not_found"}, 404)

    def _control(self, asked: dict[str, Any]) -> _Answer:
        if "fault" in asked:
            self.fault = Fault(asked["fault"])
        if "profile" in asked:
            self.grants.profile = asked["profile"]
        if "secrets" in asked:
            self.secrets = tuple(asked["secrets"])
        if "trusted" in asked:
            self.trusted = asked["trusted"]
        if "revoke" in asked:
            self.grants.revoke_token(asked["revoke"])
        return _json({})

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": self.url + "/authorize",
            "token_endpoint": self.url + "/token",
            "revocation_endpoint": self.url + "/revoke",
            "device_authorization_endpoint": self.url + "/device",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials", DEVICE_CODE, JWT_BEARER],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _authorize(self, query: dict[str, str]) -> _Answer:
        code = f"code-{len(self._codes) + 1}"
        self._codes[code] = query
        back = urlencode({"code": code, "state": query.get("state", ""), "iss": self.url})
        return 302, {"location": f"{query.get('redirect_uri', '')}?{back}"}, b""

    async def _token(self, writer: asyncio.StreamWriter, fields: dict[str, str], form: dict[str, str]) -> None:
        family, number, newest = self.grants.place_of(form.get("refresh_token", ""))
        fault = self.fault.take()
        line = {"grant": family or form.get("code", ""), "number": number, "newest": newest, "fault": fault, "status": 0, "lost": False}
        self.requests.append(line)
        self.arrived.set()
        self._in_flight[family] = self._in_flight.get(family, 0) + 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight[family])
        try:
            await self._faulty(writer, fields, form, fault, line)
        finally:
            self._in_flight[family] -= 1

    async def _faulty(
        self, writer: asyncio.StreamWriter, fields: dict[str, str], form: dict[str, str], fault: str, line: dict[str, Any]
    ) -> None:
        status = self.fault.status if fault[:1].isdigit() else 0
        line["lost"] = fault in {"drop", "garbage"} or fault.endswith("-after")
        if fault == "drop-before" or (status and not fault.endswith("-after")):
            line["status"] = status
            if status:
                await _send(writer, *_json({"error": "slow_down" if status == 429 else "server_error"}, status, {"retry-after": "1"}))
            else:
                writer.transport.abort()
            return
        answer = self._traded(fields, form)
        line["status"] = answer[0]
        if fault == "drop":
            writer.transport.abort()
            return
        if fault == "delay":
            await asyncio.sleep(self.fault.seconds)
        if fault == "garbage":
            answer = (200, {"content-type": "application/json"}, b'{"access_token": "at-cut')
        elif status:
            answer = _json({"error": "server_error"}, status)
        try:
            await _send(writer, *answer, pause_s=_SLOW_S if fault == "slow" else 0)
        except OSError:
            line["lost"] = True
            raise
        line["lost"] = line["lost"] or writer.transport.is_closing()

    def _traded(self, fields: dict[str, str], form: dict[str, str]) -> _Answer:
        signs = form.get("grant_type") == JWT_BEARER and "authorization" not in fields and not form.keys() & {"client_id", "client_secret"}
        if not signs and not self._knows(fields, form):
            return _json({"error": "invalid_client"}, 401)
        now = self._clock.monotonic()
        if form.get("grant_type") == "refresh_token":
            answer = self.grants.refresh(form.get("refresh_token", ""), now)
        elif form.get("grant_type") == "authorization_code":
            answer = self._redeemed(form, now)
        elif form.get("grant_type") == "client_credentials":
            answer = {name: value for name, value in self.grants.new(now).items() if name != "refresh_token"}
        elif form.get("grant_type") == JWT_BEARER:
            return self._signed_for(form.get("assertion", ""), now)
        elif form.get("grant_type") == DEVICE_CODE:
            return self._device_asked(form.get("device_code", ""), now)
        else:
            return _json({"error": "unsupported_grant_type"}, 400)
        return _json(answer) if answer is not None else _json({"error": "invalid_grant"}, 400)

    def _signed_for(self, assertion: str, now: float) -> _Answer:
        """RFC 7523 section 3: whatever is wrong with an assertion is `invalid_grant`, with the reason in words."""
        try:
            issuer = _issuer_of(assertion)
            claims = validate(
                assertion,
                issuer=issuer,
                audience=(self.url + "/token", self.url),
                keys=self.trusted.get(issuer, []),
                algorithms=SIGNED_BY,
                leeway_s=0,
                max_lifetime_s=LONGEST_ASSERTION_S,
                required=("sub", "iat", "jti"),
            )
        except TokenRejected as error:
            return _json({"error": "invalid_grant", "error_description": error.detail}, 400)
        if any((each["iss"], each["jti"]) == (claims["iss"], claims["jti"]) for each in self.asserted):
            return _json({"error": "invalid_grant", "error_description": "this jti came before"}, 400)
        self.asserted.append(dict(claims))
        return _json({name: value for name, value in self.grants.new(now).items() if name != "refresh_token"})

    def _device_begun(self) -> _Answer:
        code = f"device-{len(self.devices) + 1}"
        self.devices[code] = "authorization_pending"
        return _json(
            {
                "device_code": code,
                "user_code": f"CODE-{len(self.devices)}",
                "verification_uri": self.url + "/activate",
                "expires_in": self.device_lifetime_s,
                "interval": self.device_interval_s,
            }
        )

    def _device_asked(self, code: str, now: float) -> _Answer:
        said = self.devices.get(code, "invalid_grant")
        if said != "approved":
            return _json({"error": said}, 400)
        self.devices[code] = "invalid_grant"
        return _json(self.grants.new(now))

    def _redeemed(self, form: dict[str, str], now: float) -> dict[str, Any] | None:
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or asked.get("redirect_uri") != form.get("redirect_uri"):
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if asked.get("code_challenge") != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
            return None
        return self.grants.new(now)

    def _knows(self, fields: dict[str, str], form: dict[str, str]) -> bool:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        kind, _, given = fields.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            name, _, secret = base64.b64decode(given).decode().partition(":")
            name, secret = unquote_plus(name), unquote_plus(secret)
        return name == CLIENT_ID and secret in self.secrets


def _issuer_of(assertion: str) -> str:
    """Who says that he signed it: by that his keys are found, and nothing else is believed before the signature is checked."""
    try:
        claims = strict_json(decoded(assertion.split(".")[1].encode()))
        return str(claims["iss"])
    except (ValueError, LookupError, TypeError) as error:
        raise TokenRejected("malformed") from error


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> _Answer:
    return status, {"content-type": "application/json", "cache-control": "no-store", **(headers or {})}, orjson.dumps(value)


async def _send(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes, *, pause_s: float = 0) -> None:
    lines = [
        f"HTTP/1.1 {status} -",
        *[f"{name}: {value}" for name, value in headers.items()],
        f"content-length: {len(body)}",
        "connection: close",
    ]
    whole = "\r\n".join([*lines, "", ""]).encode() + body
    for piece in [whole[at : at + 1] for at in range(len(whole))] if pause_s else [whole]:
        writer.write(piece)
        await writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; see the module's docstring."""
    return asyncio.run(_run(_parser().parse_args(arguments)))


async def _run(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    settings = {"lifetime_s": options.lifetime, "window_s": options.window, "secrets": options.client_secret or SECRETS}
    async with Provider(options.profile, options.fault, host=options.host, port=options.port, **settings) as provider:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.call_later(options.max_seconds, stop.set)
        ready = {"event": "ready", "url": provider.url, "issuer": provider.url, "pid": os.getpid(), "port": provider.port}
        ready |= {"client_id": CLIENT_ID, "client_secrets": list(provider.secrets), "tokens": provider.grant()}
        sys.stdout.write(orjson.dumps(ready).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m netra_backend.testing.provider", description="A provider that misbehaves on request.")
    parser.add_argument("--profile", default="strict", choices=PROFILES)
    parser.add_argument("--fault", default="none", type=_known, help="none, drop@1, 503, 429, delay:2, garbage, slow, ...")
    parser.add_argument("--lifetime", type=float, default=3600, metavar="SECONDS", help="of access tokens")
    parser.add_argument("--window", type=float, default=30, metavar="SECONDS", help="in which a profile with grace takes a token again")
    parser.add_argument("--client-secret", action="append", help="accepted secrets; may be repeated")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="end by itself after this time")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    return parser


def _known(spec: str) -> str:
    try:
        Fault(spec)
    except ValueError as cause:
        raise argparse.ArgumentTypeError(str(cause)) from cause
    return spec


if __name__ == "__main__":
    sys.exit(main())
