"""Where a request must not go, in every spelling that has led one there: data of the tests, apart from the table it tests.

`ROWS` are hosts of a URL, each with the address that somebody who writes it is after. `URLS` are whole URLs that read
differently to different readers, all after 127.0.0.1 at `{port}`. The addresses are the ends of each block of IANA's
special-purpose registries for IPv4 and IPv6, of multicast and reserved space, and what clouds, container networks and
routers keep inside; the spellings are those of inet_aton(3), of IDNA's compatibility mappings, and of every way to
carry an IPv4 address in an IPv6 address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple


class Row(NamedTuple):
    """A URL's host as it is written, and the address that it is after."""

    host: str
    address: str


V4 = [
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.0", "10.0.0.1", "10.96.0.1", "10.255.255.255", "34.118.224.0", "34.118.224.1", "34.118.239.255",
    "100.64.0.0", "100.64.0.1", "100.100.100.100", "100.100.100.200", "100.127.255.255", "127.0.0.0", "127.0.0.1", "127.0.0.53", "127.0.1.1",
    "127.127.127.127", "127.255.255.254", "127.255.255.255", "168.63.129.16", "169.254.0.0", "169.254.0.23", "169.254.42.42", "169.254.169.123",
    "169.254.169.253", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.255.255", "172.16.0.0", "172.17.0.1", "172.20.0.1",
    "172.31.255.255", "192.0.0.0", "192.0.0.7", "192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.171", "192.0.0.192", "192.0.0.255",
    "192.0.2.0", "192.0.2.1", "192.0.2.255", "192.31.196.0", "192.31.196.255", "192.52.193.0", "192.52.193.255", "192.88.99.0", "192.88.99.1",
    "192.88.99.2", "192.88.99.255", "192.168.0.0", "192.168.0.1", "192.168.65.2", "192.168.255.255", "192.175.48.0", "192.175.48.6", "192.175.48.255",
    "198.18.0.0", "198.18.0.1", "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0", "224.0.0.1",
    "224.0.0.251", "232.0.0.1", "233.252.0.0", "239.255.255.250", "239.255.255.255", "240.0.0.0", "240.0.0.1", "255.255.255.254", "255.255.255.255",
]  # fmt: skip

V6 = [
    "::", "::1", "::2", "::ffff", "::ffff:ffff", "::ffff:0:0", "::ffff:255.255.255.255", "::ffff:8.8.8.8", "::8.8.8.8", "::ffff:0:0:0",
    "::ffff:0:8.8.8.8", "::ffff:0:255.255.255.255", "1::", "64:ff9b::", "64:ff9b::8.8.8.8", "64:ff9b::ffff:ffff", "64:ff9b:0:0:1::", "64:ff9b:1::",
    "64:ff9b:1::8.8.8.8", "64:ff9b:1:fffe::8.8.8.8", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::", "100::", "100::1", "100::ffff:ffff:ffff:ffff",
    "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", "100:0:0:2::", "200::", "400::", "800::", "1000::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001::", "2001::1", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "2001:1::1", "2001:1::2", "2001:1::3", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff",
    "2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", "2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff", "2001:5::1", "2001:10::",
    "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:808:808::1", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2620:4f:8000::", "2620:4f:8000::6", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "5f00::", "5f00::1", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6000::",
    "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::", "a000::", "c000::", "e000::", "f000::", "f800::", "fc00::", "fc00::1", "fd00::1", "fd00:42::42",
    "fd00:ec2::23", "fd00:ec2::253", "fd00:ec2::254", "fd20:ce::254", "fd7a:115c:a1e0::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", "fe80::",
    "fe80::1", "fe80::a9fe:a9fe", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::", "fec0::1", "fec0:0:0:ffff::1",
    "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::", "ff01::1", "ff02::1", "ff02::2", "ff02::fb", "ff05::2", "ff0e::1", "ff3e::8000:1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]  # fmt: skip

AFTER = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "0.0.0.0", "34.118.224.1"]
"""The addresses that are written in every way."""

WRITTEN_BY_HAND = [
    Row("127.1", "127.0.0.1"), Row("127.0.1", "127.0.0.1"), Row("0", "0.0.0.0"), Row("00", "0.0.0.0"), Row("0x0", "0.0.0.0"), Row("0.0", "0.0.0.0"),
    Row("0x", "0.0.0.0"), Row("1", "0.0.0.1"), Row("127.000.000.001", "127.0.0.1"), Row("0000000000000000177.0.0.1", "127.0.0.1"), Row("0x00000000000007f.1", "127.0.0.1"),
    Row("127.0.0.01", "127.0.0.1"), Row("127.0.0.0x1", "127.0.0.1"), Row("0x7F.1", "127.0.0.1"), Row("４２９４９６７２９５", "255.255.255.255"), Row("4294967296", "0.0.0.0"),
    Row("2130706433.", "127.0.0.1"), Row("127.0.0.1..", "127.0.0.1"), Row("127.0.0.257", "127.0.0.1"), Row("383.0.0.1", "127.0.0.1"), Row("6425673729", "127.0.0.1"),
    Row("²130706433", "127.0.0.1"), Row("⒈", "0.0.0.1"), Row("⑩.0.0.1", "10.0.0.1"), Row("٠", "0.0.0.0"), Row("१२७.०.०.१", "127.0.0.1"),
    Row("127.0.0.1\u200b", "127.0.0.1"), Row("127\u00ad.0.0.1", "127.0.0.1"), Row("127\u200d.0.0.1", "127.0.0.1"), Row("127.0.0.1\u3000", "127.0.0.1"),
    Row("[0:0:0:0:0:0:0:1]", "::1"), Row("[0000:0000:0000:0000:0000:0000:0000:0001]", "::1"), Row("[::0001]", "::1"), Row("[0::1]", "::1"), Row("[::0.0.0.1]", "::1"),
    Row("[0:0:0:0:0:0:0:0]", "::"), Row("[::0.0.0.0]", "::"), Row("[::FFFF:127.0.0.1]", "::ffff:127.0.0.1"), Row("[0:0:0:0:0:ffff:7f00:1]", "::ffff:127.0.0.1"),
    Row("[::ffff:0x7f.0.0.1]", "::ffff:127.0.0.1"), Row("[::ffff:127.1]", "::ffff:127.0.0.1"), Row("[::1].", "::1"), Row("[::1%lo]", "::1"), Row("[::1%25lo]", "::1"), Row("[::1%251]", "::1"),
    Row("[fe80::1%25eth0]", "fe80::1"), Row("[fe80::1%eth0]", "fe80::1"), Row("[fe80::1％lo]", "fe80::1"), Row("[v1.127.0.0.1]", "127.0.0.1"), Row("[127.0.0.1]", "127.0.0.1"),
    Row("[FD00:EC2::254]", "fd00:ec2::254"), Row("[fd00:0ec2:0:0:0:0:0:254]", "fd00:ec2::254"), Row("[FE80:0:0:0:0:0:A9FE:A9FE]", "fe80::a9fe:a9fe"),
    Row("127.0.0.%31", "127.0.0.1"), Row("%31%32%37.0.0.1", "127.0.0.1"), Row("127%2e0%2e0%2e1", "127.0.0.1"), Row("127.0.0.1%00", "127.0.0.1"), Row("127.0.0.1%0a", "127.0.0.1"),
    Row("127.0.0.1%20", "127.0.0.1"), Row("127.0.0.1%2f", "127.0.0.1"), Row("%6c%6f%63%61%6c%68%6f%73%74", "127.0.0.1"), Row("12\t7.0.0.1", "127.0.0.1"), Row("127.0.0.1\n", "127.0.0.1"),
    Row("127.0.0.1\r", "127.0.0.1"), Row("127.0.0.1 ", "127.0.0.1"), Row(" 127.0.0.1", "127.0.0.1"), Row("127.0.0.1\x00", "127.0.0.1"), Row("127.0.0.1\x7f", "127.0.0.1"),
    Row("127.0.0.1\x85", "127.0.0.1"), Row("127.0.0.1\u2028", "127.0.0.1"), Row("127.0.0.1,example.org", "127.0.0.1"), Row("127.0.0.1;example.org", "127.0.0.1"),
    Row("user@127.0.0.1", "127.0.0.1"), Row("user:word@127.0.0.1", "127.0.0.1"), Row("@127.0.0.1", "127.0.0.1"), Row(":@127.0.0.1", "127.0.0.1"), Row("example.org@127.0.0.1", "127.0.0.1"),
    Row("example.org:80@127.0.0.1", "127.0.0.1"), Row("a@b@127.0.0.1", "127.0.0.1"), Row("example.org%40127.0.0.1", "127.0.0.1"), Row("example.org＠127.0.0.1", "127.0.0.1"),
    Row("example.org\\@127.0.0.1", "127.0.0.1"), Row("127.0.0.1\\@example.org", "127.0.0.1"), Row("127.0.0.1\\", "127.0.0.1"), Row("127.0.0.1%5c@example.org", "127.0.0.1"),
    Row("127.0.0.1／example.org", "127.0.0.1"), Row("127.0.0.1？example.org", "127.0.0.1"), Row("127.0.0.1＃example.org", "127.0.0.1"), Row("127.0.0.1：80", "127.0.0.1"),
    Row("localhost", "127.0.0.1"), Row("LOCALHOST", "127.0.0.1"), Row("localhost.", "127.0.0.1"), Row("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "127.0.0.1"), Row("ｌｏｃａｌｈｏｓｔ", "::1"), Row("𝓵𝓸𝓬𝓪𝓵𝓱𝓸𝓼𝓽", "127.0.0.1"),
    Row("localhost﹒", "127.0.0.1"), Row("locaℓhost", "127.0.0.1"), Row("localhoſt", "127.0.0.1"), Row("localhost.localdomain", "127.0.0.1"), Row("ip6-localhost", "::1"), Row("ip6-loopback", "::1"),
    Row("host.docker.internal", "192.168.65.2"), Row("metadata.google.internal", "169.254.169.254"), Row("metadata", "169.254.169.254"), Row("instance-data.ec2.internal", "169.254.169.254"),
    Row("kubernetes.default.svc", "10.96.0.1"), Row("kubernetes.default.svc.cluster.local", "34.118.224.1"), Row("vault.service.consul", "10.0.0.1"), Row("127.0.0.1.name.test", "127.0.0.1"),
    Row("7f000001.name.test", "127.0.0.1"), Row("127-0-0-1.name.test", "127.0.0.1"), Row("xn--bcher-kva.test", "127.0.0.1"), Row("bücher.test", "127.0.0.1"), Row("_inside.name.test", "fd00:ec2::254"),
]  # fmt: skip

URLS = [
    "http:127.0.0.1:{port}/", "http:/127.0.0.1:{port}/", "http:///127.0.0.1:{port}/", "http:////127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}\\", "http:/\\127.0.0.1:{port}/", "http:\\/127.0.0.1:{port}/",
    "//127.0.0.1:{port}/", "///127.0.0.1:{port}/", "\\\\127.0.0.1:{port}\\x", "127.0.0.1:{port}", "://127.0.0.1:{port}/", "ht\ttp://127.0.0.1:{port}/", "\x01http://127.0.0.1:{port}/", " http://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/_GET%20/", "ws://127.0.0.1:{port}/", "dict://127.0.0.1:{port}/", "tcp://127.0.0.1:{port}/", "http+unix://%2fvar%2frun%2fdocker.sock/", "file:///etc/passwd",
    "file://127.0.0.1:{port}/", "jar:http://127.0.0.1:{port}/!/", "url:http://127.0.0.1:{port}/", "view-source:http://127.0.0.1:{port}/", "data:text/html,http://127.0.0.1:{port}/", "httpS:127.0.0.1:{port}",
    "http://127.0.0.1:{port}#@example.org/", "http://127.0.0.1:{port}?@example.org/", "http://127.0.0.1:{port}/@example.org/", "http://127.0.0.1:{port}\\.example.org/", "http://127.0.0.1:{port}\\@example.org/",
    "http://example.org#@127.0.0.1:{port}/", "http://example.org?@127.0.0.1:{port}/", "http://example.org/@127.0.0.1:{port}/", "http://example.org:80@127.0.0.1:{port}/", "http://example.org:80#@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}:80/", "http://127.0.0.1:80:{port}/", "http://127.0.0.1:+{port}/", "http://127.0.0.1:0{port}/", "http://127.0.0.1:０{port}/", "http://127.0.0.1:{port}%20/", "http://127.0.0.1: {port}/",
    "http://[::1]:{port}@example.org/", "http://[::1]127.0.0.1:{port}/", "http://127.0.0.1[::1]:{port}/", "http://[::1]]:{port}/", "http://[[::1]]:{port}/", "http://[::1:{port}/", "http://::1:{port}/",
    "http://example.org\r\nHost: 127.0.0.1:{port}\r\n\r\n/", "http://example.org/\r\nLocation: http://127.0.0.1:{port}/", "http://0x7f.1:{port}/", "HTTP://127.0.0.1:{port}", "hTTp://LOCALHOST:{port}",
]  # fmt: skip


def rows() -> list[Row]:
    """All of them; no host twice."""
    plain = [Row(address, address) for address in V4] + [Row(f"[{address}]", address) for address in V6]
    written = [row for address in AFTER for row in (*_numbers(address), *_letters(address), *_carriers(address))]
    return list({row.host: row for row in (*written, *WRITTEN_BY_HAND, *plain)}.values())


def _numbers(text: str) -> list[Row]:
    """As inet_aton(3) reads them: one to four numbers, each decimal, octal or hexadecimal."""
    number = int(IPv4Address(text))
    a, b, c, d = IPv4Address(text).packed
    hosts = [
        str(number), f"0{number:o}", f"000{number:o}", f"{number:#x}", f"0X{number:X}", f"{number:#012x}", f"{number}.", f"{number:#x}.",
        f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}", f"{a:#x}.{number & 0xFFFFFF:#x}", f"0{a:o}.{b}.{number & 0xFFFF:#x}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:#04x}.{b:#04x}.{c:#04x}.{d:#04x}", f"{a:#x}.{b}.0{c:o}.{d}", f"{a}.{b}.{c}.{d:#x}",
        f"000{a:o}.000{b:o}.000{c:o}.000{d:o}", f"{text}.", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}.", f"{a}.{b}.{c}.0{d:o}",
    ]  # fmt: skip
    return [Row(host, text) for host in hosts]


def _letters(text: str) -> list[Row]:
    """As IDNA's compatibility mapping (UTS 46) turns them into digits and full stops."""
    digits = {
        "full-width": "０１２３４５６７８９", "circled": "⓪①②③④⑤⑥⑦⑧⑨", "bold": "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "typewriter": "𝟶𝟷𝟸𝟹𝟺𝟻𝟼𝟽𝟾𝟿", "raised": "⁰¹²³⁴⁵⁶⁷⁸⁹", "lowered": "₀₁₂₃₄₅₆₇₈₉",
    }  # fmt: skip
    hosts = [text.translate(str.maketrans("0123456789", each)) for each in digits.values()]
    hosts += [text.replace(".", stop) for stop in "。．｡"]
    hosts += [hosts[0].replace(".", "。"), str(int(IPv4Address(text))).translate(str.maketrans("0123456789", digits["full-width"]))]
    return [Row(host, text) for host in hosts]


def _carriers(text: str) -> list[Row]:
    """As it is carried in an IPv6 address: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP."""
    number = int(IPv4Address(text))
    high, low = number >> 16, number & 0xFFFF
    inverted = ~number & 0xFFFFFFFF
    addresses = [
        f"::ffff:{text}", f"::{text}", f"::ffff:0:{text}", f"64:ff9b::{text}", f"64:ff9b:1::{text}", f"64:ff9b:1:fffe::{text}",
        f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::", f"64:ff9b:1:{number >> 24:x}:{number >> 8 & 0xFFFF:x}:{(number & 0xFF) << 8:x}::",
        f"64:ff9b:1:0:{number >> 24:x}:{number >> 8 & 0xFFFF:x}:{(number & 0xFF) << 8:x}:0", f"2002:{high:x}:{low:x}::", f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::", f"2001:0:808:808::{inverted >> 16:x}:{inverted & 0xFFFF:x}", f"fe80::5efe:{text}", f"2a00:1450::5efe:{text}", f"2a00:1450::200:5efe:{text}",
    ]  # fmt: skip
    whole = [ip_address(address) for address in addresses]
    hosts = [*addresses, *[each.exploded for each in whole], f"::FFFF:{high:X}:{low:X}"]
    return [Row(f"[{host}]", str(IPv6Address(host))) for host in hosts]
