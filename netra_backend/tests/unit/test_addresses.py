"""The range table judges addresses, and only what an operator names opens any of it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netra_backend.errors import CannotStart
from netra_backend.resilience.address_table import DENIED
from netra_backend.resilience.addresses import EgressRules, canonical, denying_row, embedded_ipv4

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
    "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2000::1", "2606:4700::1111", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2a00:1450::1",
]  # fmt: skip

INSIDE = [
    ("34.118.224.1", "services of a GKE cluster"), ("127.0.0.1", "loopback"), ("127.255.255.254", "loopback"), ("0.0.0.0", "this network"), ("10.0.0.1", "private use"),
    ("169.254.169.254", "link-local, where clouds keep their metadata"), ("168.63.129.16", "host agent of Azure"), ("100.100.100.200", "shared by carriers (CGNAT)"),
    ("192.0.0.192", "IETF protocol assignments"), ("192.0.2.1", "documentation"), ("198.19.255.255", "benchmarking"), ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"), ("255.255.255.255", "broadcast"), ("::", "unspecified"), ("::1", "loopback"), ("::ffff:8.8.8.8", "IPv4-mapped"),
    ("::8.8.8.8", "IPv4-compatible"), ("::ffff:0:8.8.8.8", "IPv4-translated"), ("64:ff9b::8.8.8.8", "NAT64"), ("64:ff9b:1::1", "local NAT64"),
    ("100::1", "discard"), ("2001::1", "Teredo"), ("2001:db8::1", "documentation"), ("2002:808:808::1", "6to4"), ("3fff::1", "documentation"),
    ("5f00::1", "segment routing (SRv6)"), ("fd00:ec2::254", "unique local"), ("fe80::1", "link-local"), ("fec0::1", "site-local"), ("ff02::1", "multicast"),
    ("2001:20::1", "ORCHIDv2"), ("2001:4:112::1", "IETF protocol assignments"), ("1::1", "not global unicast"), ("4000::1", "not global unicast"), ("e000::1", "not global unicast"),
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_open_at_80_and_443_and_nowhere_else(address):
    rules = EgressRules()
    assert rules.refusal(address, 80) is None
    assert rules.refusal(address, 443) is None
    assert "NETRA_EGRESS_PORTS" in rules.refusal(address, 8080).fix


@pytest.mark.parametrize(("address", "name"), INSIDE)
def test_an_inside_address_is_denied_by_default_with_its_reason_and_the_setting(address, name):
    refusal = EgressRules().refusal(address, 443)
    assert f"({name};" in refusal.reason
    assert "NETRA_EGRESS_ALLOW" in refusal.fix


@pytest.mark.parametrize("row", DENIED, ids=lambda row: str(row.network))
def test_both_ends_of_every_row_are_denied_and_the_row_names_its_source(row):
    rules = EgressRules()
    for address in (row.network[0], row.network[-1]):
        assert rules.refusal(str(address), 80) is not None
    assert row.name
    assert row.source


def test_every_row_is_reached_by_some_address_and_none_is_shadowed_by_a_wider_one_above():
    for row in DENIED:
        probes = [row.network[0], row.network[-1], row.network[row.network.num_addresses // 2]]
        assert row in [denying_row(probe) for probe in probes], row


def test_all_of_ipv6_outside_2000_3_is_denied():
    outside = list(ip_network("::/0").address_exclude(ip_network("2000::/3")))
    rules = EgressRules()
    for network in outside:
        for address in (network[0], network[-1], network[network.num_addresses // 3]):
            assert rules.refusal(str(address), 443) is not None, address


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::127.0.0.1", "127.0.0.1"),
        ("::ffff:0:127.0.0.1", "127.0.0.1"),
        ("64:ff9b::7f00:1", "127.0.0.1"),
        ("64:ff9b:1:7f00:0:100::", "127.0.0.1"),
        ("64:ff9b:1::10.0.0.1", "10.0.0.1"),
        ("64:ff9b:1:80a:0:1::", "10.0.0.1"),
        ("64:ff9b:1:808:7f:0:100:0", "127.0.0.1"),
        ("2002:7f00:1::", "127.0.0.1"),
        ("2001:0:a00:1::", "10.0.0.1"),
        ("2001:0:808:808::80ff:fffe", "127.0.0.1"),
        ("2606:4700::5efe:10.0.0.1", "10.0.0.1"),
        ("2606:4700::200:5efe:10.0.0.1", "10.0.0.1"),
    ],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_found_and_judged(address, inside):
    assert ip_address(inside) in list(embedded_ipv4(ip_address(address)))
    open_carriers = EgressRules(["::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"])
    assert inside in open_carriers.refusal(address, 443).reason


def test_a_host_behind_nat64_reaches_the_public_internet_once_the_prefix_is_allowed():
    rules = EgressRules(["64:ff9b::/96"])
    assert rules.refusal("64:ff9b::808:808", 443) is None
    assert rules.refusal("64:ff9b::a00:1", 443) is not None
    local = EgressRules(["64:ff9b:1::/48"])
    assert local.refusal("64:ff9b:1::808:808", 443) is None
    assert local.refusal("64:ff9b:1:808:8:800::", 443) is None
    assert local.refusal("64:ff9b:1:7f00:0:100:808:808", 443) is not None


def test_of_a_local_nat64_prefix_only_the_layouts_that_fit_into_what_was_allowed_are_judged():
    exact = EgressRules(["64:ff9b:1:fffe::/96"])  # as a /48 it would carry 255.254.0.0
    assert exact.refusal("64:ff9b:1:fffe::808:808", 443) is None
    assert exact.refusal("64:ff9b:1:fffe::7f00:1", 443) is not None
    assert exact.refusal("64:ff9b:1:ffff::808:808", 443) is not None
    narrow = EgressRules(["64:ff9b:1:808::/64"])
    assert narrow.refusal("64:ff9b:1:808:8:808:800:0", 443) is None
    assert narrow.refusal("64:ff9b:1:808:7f:0:100:0", 443) is not None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "fd00::1"])
def test_an_allowed_cidr_opens_exactly_itself(address):
    exact = f"{address}/{128 if ':' in address else 32}"
    rules = EgressRules([exact])
    assert rules.refusal(address, 443) is None
    assert rules.refusal(str(ip_address(address) + 1), 443) is not None
    assert rules.refusal(address, 8080) is not None


def test_any_loopback_port_opens_loopback_at_every_port_and_no_other_address():
    rules = EgressRules(any_loopback_port=True)
    for address in ("127.0.0.1", "127.9.9.9", "::1"):
        assert rules.refusal(address, 4711) is None
    assert rules.refusal("10.0.0.1", 80) is not None
    assert rules.refusal("8.8.8.8", 4711) is not None
    assert rules.refusal("::ffff:127.0.0.1", 4711) is not None
    assert rules.refuses_port_everywhere(4711) is None
    assert EgressRules().refuses_port_everywhere(4711) is not None


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "10.0.0.0/33", "inside", "", "::/129"])
def test_a_wrong_allow_list_does_not_start(cidr):
    with pytest.raises(CannotStart) as caught:
        EgressRules([cidr])
    assert caught.value.fix


def test_the_ports_that_an_operator_names_replace_80_and_443():
    rules = EgressRules(ports=[443, 8443])
    assert rules.refusal("8.8.8.8", 443) is None
    assert rules.refusal("8.8.8.8", 8443) is None
    assert rules.refuses_port_everywhere(80) is not None
    assert "443, 8443" in rules.refusal("8.8.8.8", 80).fix
    assert EgressRules(ports=[]).refuses_port_everywhere(443) is not None


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_wrong_port_does_not_start(port):
    with pytest.raises(CannotStart):
        EgressRules(ports=[port])


def test_one_address_has_one_spelling():
    assert canonical("0:0:0:0:0:FFFF:7F00:1") == canonical("::ffff:127.0.0.1")
