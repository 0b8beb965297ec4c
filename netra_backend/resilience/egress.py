"""The one client of outgoing HTTP: webhooks, token endpoints, key sets, discovery. A build check forbids any other.

What a caller can rely on:

- No request reaches a denied address (W7): `addresses.py` judges, `pinning.py` binds the judgement to the socket.
- One deadline covers look-up, connecting, TLS, head and body. Nothing that the peer does outlives it: a connection that
  is not kept is aborted, for a graceful close would first wait until the peer has read what was written.
- At most `read_limit` bytes of the body and 16 KiB of the head are kept; at the limit the connection is closed and
  what was read is returned. A success stays a success, however long its body would have been.
- No redirect is followed, nothing is decompressed, no cookie is kept, no proxy and no setting of the environment is used.
- A call asks once. Nothing is repeated below this line, not even a GET on a kept-alive connection that was dead.
- Every failure is an `EgressError`, which says whether a byte of the request could have left (`sent`). A caller's own
  cancellation passes through, and closes the connection.

aiohttp makes the connections, to judged addresses only, and keeps them; what goes over them is written here and read by
`answer.py`. (Its own request and response cost about 200 us of CPU more, which was half of a delivery.)
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from ..kernel import debugging
from ..kernel.debugging import any_session
from ..kernel.runtime import Runtime
from .addresses import EgressRules
from .answer import Answer
from .egress_error import EgressDenied, EgressError, EgressKind, translate
from .exchange import CURRENT, Exchange
from .look_ups import AresResolver, LookUps, Resolver
from .metering import Meter, wire_limit
from .targets import KEPT, Target, target_of

if TYPE_CHECKING:
    import aiohttp

    from .pinning import PinnedConnector

__all__ = ["Egress", "EgressDenied", "EgressError", "EgressKind", "EgressRules", "Reply"]

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

MAX_HEAD_BYTES: Final = 16 * 1024
KEEPALIVE_S: Final = 4.0
"""Under the 5 s after which common servers close an idle connection, so that we rarely write into one that is closing."""

_ANNOUNCES_NO_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_DEFAULTS: Final = {"accept": "*/*", "user-agent": "Netra"}
_METHOD = re.compile(r"[A-Z]{1,16}\Z")
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

    def json(self) -> Any:
        """The body as JSON; `ValueError` if it is none, or was cut at the read limit."""
        return orjson.loads(self.body)


class Egress:
    """See the module's docstring. Bound to the event loop in which it is started.

    `allow` (NETRA_EGRESS_ALLOW) opens CIDRs, `ports` (NETRA_EGRESS_PORTS) replaces 80 and 443, `any_loopback_port`
    is `--dev`. `resolver` and `tls` replace the host's name servers and certificate authorities. Without `keep` each request has a
    connection of its own, for those that must not meet one that the peer has just closed.
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
        keep: bool = True,
    ) -> None:
        self.rules = EgressRules(allow, ports, any_loopback_port=any_loopback_port)
        """Assign new rules at any time: the next request, on a kept-alive connection too, is judged by them."""
        self._runtime = runtime
        self._max_look_ups_per_tenant = max_look_ups_per_tenant
        self._resolver = resolver
        self._tls = tls
        self._keep = keep
        self._is_open = False
        self._look_ups: LookUps | None = None
        self._connector: PinnedConnector | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Requests may be made from now on, in the running event loop. Nothing is loaded and no connection made before the first."""
        self._is_open = True

    def preload(self) -> None:
        """Load and make the pool now: for a server, whose first request must not wait for that."""
        self._pool()

    async def close(self) -> None:
        """Close every connection and fail every look-up. Idempotent; a request under way fails."""
        self._is_open = False
        connector, self._connector = self._connector, None
        look_ups, self._look_ups = self._look_ups, None
        if connector is not None:
            await connector.close()
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
        listen: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """Ask once and return what came back, whatever its status; `EgressError` if nothing usable did.

        `timeout_s` bounds everything; `deadline`, a monotonic instant of the runtime's clock, bounds it further.
        `connect_timeout_s` bounds one address's TCP and TLS. `tenant` pays for the look-up. `listen` is called with each piece of a
        success's body as it comes, for answers that are streams.
        """
        clock = self._runtime.clock
        began = clock.monotonic()
        left_s = timeout_s if deadline is None else min(timeout_s, deadline - began)
        outcome = "cancelled"
        try:
            target = target_of(url)
            exchange = Exchange(tenant, target.port, self.rules, wire_limit(read_limit))
            self._judge_before_looking_up(target, exchange)
            request_bytes = _request(method, target, _checked(headers), body)
            ask = _Ask(method, target, request_bytes, read_limit, _limits(connect_timeout_s), self._keep, listen)
            status, fields, read, truncated = await self._within(left_s, exchange, ask)
            outcome = "answered"
            reply = Reply(status, fields, read, truncated, exchange.peer, clock.monotonic() - began)
            if any_session:
                _debug(
                    tenant, (method, url, headers, body), {"status": status, "headers": fields, "body": read, "seconds": reply.duration_s}
                )
            return reply
        except EgressError as error:
            outcome = error.kind
            if any_session:
                seconds = clock.monotonic() - began
                _debug(
                    tenant,
                    (method, url, headers, body),
                    {"error": error.kind, "detail": error.detail, "fix": error.fix, "seconds": seconds},
                )
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
        if not self._is_open:
            raise EgressError("connect", "the client is not open", fix="Enter the Egress (or call start) before the first request.")
        if left_s <= 0:
            raise EgressError("timeout", "the deadline has passed before the request began")
        from aiohttp import ClientError

        token = CURRENT.set(exchange)
        try:
            async with asyncio.timeout(left_s):
                return await ask.send(self._pool(), exchange)
        except (ClientError, OSError, ValueError, RuntimeError, EgressError) as cause:
            raise exchange.stopped or translate(cause, phase=exchange.phase, sent=exchange.sent) from cause
        finally:
            CURRENT.reset(token)

    def _pool(self) -> PinnedConnector:
        """The pool, made for the first request: its libraries take longer to load than most commands take altogether."""
        if self._connector is None:
            from .pinning import PinnedConnector

            self._look_ups = LookUps(self._resolver or AresResolver(), self._max_look_ups_per_tenant)
            self._connector = PinnedConnector(self._look_ups, keepalive_s=KEEPALIVE_S, tls=self._tls or True)
        return self._connector


_Read = tuple[int, tuple[tuple[str, str], ...], bytes, bool]


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request, checked and ready to be written."""

    method: str
    target: Target
    request: bytes
    read_limit: int
    limits: aiohttp.ClientTimeout
    keep: bool
    listen: Callable[[bytes], None] | None

    async def send(self, connector: PinnedConnector, exchange: Exchange) -> _Read:
        connection = await connector.connect(_route(self.target, asyncio.get_running_loop()), [], self.limits)
        try:
            answer = Answer(exchange, self.method, self.read_limit, self.listen)
            await _meter(connection).ask(self.request, answer)
        except BaseException:
            _abort(connection)
            raise
        if answer.reusable and self.keep:
            connection.release()
        else:
            _abort(connection)
        return answer.status, _fields(answer.fields), bytes(answer.body), answer.truncated


def _debug(tenant: str, request: tuple[str, str, Headers, bytes], answer: Mapping[str, Any]) -> None:
    """The exchange, for a debug session of that tenant that listens here."""
    watch = debugging.listener(tenant, "http")
    if watch is not None:
        debugging.http(watch, "out", request, answer)


def _abort(connection: aiohttp.connector.Connection) -> None:
    """Drop the socket and what is left to write. A peer that never reads would keep both, without end, from a close."""
    if connection.transport is not None:
        connection.transport.abort()
    connection.close()


def _meter(connection: aiohttp.connector.Connection) -> Meter:
    if connection.transport is None:
        raise EgressError("connect", "the connection was lost as soon as it stood")
    return Meter.on(connection.transport)


@lru_cache(maxsize=KEPT)
def _route(target: Target, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientRequest:
    """What aiohttp wants to know of a request before it gives a connection: scheme, host and port. Never sent, never changed."""
    from aiohttp import ClientRequest

    return ClientRequest("GET", target.url.origin(), loop=loop)


def _request(method: str, target: Target, fields: list[tuple[str, str]], body: bytes) -> bytes:
    """The request as it goes over the wire (RFC 9112, sections 3 and 6.2). UTF-8, so that every checked value can be written."""
    if not _METHOD.match(method):
        raise EgressError("bad_header", f"{method[:20]!r} is not a method that can be sent")
    lines = [_start(method, target), *[f"{name}: {value}" for name, value in fields]]
    given = {name.lower() for name, _ in fields}
    lines += [f"{name}: {value}" for name, value in _DEFAULTS.items() if name not in given]
    if body or method not in _ANNOUNCES_NO_BODY:
        lines.append(f"content-length: {len(body)}")
    if body and "content-type" not in given:
        lines.append("content-type: application/octet-stream")
    return "\r\n".join([*lines, "", ""]).encode() + body


@lru_cache(maxsize=KEPT)
def _start(method: str, target: Target) -> str:
    return f"{method} {target.url.raw_path_qs} HTTP/1.1\r\nhost: {target.url.host_port_subcomponent}"


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
    from aiohttp import ClientTimeout

    return ClientTimeout(total=None, sock_connect=connect_timeout_s)
