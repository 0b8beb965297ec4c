"""What a receiver does with a request it has read, by name: the same names on the command line and in tests.

ok  204  503  410  ...      that status at once
503-then-ok:N               that status for the first N requests, then 200
retry-after:S               503 with a Retry-After of S seconds
header:STATUS:NAME=VALUE    that status with that header field
redirect:URL                302 to URL
slow:S                      200 after S seconds
hang                        nothing, and the connection stays open
slow-headers                a head that gains one field every 100 ms and never ends
headers-flood               a head of 100,000 fields
drip                        200, then one byte of a long body each second
endless                     200, then a body without end, as fast as it is read
chunk-storm                 200, then chunks of one byte without end
continue-storm              100 Continue without end
extension-storm             200, then one chunk whose extension never ends
garbage                     bytes that are not HTTP
switch                      101, which nobody asked for
truncate                    200 with half of the announced body, then the end of the connection
close                       the connection ends without an answer
reset                       the same by RST
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import repeat
from typing import Final, NamedTuple, Protocol


class Wire(Protocol):
    """What a behaviour may do to its connection."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def stream(self, pieces: Iterator[bytes], every_s: float = 0.0) -> None:
        """Send pieces as fast as they are read, or one every `every_s` seconds, until they or the connection end."""
        ...

    def later(self, delay_s: float, data: bytes) -> None:
        """Send bytes after a while."""
        ...

    def end(self, *, reset: bool = False) -> None:
        """Close, after what was sent, or at once with RST."""
        ...


class Plan(NamedTuple):
    """The status that is going to be answered (None: no answer), and the doing."""

    status: int | None
    act: Callable[[Wire], None]


Behaviour = Callable[[int], Plan]
"""From the number of requests seen before this one to what is done with it."""

_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}
_HEADER: Final = re.compile(r"([2-5][0-9][0-9]):([a-z-]+)=([ -~]*)\Z")
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_PIECE: Final = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
_STORM: Final = b"1\r\nx\r\n" * 4096


def answer(status: int, fields: str = "") -> Plan:
    """A short answer; bodies are left out where HTTP has none (RFC 9110, section 6.4.1)."""
    phrase = _PHRASES.get(status, "Status")
    body = b"" if status in {204, 304} else b'{"ok":true}' if status < 300 else b'{"ok":false}'
    length = "" if status in {204, 304} else f"content-length: {len(body)}\r\n"
    wire = f"HTTP/1.1 {status} {phrase}\r\n{length}{fields}\r\n".encode() + body
    return Plan(status, lambda to: to.write(wire))


def _drip(wire: Wire) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    wire.stream(repeat(b"x", 100_000), every_s=1.0)


def _slow_headers(wire: Wire) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\n")
    wire.stream(repeat(b"x-slow: 1\r\n"), every_s=0.1)


def _truncate(wire: Wire) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 500)
    wire.end()


def _streaming(first: bytes, piece: bytes) -> Plan:
    def act(wire: Wire) -> None:
        wire.write(first)
        wire.stream(repeat(piece))

    return Plan(200, act)


_NAMED: Final[dict[str, Plan]] = {
    "ok": answer(200),
    "hang": Plan(None, lambda _: None),
    "slow-headers": Plan(200, _slow_headers),
    "headers-flood": Plan(200, lambda to: to.write(b"HTTP/1.1 200 OK\r\n" + b"x-flood: 1\r\n" * 100_000 + b"content-length: 0\r\n\r\n")),
    "drip": Plan(200, _drip),
    "endless": _streaming(_CHUNKED, _PIECE),
    "chunk-storm": _streaming(_CHUNKED, _STORM),
    "extension-storm": _streaming(_CHUNKED + b"1;", b"x" * 65536),
    "continue-storm": _streaming(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2048),
    "garbage": Plan(None, lambda to: to.write(b"\x00\xff this is no HTTP \r\n\r\n" * 8)),
    "switch": Plan(101, lambda to: to.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")),
    "truncate": Plan(200, _truncate),
    "close": Plan(None, lambda to: to.end()),
    "reset": Plan(None, lambda to: to.end(reset=True)),
}


def behaviour(spec: str) -> Behaviour:
    """The behaviour of this name; ValueError where there is none."""
    name, _, argument = spec.partition(":")
    if spec in _NAMED:
        return _always(_NAMED[spec])
    if spec.isdigit() and 100 <= int(spec) <= 599:
        return _always(answer(int(spec)))
    if name.endswith("-then-ok") and argument.isdigit():
        failing, number = behaviour(name.removesuffix("-then-ok")), int(argument)
        return lambda seen: failing(seen) if seen < number else _NAMED["ok"]
    if name == "retry-after" and argument.isdigit():
        return _always(answer(503, f"retry-after: {argument}\r\n"))
    if name == "header" and (match := _HEADER.match(argument)):
        status, field, value = match.groups()
        return _always(answer(int(status), f"{field}: {value}\r\n"))
    if name == "redirect" and argument.isprintable() and argument:
        return _always(answer(302, f"location: {argument}\r\n"))
    if name == "slow":
        delay_s = float(argument)
        late = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        return _always(Plan(200, lambda to: to.later(delay_s, late)))
    known = ", ".join([*_NAMED, "a status", "STATUS-then-ok:N", "retry-after:S", "header:STATUS:NAME=VALUE", "redirect:URL", "slow:S"])
    raise ValueError(f"no behaviour is called {spec!r}; known are {known}")


def _always(plan: Plan) -> Behaviour:
    return lambda _: plan
