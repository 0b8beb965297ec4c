"""The address ranges that no outgoing request may reach unless the operator names them: data, and nothing else.

The list is our own because the interpreter's `ipaddress.is_global` follows another question ("is it announced?") and
says yes to ranges that lead back inside: NAT64, 6to4, a cloud's host agents. For IPv6 the rule is the reverse, only
2000::/3 is given out for the global internet (RFC 4291, section 2.4), so everything outside it is denied and the rows
there merely name what was met. Each row carries the document that takes it out of the public internet.

Sources: every row of IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890; iana-ipv4-special-registry and
iana-ipv6-special-registry), also those that the registry calls globally reachable, because none of them is a host that
somebody could run a receiver on; IANA's multicast and reserved space; and public addresses that clouds route inside.
A row of the registry within a wider one here (192.0.0.8/32, 2001:1::1/128) has no row of its own.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple


class Row(NamedTuple):
    """One denied range, what it is for, and who says so."""

    network: IPv4Network | IPv6Network
    name: str
    source: str


def _rows(*rows: tuple[str, str, str]) -> tuple[Row, ...]:
    return tuple(Row(ip_network(network), name, source) for network, name, source in rows)


DENIED: Final = _rows(
    # IPv4, in the order of IANA's registry; the two that are marked so are a cloud's own use of its public space
    ("0.0.0.0/8", "this network", "RFC 1122, section 3.2.1.3"),
    ("10.0.0.0/8", "private use", "RFC 1918"),
    ("34.118.224.0/20", "services of a GKE cluster", "Google Kubernetes Engine documentation, VPC-native clusters"),  # a cloud's own
    ("100.64.0.0/10", "shared by carriers (CGNAT)", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122, section 3.2.1.3"),
    ("168.63.129.16/32", "host agent of Azure", "Azure virtual network documentation"),  # a cloud's own
    ("169.254.0.0/16", "link-local, where clouds keep their metadata", "RFC 3927"),
    ("172.16.0.0/12", "private use", "RFC 1918"),
    ("192.0.0.0/24", "IETF protocol assignments", "RFC 6890, section 2.1"),
    ("192.0.2.0/24", "documentation", "RFC 5737"),
    ("192.31.196.0/24", "AS112 sink", "RFC 7535"),
    ("192.52.193.0/24", "multicast tunnels (AMT)", "RFC 7450"),
    ("192.88.99.0/24", "6to4 relays", "RFC 7526"),
    ("192.168.0.0/16", "private use", "RFC 1918"),
    ("192.175.48.0/24", "AS112 sink", "RFC 7534"),
    ("198.18.0.0/15", "benchmarking", "RFC 2544"),
    ("198.51.100.0/24", "documentation", "RFC 5737"),
    ("203.0.113.0/24", "documentation", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("255.255.255.255/32", "broadcast", "RFC 919"),
    ("240.0.0.0/4", "reserved", "RFC 1112, section 4"),
    # IPv6 outside 2000::/3: named where a name helps, and one row for all the rest
    ("::/128", "unspecified", "RFC 4291, section 2.5.2"),
    ("::1/128", "loopback", "RFC 4291, section 2.5.3"),
    ("::ffff:0:0/96", "IPv4-mapped", "RFC 4291, section 2.5.5.2"),
    ("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765, section 2.1"),
    ("::/96", "IPv4-compatible", "RFC 4291, section 2.5.5.1"),
    ("64:ff9b::/96", "NAT64", "RFC 6052"),
    ("64:ff9b:1::/48", "local NAT64", "RFC 8215"),
    ("100::/64", "discard", "RFC 6666"),
    ("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    ("5f00::/16", "segment routing (SRv6)", "RFC 9602"),
    ("fc00::/7", "unique local", "RFC 4193"),
    ("fe80::/10", "link-local", "RFC 4291, section 2.5.6"),
    ("fec0::/10", "site-local", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291, section 2.7"),
    ("::/3", "not global unicast", "RFC 4291, section 2.4"),
    ("4000::/2", "not global unicast", "RFC 4291, section 2.4"),
    ("8000::/1", "not global unicast", "RFC 4291, section 2.4"),
    # IPv6 inside 2000::/3
    ("2001::/32", "Teredo", "RFC 4380"),
    ("2001:2::/48", "benchmarking", "RFC 5180"),
    ("2001:10::/28", "ORCHID, returned", "RFC 4843"),
    ("2001:20::/28", "ORCHIDv2", "RFC 7343"),
    ("2001:30::/28", "drone identifiers", "RFC 9374"),
    ("2001::/23", "IETF protocol assignments", "RFC 2928"),
    ("2001:db8::/32", "documentation", "RFC 3849"),
    ("2002::/16", "6to4", "RFC 3056"),
    ("2620:4f:8000::/48", "AS112 sink", "RFC 7534"),
    ("3ffe::/16", "6bone, returned", "RFC 3701"),
    ("3fff::/20", "documentation", "RFC 9637"),
)
"""Read from the top: the first row that holds an address gives the reason, so a narrow row stands above its wider one."""
