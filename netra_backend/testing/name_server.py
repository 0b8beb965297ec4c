"""A name server on loopback that knows a few names, and for others is the server that never answers.

    async with NameServer({"good.example": ["192.0.2.7"]}, silent={"dead.example"}) as server: ... server.address

Speaks enough of DNS over UDP (RFC 1035, section 4) for a stub resolver: A and AAAA with a time to live of zero, so that
nothing is cached; any other name does not exist. An alias is answered as a recursive server does, with the CNAME records on
the way and the addresses at its end, where there are any.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_address
from typing import Final, Self, cast

_TYPES: Final = {1: 4, 28: 6}  # A and AAAA, and the IP version that each carries
_CNAME: Final = 5
_MOST_ALIASES: Final = 8  # so that a circle of them ends
_NO_SUCH_NAME: Final = 3


class NameServer(asyncio.DatagramProtocol):
    """`address` is "ip:port" for a resolver; `asked` counts queries by name. `names` may be changed while it runs."""

    def __init__(self, names: Mapping[str, Sequence[str]], silent: Collection[str] = (), aliases: Mapping[str, str] | None = None) -> None:
        self.names = dict(names)
        self.aliases = dict(aliases or {})
        self.asked: Counter[str] = Counter()
        self._silent = frozenset(silent)
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def address(self) -> str:
        """Where it listens, as resolvers write it."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It listens."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One query; a silent name gets nothing."""
        name, end = _name(data)
        self.asked[name] += 1
        if name not in self._silent and self._transport is not None:
            self._transport.sendto(self._reply(data, name, end), addr)

    def _reply(self, query: bytes, name: str, end: int) -> bytes:
        kind, _ = struct.unpack_from(">HH", query, end)
        owner, records = self._aliases_of(name)
        known = self.names.get(owner)
        packed = [ip_address(text).packed for text in known or () if ip_address(text).version == _TYPES.get(kind)]
        records += [_record(owner, kind, each) for each in packed]
        flags = 0x8180 | (_NO_SUCH_NAME if known is None and owner == name else 0)
        return query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + query[12 : end + 4] + b"".join(records)

    def _aliases_of(self, name: str) -> tuple[str, list[bytes]]:
        """The name at the end of the aliases, and their records."""
        records: list[bytes] = []
        while name in self.aliases and len(records) < _MOST_ALIASES:
            records.append(_record(name, _CNAME, _wire(self.aliases[name])))
            name = self.aliases[name]
        return name, records


def _record(owner: str, kind: int, data: bytes) -> bytes:
    return _wire(owner) + struct.pack(">HHIH", kind, 1, 0, len(data)) + data


def _wire(name: str) -> bytes:
    """A name as it stands in a message, uncompressed."""
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\x00"


def _name(message: bytes) -> tuple[str, int]:
    """The question's name in lower case, and where it ends (RFC 1035, section 4.1.2)."""
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1
