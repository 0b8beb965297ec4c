"""The command line as a client of a Netra server: JSON over the one guarded HTTP client.

The operator of the command names the server, so its address and port are opened for this process and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from ..errors import CannotStart, NetraError, UsageError
from ..kernel.runtime import Runtime
from ..resilience.egress import Egress
from .options import Place

API: Final = "/api/v1"
TIMEOUT_S: Final = 30.0
STREAM_S: Final = 24 * 3600.0
"""For how long one stream is followed at most."""
PAGE: Final = 250
"""The most that the server gives at once."""
READ_LIMIT: Final = 64 * 1024 * 1024


class Refused(NetraError):
    """The server refused the request."""

    code = "refused"
    fix = "Check that --server is the address of a Netra server, of this release or a later one."


class RefusedAsWrong(UsageError):
    """The server refused the request as wrong."""

    code = "refused"
    fix = Refused.fix


class RefusedKey(CannotStart):
    """The server does not take this key."""

    code = "unauthorized"
    fix = "Give a live key of this server with --key (or NETRA_OPERATOR_KEY)."


class ServerFailed(CannotStart):
    """The server could not answer."""

    code = "server_failed"
    fix = "Look at the server's log, and repeat later."


class RestClient:
    """Requests to one server with one key."""

    def __init__(self, egress: Egress, base: str, key: str) -> None:
        self._egress = egress
        self._base = base.rstrip("/")
        self._headers = (("authorization", f"Bearer {key}"), ("content-type", "application/json"), ("accept", "application/json"))

    async def get(self, *path: str, **query: Any) -> Any:
        """The answer's JSON; a query value of None is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return await self.ask("GET", path, query=given)

    async def post(self, *path: str, body: Any) -> Any:
        """The answer's JSON."""
        return await self.ask("POST", path, body=orjson.dumps(body))

    async def list(self, *path: str, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Up to `limit` items of a paged answer, following its iterator."""
        found: list[dict[str, Any]] = []
        iterator: str | None = None
        while len(found) < limit:
            page = await self.get(*path, limit=min(limit - len(found), PAGE), iterator=iterator, **query)
            found += page["data"]
            iterator = page.get("iterator")
            if page.get("done", True) or not iterator:
                break
        return found

    async def fetch(self, *path: str) -> bytes:
        """The answer's bytes."""
        return await self._ask("GET", path, None, b"")

    async def follow(self, *path: str) -> AsyncIterator[tuple[str, Any]]:
        """What a stream of server-sent events tells (HTML Standard, section 9.2), each as its name and JSON, until it ends."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        asking = asyncio.ensure_future(self._listen(path, pieces))
        asking.add_done_callback(lambda _: pieces.put_nowait(b""))
        pending = b""
        try:
            while piece := await pieces.get():
                *whole, pending = (pending + piece).split(b"\n\n")
                for event in whole:
                    fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
                    if b"data" in fields:  # a comment keeps the connection alive and tells nothing
                        yield fields.get(b"event", b"message").decode(), orjson.loads(fields[b"data"])
        finally:
            asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    async def _listen(self, path: tuple[str, ...], pieces: asyncio.Queue[bytes]) -> None:
        url = self._base + API + "".join("/" + quote(part, safe="") for part in path)
        headers = (*self._headers[:1], ("accept", "text/event-stream"))
        reply = await self._egress.request(
            "GET", url, headers=headers, tenant="cli", timeout_s=STREAM_S, read_limit=READ_LIMIT, listen=pieces.put_nowait
        )
        if not 200 <= reply.status < 300:
            raise refusal(reply.status, reply.body)

    async def ask(self, method: str, path: tuple[str, ...], *, query: Mapping[str, Any] | None = None, body: bytes = b"") -> Any:
        """The answer's JSON; an error of ours for every answer that is not 2xx."""
        found = await self._ask(method, path, query, body)
        try:
            return orjson.loads(found) if found else None
        except ValueError as error:
            raise ServerFailed("the answer is not JSON", fix="Check that --server is the address of a Netra server.") from error

    async def _ask(self, method: str, path: tuple[str, ...], query: Mapping[str, Any] | None, body: bytes) -> bytes:
        url = (
            self._base + API + "".join("/" + quote(part, safe="") for part in path) + (f"?{urlencode(query, doseq=True)}" if query else "")
        )
        reply = await self._egress.request(
            method, url, headers=self._headers, body=body, tenant="cli", timeout_s=TIMEOUT_S, read_limit=READ_LIMIT
        )
        if not 200 <= reply.status < 300:
            raise refusal(reply.status, reply.body)
        return reply.body


def refusal(status: int, body: bytes) -> NetraError:
    """The server's own words and code, as the family whose exit code fits."""
    try:
        told = orjson.loads(body)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    detail = told.get("detail") or told.get("title") or body[:200].decode("utf-8", "replace")
    words = f"status {status}: {detail if isinstance(detail, str) else orjson.dumps(detail).decode()}"
    error = _family(status)(words, fix="" if status == 401 else str(told.get("fix") or ""))
    for name in ("code", "title"):
        if isinstance(told.get(name), str):
            setattr(error, name, told[name])
    return error


def _family(status: int) -> type[NetraError]:
    if status in {401, 403}:
        return RefusedKey
    if status in {400, 413, 422}:
        return RefusedAsWrong
    return ServerFailed if status >= 500 or status == 429 else Refused


def egress_to(runtime: Runtime, url: str) -> Egress:
    """A client that reaches this server wherever it is, and its port."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
        raise UsageError(f"{url[:80]!r} is not the address of a server", fix="Give --server http://127.0.0.1:8071, for example.")
    return Egress(runtime, allow=("0.0.0.0/0", "::/0"), ports=(port,))


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[RestClient]:
    """A client of the place's server."""
    url = place.server or ""
    if not place.key:
        raise RefusedKey("no key is given", fix="Give --key KEY, or set NETRA_OPERATOR_KEY.")
    async with egress_to(Runtime(), url) as egress:
        yield RestClient(egress, url, place.key)
