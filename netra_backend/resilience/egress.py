"""The one client of outgoing HTTP: webhooks, token endpoints, key sets, discovery. A build check forbids any other.

What a caller can rely on:

- No request reaches a denied address (W7): `addresses.py` judges, `pinning.py` binds the judgement to the socket.
- One deadline covers look-up, connecting, TLS, head and body. Nothing that the peer does outlives it.
- At most `read_limit` bytes of the body and 16 KiB of the head are kept; at the limit the connection is closed and
  what was read is returned. A success stays a success, however long its body would have been.
- No redirect is followed, nothing is decompressed, no cookie is kept, no proxy and no setting of the environment is used.
- A call asks once. Nothing is repeated below this line, not even a GET on a kept-alive connection that was dead.
- Every failure is an `EgressError`, which says whether a byte of the request could have left (`sent`). A caller's own
  cancellation passes through, and closes the connection.

Cost: one session for the process's life. aiohttp takes 100 to 200 us of CPU per request; this page adds about a fifth of that.
"""

from __future__ import annotations

import asyncio
import io
import re
import ssl
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import aiohttp
from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError

from ..kernel.runtime import Runtime
from .addresses import EgressRules
from .egress_error import EgressDenied, EgressError, EgressKind, translate
from .exchange import CURRENT, Exchange
from .look_ups import AresResolver, LookUps, Resolver
from .metering import wire_limit
from .pinning import PinnedConnector
from .targets import Target, target_of

__all__ = ["Egress", "EgressDenied", "EgressError", "EgressKind", "EgressRules", "Reply"]

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_HEAD_FIELDS: Final = 128
KEEPALIVE_S: Final = 4.0
"""Under the 5 s after which common servers close an idle connection, so that we rarely write into one that is closing."""

_COPIED_ABOVE_BYTES: Final = 1024 * 1024  # aiohttp warns of larger `bytes`; a stream of the same bytes is written in pieces
_FRAMING: Final = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\uffff]*\Z")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `headers` in the order and spelling of the wire; `truncated` if the body went on after `body`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    truncated: bool
    peer: str
    duration_s: float


class Egress:
    """See the module's docstring. Bound to the event loop in which it is started.

    `allow` (NETRA_EGRESS_ALLOW) opens CIDRs, `ports` (NETRA_EGRESS_PORTS) adds to 80 and 443, `any_loopback_port` is
    `--dev`. `resolver` and `tls` replace the host's name servers and certificate authorities.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        allow: Sequence[str] = (),
        ports: Collection[int] | None = None,
        any_loopback_port: bool = False,
        max_look_ups_per_tenant: int = 4,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.rules = EgressRules(allow, ports, any_loopback_port=any_loopback_port)
        """Assign new rules at any time: the next request, on a kept-alive connection too, is judged by them."""
        self._runtime = runtime
        self._max_look_ups_per_tenant = max_look_ups_per_tenant
        self._resolver = resolver
        self._tls = tls
        self._look_ups: LookUps | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Open the pool in the running event loop. No connection is made."""
        self._look_ups = LookUps(self._resolver or AresResolver(), self._max_look_ups_per_tenant)
        self._session = aiohttp.ClientSession(
            connector=PinnedConnector(self._look_ups, keepalive_s=KEEPALIVE_S, tls=self._tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_PlainRequest,
            auto_decompress=False,
            trust_env=False,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=MAX_HEAD_FIELDS,
        )

    async def close(self) -> None:
        """Close every connection and fail every look-up. Idempotent; a request under way fails."""
        session, self._session = self._session, None
        look_ups, self._look_ups = self._look_ups, None
        if session is not None:
            await session.close()
        if look_ups is not None:
            await look_ups.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        tenant: str,
        timeout_s: float = 15.0,
        connect_timeout_s: float = 5.0,
        read_limit: int = 64 * 1024,
        deadline: float | None = None,
    ) -> Reply:
        """Ask once and return what came back, whatever its status; `EgressError` if nothing usable did.

        `timeout_s` bounds everything; `deadline`, a monotonic instant of the runtime's clock, bounds it further.
        `connect_timeout_s` bounds one address's TCP and TLS. `tenant` pays for the look-up.
        """
        clock = self._runtime.clock
        began = clock.monotonic()
        left_s = timeout_s if deadline is None else min(timeout_s, deadline - began)
        outcome = "cancelled"
        try:
            target = target_of(url)
            exchange = Exchange(tenant, target.port, self.rules, wire_limit(read_limit))
            self._judge_before_looking_up(target, exchange)
            ask = _Ask(method, target, _checked(headers), body, read_limit, _limits(connect_timeout_s))
            status, fields, read, truncated = await self._within(left_s, exchange, ask)
            outcome = "answered"
            return Reply(status, fields, read, truncated, exchange.peer, clock.monotonic() - began)
        except EgressError as error:
            outcome = error.kind
            raise
        finally:
            self._runtime.metrics.count("netra_egress_requests_total", outcome=outcome)

    def _judge_before_looking_up(self, target: Target, exchange: Exchange) -> None:
        if target.address is None:
            refusal = exchange.rules.refuses_port_everywhere(target.port)
            if refusal is not None:
                raise EgressDenied(refusal, port=target.port)
            return
        exchange.judge(target.address)
        if target.odd:
            raise EgressError("bad_url", f"{target.host!r} is an unusual spelling of {target.address}", fix=f"Write {target.address}.")
        exchange.pinned = frozenset({target.address})
        exchange.phase = "connect"

    async def _within(self, left_s: float, exchange: Exchange, ask: _Ask) -> _Read:
        """Ask under the one deadline; everything that is raised leaves as an EgressError, except the caller's cancellation."""
        if self._session is None:
            raise EgressError("connect", "the client is not open", fix="Enter the Egress (or call start) before the first request.")
        if left_s <= 0:
            raise EgressError("timeout", "the deadline has passed before the request began")
        token = CURRENT.set(exchange)
        try:
            async with asyncio.timeout(left_s):
                return await ask.send(self._session, exchange)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError, RuntimeError, EgressError) as cause:
            raise exchange.stopped or translate(cause, phase=exchange.phase, sent=exchange.sent) from cause
        finally:
            CURRENT.reset(token)


class _PlainRequest(aiohttp.ClientRequest):
    """Adds no Accept-Encoding. A session's own ways to say so (default headers, skipped headers) copy the fields for each request."""

    DEFAULT_HEADERS = {hdrs.ACCEPT: "*/*", hdrs.USER_AGENT: "Netra"}  # noqa: RUF012  (aiohttp declares it so)


_Read = tuple[int, tuple[tuple[str, str], ...], bytes, bool]


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request, checked and ready to be written."""

    method: str
    target: Target
    headers: list[tuple[str, str]]
    body: bytes
    read_limit: int
    limits: aiohttp.ClientTimeout

    async def send(self, session: aiohttp.ClientSession, exchange: Exchange) -> _Read:
        data = (self.body if len(self.body) <= _COPIED_ABOVE_BYTES else io.BytesIO(self.body)) if self.body else None
        response = await session.request(
            self.method, self.target.url, headers=self.headers, data=data, allow_redirects=False, timeout=self.limits
        )
        exchange.phase = "body"
        try:
            read, truncated = await _read(response, self.read_limit, exchange)
        except BaseException:
            response.close()
            raise
        if truncated:
            response.close()
        else:
            response.release()
        return response.status, _fields(response.raw_headers), read, truncated


async def _read(response: aiohttp.ClientResponse, limit: int, exchange: Exchange) -> tuple[bytes, bool]:
    """The body's first `limit` bytes, and whether it went on. Reads no further than the chunk that reaches the limit."""
    if response.status == 101:
        raise EgressError("protocol", "the receiver switched protocols unasked", sent=True)
    content = response.content
    parts = bytearray()
    try:
        while len(parts) < limit and (read := await content.readany()):
            parts += read
    except aiohttp.ClientPayloadError:
        if exchange.stopped is None:  # not by the meter: the peer broke off
            raise
        return bytes(parts), True
    return bytes(parts[:limit]), len(parts) > limit or not content.at_eof()


def _fields(raw: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The head's first 16 KiB of whole fields. Latin-1, as RFC 9110 section 5.5 has it: any byte, and no surrogates."""
    room = MAX_HEAD_BYTES
    kept = []
    for name, value in raw:
        room -= len(name) + len(value) + 4
        if room < 0:
            break
        kept.append((name.decode("latin-1"), value.decode("latin-1")))
    return tuple(kept)


def _checked(headers: Headers) -> list[tuple[str, str]]:
    """The caller's fields, if none of them could change the framing, the host or the next request."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in pairs:
        if not _may_be_set(name) or not _FIELD_VALUE.match(value):
            raise EgressError("bad_header", f"the header {name[:80]!r} cannot be sent")
    return pairs


@lru_cache(maxsize=1024)
def _may_be_set(name: str) -> bool:
    return _FIELD_NAME.match(name) is not None and name.lower() not in _FRAMING


@lru_cache(maxsize=64)
def _limits(connect_timeout_s: float) -> aiohttp.ClientTimeout:
    """Only the connect limit is aiohttp's: the whole is ours, exact where aiohttp rounds up to whole seconds."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
