"""The pin: a connection is made only to an address that was judged, and no byte goes out before the peer is known.

aiohttp asks three times while it makes a connection, and we answer each time by its public seams:

1. `Resolver.resolve` (a name): look up once, judge every address. One denied address refuses the name: a name that
   points both outside and inside is an attack or a mistake, and picking the good half would hide it.
2. `socket_factory` (each address, before `connect`): it must be one of those just judged. Addresses written in the URL
   skip the resolver, which is why this seam exists.
3. `PinnedConnector.connect` (a connection, new or out of the keep-alive pool): the socket's own peer address must be
   among the pinned, and is judged again by the rules of this moment, so that a changed allow-list holds for pooled
   connections too. The request is written after this returns, so this is also where `sent` becomes true.

There is no second look-up between judging and connecting, which is what DNS rebinding needs. The state of one request
travels in a context variable: aiohttp calls 1 and 3 in the requesting task and 2 in it or in a child of it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from .addresses import EgressRules, Refusal, canonical
from .egress_error import EgressDenied, EgressError
from .look_ups import LookUps

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import AddrInfoType, Connection
    from aiohttp.tracing import Trace


@dataclass(slots=True)
class Exchange:
    """One request under way. `phase` is `look-up`, `connect` or `answer`; `peer` is the address in use, once known."""

    tenant: str
    port: int
    rules: EgressRules
    pinned: frozenset[str] = frozenset()
    phase: str = "look-up"
    peer: str = ""
    sent: bool = False
    refused: EgressDenied | None = None

    def judge(self, address: str) -> None:
        """Raise and remember `EgressDenied` if this address may not be used at this port."""
        refusal = self.rules.refusal(address, self.port)
        if refusal is not None:
            self.refused = EgressDenied(refusal, address=address, port=self.port)
            raise self.refused


CURRENT: ContextVar[Exchange] = ContextVar("netra_egress_exchange")


class JudgingResolver(AbstractResolver):
    """Seam 1."""

    def __init__(self, look_ups: LookUps) -> None:
        self._look_ups = look_ups

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Every address of `host`, each judged; `EgressDenied` if any is denied, `EgressError` if the look-up fails."""
        exchange = CURRENT.get()
        addresses = [canonical(address) for address in await self._look_ups.addresses(exchange.tenant, host)]
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


def pinned_socket(addr_info: AddrInfoType) -> socket.socket:
    """Seam 2. An OSError, because the racing of addresses swallows every other kind; the exchange remembers the reason."""
    family, kind, protocol, _, (address, *_) = addr_info
    exchange = CURRENT.get()
    if canonical(str(address)) not in exchange.pinned:
        raise OSError(errno.EACCES, f"{address} is not an address that was judged for this request")
    try:
        exchange.judge(canonical(str(address)))
    except EgressDenied as refused:
        raise OSError(errno.EACCES, refused.detail) from refused
    return socket.socket(family, kind, protocol)


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
            check_peer(exchange, connection.transport.get_extra_info if connection.transport is not None else None)
        except BaseException:
            connection.close()
            raise
        exchange.phase = "answer"
        exchange.sent = True
        return connection


def check_peer(exchange: Exchange, extra: Callable[[str], Any] | None) -> None:
    """Raise unless the connected peer is the judged address and port. `extra` is the transport's `get_extra_info`."""
    peer = extra("peername") if extra is not None else None
    if not peer:
        raise EgressError("connect", "the connection was lost as soon as it stood")
    address = canonical(peer[0])
    exchange.judge(address)
    if peer[1] != exchange.port or (exchange.pinned and address not in exchange.pinned):
        reason = f"the connection stands with {address} port {peer[1]}, which is not what was judged"
        raise EgressDenied(Refusal(reason, "Look for a proxy or a firewall rule that redirects outgoing connections."), address=address)
    exchange.peer = address
