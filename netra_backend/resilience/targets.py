"""Where does this URL lead? Pure: text in, host and port out, or the reason why it cannot be used.

Refused here is what two readers could read differently: user names, percent signs and backslashes before the path,
white space and control characters anywhere, ports with a sign or other digits than ASCII's (`int` takes `+80`, `8_0`
and full-width ones), numbers that only C's `inet_aton` takes for an address. Safety does not
rest on this page: whatever passes is judged by the address it leads to (`pinning.py`). An error never repeats the URL,
which may hold a secret.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from yarl import URL

from .egress_error import EgressError

MAX_URL_CHARS: Final = 8192
"""As it is given and as it is sent: an emoji is one character of a text and twelve of a request."""
KEPT: Final = 1024
"""URLs whose reading is kept. Tenants choose them, so their number times their size is memory that tenants can take."""

_URL = re.compile(
    r"https?://(?P<host>\[[0-9a-f:.]+\]|[^/?#\\@%:\[\]\x00-\x20\x7f]+)(?::[0-9]{0,5})?(?:[/?#][^\x00-\x20\x7f]*)?\Z",
    re.IGNORECASE | re.ASCII,
)
_NAME = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?\Z")
_ENDS_IN_NUMBER = re.compile(r"(?:\A|\.)(?:[0-9]+|0x[0-9a-f]*)\.?\Z")


class Target(NamedTuple):
    """A URL that can be asked. `address` is set where the host is an address and not a name; `odd` where it is oddly spelt."""

    url: URL
    host: str
    port: int
    address: str | None
    odd: bool


@lru_cache(maxsize=KEPT)
def target_of(text: str) -> Target:
    """Read a URL; `EgressError` of kind `bad_url` where it is not one that we ask. The result is cached, so it is pure."""
    match = _URL.match(text) if len(text) <= MAX_URL_CHARS else None
    if match is None:
        raise EgressError("bad_url", "this is not an http or https URL that Netra asks")
    try:
        url = URL(text).with_fragment(None)
        host, port = url.raw_host, url.port
    except ValueError as cause:
        raise EgressError("bad_url", f"the URL cannot be read: {cause}") from cause
    if not host or not port:
        raise EgressError("bad_url", "the URL has no host or no port")
    if len(str(url)) > MAX_URL_CHARS:
        raise EgressError("bad_url", f"the URL has more than {MAX_URL_CHARS} characters when it is written in ASCII")
    if match["host"].startswith("["):
        return Target(url, host, port, _literal(host), odd=False)
    return _of_name_or_ipv4(url, host, port)


def _of_name_or_ipv4(url: URL, host: str, port: int) -> Target:
    """The last label of a name is never a number (WHATWG URL, "ends in a number checker"), so one is an address or a trick."""
    if not _NAME.match(host):
        raise EgressError("bad_url", f"{host[:80]!r} cannot be a host name")
    if not _ENDS_IN_NUMBER.search(host):
        return Target(url, host, port, None, odd=False)
    try:
        return Target(url, host, port, str(ip_address(host)), odd=False)
    except ValueError:
        return Target(url, host, port, _as_libc_reads(host), odd=True)


def _literal(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError as cause:
        raise EgressError("bad_url", f"the URL cannot be read: {cause}") from cause


def _as_libc_reads(host: str) -> str:
    """127.1, 0177.0.0.1, 0x7f.1 and 2130706433 are 127.0.0.1 to the C library; judged as that before they are refused."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except OSError as cause:
        raise EgressError("bad_url", f"{host!r} is neither a name nor an address") from cause
