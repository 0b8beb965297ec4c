"""May we connect to this address at this port? Pure: no look-up and no socket here.

Invariant: every answer is about an address that will be, or was, given to `connect`, never about the text that led to
it: a name, `127.1`, `2130706433` and full-width digits reach us as the address they stand for.

An operator's allow-list opens exactly the CIDRs it names. Where an IPv6 address carries an IPv4 address inside
(NAT64, 6to4, Teredo, mapped, ISATAP), that address is judged on its own as well: allowing 64:ff9b::/96, as a host
behind NAT64 must, does not open 64:ff9b::7f00:1, which is 127.0.0.1 on the far side. What nothing in an address shows
is a NAT64 prefix of the network's own choice (RFC 6052, section 2.2): such a network must deny it in its own firewall.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from ..errors import CannotStart
from .address_table import DENIED, Row

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_PORTS: Final = frozenset({80, 443})
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")
_TAIL_V4: Final = tuple(map(ip_network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Prefixes after which the last 32 bits are an IPv4 address."""


class Refusal(NamedTuple):
    """Why an address and port may not be used, in words, and the setting that would open them."""

    reason: str
    fix: str


class EgressRules:
    """The operator's answer to where requests may go. Immutable; replaced as a whole.

    `allow` opens CIDRs of the denied table; `ports` stands in place of 80 and 443, so that an operator can close 80 too;
    `any_loopback_port` opens 127.0.0.0/8 and ::1 at every port, which is for development only: whoever may choose a URL
    then talks to every service of this host.
    """

    def __init__(self, allow: Sequence[str] = (), ports: Collection[int] | None = None, *, any_loopback_port: bool = False) -> None:
        self._allow = tuple(_cidr(text) for text in allow)
        self._ports = DEFAULT_PORTS if ports is None else _checked_ports(ports)
        self._any_loopback_port = any_loopback_port
        self.refusal = lru_cache(maxsize=8192)(self._judge)
        """`refusal(address, port)`: None if a connection is allowed. `address` is the text of an address, else ValueError."""

    def refuses_port_everywhere(self, port: int) -> Refusal | None:
        """The refusal of a port that no address could change, so that no name is looked up for it."""
        return None if port in self._ports or self._any_loopback_port else self._port_refusal(port)

    def _judge(self, address: str, port: int) -> Refusal | None:
        parsed = ip_address(address)
        if self._any_loopback_port and _within(parsed, _LOOPBACK):
            return None
        named = max((network.prefixlen for network in self._allow if _within(parsed, (network,))), default=0)
        for each in (parsed, *embedded_ipv4(parsed, named)):
            row = denying_row(each)
            if row is not None and not _within(each, self._allow):
                return _address_refusal(parsed, each, row)
        return None if port in self._ports else self._port_refusal(port)

    def _port_refusal(self, port: int) -> Refusal:
        open_now = ", ".join(map(str, sorted(self._ports))) or "none"
        return Refusal(
            f"port {port} is not open for outgoing requests",
            f"The operator adds {port} to NETRA_EGRESS_PORTS (now {open_now}), or the URL uses an open port.",
        )


@lru_cache(maxsize=8192)
def canonical(address: str) -> str:
    """One spelling per address, so that two of them can be compared as text; ValueError where it is none."""
    return str(ip_address(address))


def denying_row(address: Address) -> Row | None:
    """The first row of the table that holds `address`."""
    return next((row for row in DENIED if row.network.version == address.version and address in row.network), None)


def embedded_ipv4(address: Address, named: int = 0) -> Iterator[IPv4Address]:
    """Every IPv4 address that a router, relay or kernel may take out of this IPv6 address.

    `named` is the length of the narrowest network by which an operator allowed the address.
    """
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    if bits > 1 and _within(address, _TAIL_V4):  # :: and ::1 are addresses of their own
        yield IPv4Address(bits & 0xFFFFFFFF)
    if address in _LOCAL_NAT64:
        yield from _in_local_nat64(bits, named)
    if bits >> 112 == 0x2002:  # 6to4, RFC 3056, section 2
        yield IPv4Address(bits >> 80 & 0xFFFFFFFF)
    if bits >> 96 == 0x20010000:  # Teredo, RFC 4380, section 4: the server, and the client's address inverted
        yield IPv4Address(bits >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~bits & 0xFFFFFFFF)
    if bits >> 32 & 0xFCFFFFFF == 0x00005EFE:  # ISATAP, RFC 5214, section 6.1: under any prefix
        yield IPv4Address(bits & 0xFFFFFFFF)


def _in_local_nat64(bits: int, named: int) -> Iterator[IPv4Address]:
    """RFC 8215 leaves the layout open: any of RFC 6052's (section 2.2), whose prefix is at least what the operator named.

    So allowing the /96 that is in use is exact, and allowing the whole /48 is judged in four ways, each of which may refuse.
    Below 0.0.1.0 there is no host: those bits belong to another layout's prefix.
    """
    layouts = (
        (48, (bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF),
        (56, (bits >> 64 & 0xFF) << 24 | bits >> 32 & 0xFFFFFF),
        (64, bits >> 24 & 0xFFFFFFFF),
        (96, bits & 0xFFFFFFFF),
    )
    yield from (IPv4Address(inside) for prefix, inside in layouts if prefix >= min(named, 96) and inside > 0xFF)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _address_refusal(address: Address, judged: Address, row: Row) -> Refusal:
    inside = "" if judged is address else f" carries {judged}, which"
    width = 32 if judged.version == 4 else 128
    return Refusal(
        f"{address}{inside} is in {row.network} ({row.name}; {row.source})",
        f"If this is meant, the operator adds {judged}/{width} or its network to NETRA_EGRESS_ALLOW.",
    )


def _cidr(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError as cause:
        raise CannotStart(
            f"NETRA_EGRESS_ALLOW: {text!r} is not a CIDR ({cause})",
            fix="Write exact networks such as 10.1.0.0/16 or 10.1.2.3/32, separated by commas.",
        ) from cause


def _checked_ports(ports: Collection[int]) -> frozenset[int]:
    for port in ports:
        if not 0 < port < 65536:
            raise CannotStart(f"NETRA_EGRESS_PORTS: {port} is not a port", fix="Write numbers from 1 to 65535, separated by commas.")
    return frozenset(ports)
