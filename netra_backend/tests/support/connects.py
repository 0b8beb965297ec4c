"""Every connect() of this process, seen by the interpreter itself: below our pin, below aiohttp, below asyncio.

An address such as 10.0.0.1 has no listener that a test could count at, so the attempt is what is counted. And none of them
leaves this host: an attempt that would is written down and then fails as if there were no network, because a broken
build must not be able to send anything to 169.254.169.254. (The interpreter's audit hooks, PEP 578, cannot be taken out
again; outside `connects()` this one does nothing.)
"""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from functools import cache
from ipaddress import ip_address, ip_network

_watching: list[list[tuple[str, int]]] = []
_STAYS = [ip_network(each) for each in ("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128", "::ffff:127.0.0.0/104", "::ffff:0.0.0.0/128")]


@contextmanager
def connects():
    """A list of (address, port) that grows with every attempt to connect."""
    _install()
    seen = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


@cache
def _install():
    sys.addaudithook(_on_event)


def _on_event(event, arguments):
    if event == "socket.connect" and _watching and isinstance(arguments[1], tuple):
        address, port, *_ = arguments[1]
        for seen in _watching:
            seen.append((address, port))
        if not _stays_here(address):
            raise OSError(errno.ENETUNREACH, "no test leaves this host")


def _stays_here(address):
    parsed = ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in _STAYS)
