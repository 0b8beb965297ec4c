"""The pin: a connection is made only to an address that was judged, and no byte of a request goes out before the peer is known.

aiohttp asks three times while it makes a connection, and we answer each time by its public seams:

1. `Resolver.resolve` (a name): look up once, judge every address. One denied address refuses the name: a name that
   points both outside and inside is an attack or a mistake, and picking the good half would hide it. Of a long answer
   only the first 8 addresses are taken: 4,000 of them held the event loop for 120 ms (measured), and a request would have
   tried them all, and all but one again (aiohttp begins anew, with one fewer, until none is left): a scan of hosts
   that the name's owner chose.
2. `socket_factory` (each address, before `connect`): it must be one of those just judged. Addresses written in the URL
   skip the resolver, which is why this seam exists.
3. `PinnedConnector.connect` (a connection, new or out of the keep-alive pool): the socket's own peer address must be
   among the pinned, and is judged again by the rules of this moment, so that a changed allow-list holds for pooled
   connections too. The request is written after this returns, so this is also where `sent` becomes true. (A TLS
   handshake comes before; it goes where seam 2 let it.)

There is no second look-up between judging and connecting, which is what DNS rebinding needs.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from .addresses import Refusal, canonical
from .egress_error import EgressDenied, EgressError
from .exchange import CURRENT, Exchange
from .look_ups import LookUps
from .metering import RECEIVE_BUFFER_BYTES, Meter

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import AddrInfoType, Connection
    from aiohttp.tracing import Trace


MAX_ADDRESSES: Final = 8


class JudgingResolver(AbstractResolver):
    """Seam 1."""

    def __init__(self, look_ups: LookUps) -> None:
        self._look_ups = look_ups

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """The addresses of `host`, each judged; `EgressDenied` if any is denied, `EgressError` if the look-up fails."""
        exchange = CURRENT.get()
        found = await self._look_ups.addresses(exchange.tenant, host)
        addresses = _addresses(host, found[:MAX_ADDRESSES])
        for address in addresses:
            exchange.judge(address)
        exchange.pinned = frozenset(addresses)
        exchange.phase = "connect"
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address in addresses
        ]

    async def close(self) -> None:
        """The look-ups are closed by their owner."""


def _addresses(host: str, texts: Sequence[str]) -> list[str]:
    """Each once, in one spelling. What only a C library would take for an address (`127.1`) is none: it would be read again by connect."""
    try:
        return list(dict.fromkeys(map(canonical, texts)))
    except ValueError as cause:
        raise EgressError("dns", f"{host}: the answer is not an address", host=host) from cause


def pinned_socket(addr_info: AddrInfoType) -> socket.socket:
    """Seam 2. An OSError, because the racing of addresses swallows every other kind; the exchange remembers the reason."""
    family, kind, protocol, _, (address, port, *_) = addr_info
    exchange = CURRENT.get()
    if port != exchange.port or canonical(str(address)) not in exchange.pinned:
        exchange.stopped = _not_judged(f"{address} port {port}")
        raise OSError(errno.EACCES, exchange.stopped.detail)
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return made


class PinnedConnector(aiohttp.TCPConnector):
    """Seam 3, and a pool without limits of its own: who calls decides how much is in flight, a hidden queue would stall others."""

    def __init__(self, look_ups: LookUps, *, keepalive_s: float, tls: Any) -> None:
        super().__init__(
            resolver=JudgingResolver(look_ups),
            use_dns_cache=False,
            socket_factory=pinned_socket,
            limit=0,
            keepalive_timeout=keepalive_s,
            ssl=tls,
        )

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """A connection whose peer was checked; `EgressError` otherwise, and the connection is closed."""
        exchange = CURRENT.get()
        connection = await super().connect(req, traces, timeout)
        try:
            check_peer(exchange, Meter.on(connection.transport).peer if connection.transport is not None else None)
        except BaseException:
            connection.close()
            raise
        exchange.phase = "answer"
        exchange.sent = True
        return connection


def check_peer(exchange: Exchange, peer: tuple[str, int] | None) -> None:
    """Raise unless the socket's own peer is the judged address and port."""
    if not peer:
        raise EgressError("connect", "the connection was lost as soon as it stood")
    address, port = peer
    exchange.judge(address)
    if port != exchange.port or (exchange.pinned and address not in exchange.pinned):
        raise _not_judged(f"{address} port {port}")
    exchange.peer = address


def _not_judged(where: str) -> EgressDenied:
    return EgressDenied(
        Refusal(f"{where} is not what was judged for this request", "Look for a proxy or a firewall rule that redirects connections.")
    )
