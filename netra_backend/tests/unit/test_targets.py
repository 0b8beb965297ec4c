"""What a URL leads to, and which URLs are not asked at all."""

from __future__ import annotations

import pytest

from netra_backend.resilience.egress_error import EgressError
from netra_backend.resilience.targets import target_of

REFUSED = [
    "", "x", "http:", "http://", "http:///path", "//host/", "host/path", "ftp://host/", "file:///etc/passwd", "javascript:alert(1)", "unix:///run/x",
    "http://user@host/", "http://user:secret@host/", "http://:secret@host/", "http://@host/", "http://a@b@host/", "http://host\\@other/", "http://host%2eexample/",
    "http://127.0.0.%31/", "http://[fe80::1%25eth0]/", "http://[v1.host]/", "http://[::1/", "http://host:99999/", "http://host:0/", "http://host:x/",
    "http://ho st/", " http://host/", "http://host/ ", "http://host/\r\nX: y", "http://host\t/", "http://ho\x00st/", "http://a..b/", "http://*/", "http://a,b/",
    "http://host:８０/", "http://host:+80/", "http://host:8_0/", "http://host:080000/", "http://host:80:80/", "http://[::1]:8_0/", "http://[::1]x/", "http://[::ffff:１.0.0.1]/",
    "http://host/" + "😀" * 700, "http://1.2.3.4.5/", "http://999.999.999.999/", "http://host.1/", "http://0x/", "http://" + "a" * 64 + "/", "http://" + "a." * 127 + "ab/", "http://host/" + "x" * 8192,
]  # fmt: skip

LOOPBACK = {
    "127.0.0.1": False, "127.1": True, "127.0.1": True, "0177.0.0.1": True, "0177.1": True, "0x7f.0.0.1": True, "0x7f.1": True, "0x7f000001": True, "2130706433": True,
    "017700000001": True, "127.0.0.1.": True, "１２７.０.０.１": False, "①②⑦.⓪.⓪.①": False, "127。0。0。1": False, "１２７。１": True, "127.00.0.01": True,
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:40]))
def test_a_url_that_two_readers_could_read_differently_is_refused_without_being_repeated(text):
    with pytest.raises(EgressError) as caught:
        target_of(text)
    assert caught.value.kind == "bad_url"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("host", "odd"), LOOPBACK.items())
def test_every_spelling_of_an_address_is_that_address(host, odd):
    target = target_of(f"http://{host}:8080/x")
    assert target.address == "127.0.0.1"
    assert target.odd is odd


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        ("[::FFFF:7F00:1]", "::ffff:7f00:1"),
        ("[::]", "::"),
    ],
)
def test_an_ipv6_literal_is_that_address(host, address):
    assert target_of(f"http://{host}/").address == address


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("https://Hooks.Example/a%2Fb?c=d%20e", "hooks.example", 443, "/a%2Fb?c=d%20e"),
        ("HTTP://hooks.example", "hooks.example", 80, "/"),
        ("http://hooks.example:8080?q", "hooks.example", 8080, "/?q"),
        ("http://löcal.example/#part", "xn--lcal-5qa.example", 80, "/"),
        ("http://my_host/@x:y", "my_host", 80, "/@x:y"),
        ("http://localhost./", "localhost.", 80, "/"),
    ],
)
def test_an_ordinary_url_is_taken_as_it_is(text, host, port, path):
    target = target_of(text)
    assert (target.host, target.port, target.address, target.odd) == (host, port, None, False)
    assert target.url.raw_path_qs == path
