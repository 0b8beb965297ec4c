"""The one family of errors of outgoing requests, and the table that turns everything below into it.

No exception of aiohttp, asyncio or the operating system leaves the egress client: a caller decides by `kind` and by
`sent`, and both are stable.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

from ..errors import NetraError
from .addresses import Refusal

EgressKind = Literal["egress_denied", "bad_url", "bad_header", "dns", "dns_timeout", "connect", "tls", "timeout", "reset", "protocol"]

_FIXES: Final[dict[EgressKind, str]] = {
    "bad_url": "Use an absolute http or https URL without user name, whose host is a name or a plainly written address.",
    "bad_header": "Use header names of letters, digits and '-', values without control characters, and leave framing headers to Netra.",
    "dns": "Check the host name of the URL.",
    "dns_timeout": "Check the host name, and that its name server answers.",
    "connect": "Check that the receiver listens at this host and port.",
    "tls": "Check the receiver's certificate: its chain, its names and its dates.",
    "timeout": "Answer before the deadline; do slow work after the answer.",
    "reset": "Check why the receiver closes the connection before it has answered.",
    "protocol": "Check that the receiver speaks HTTP/1.1 and answers with a head of at most 128 fields.",
}
_WHILE: Final = {
    "look-up": "looking up the name",
    "connect": "connecting",
    "answer": "waiting for the answer",
    "body": "reading the answer",
}


class EgressError(NetraError):
    """The outgoing request got no usable answer."""

    code = "egress_failed"
    status = 502

    def __init__(self, kind: EgressKind, detail: str = "", *, sent: bool = False, fix: str = "", **facts: Any) -> None:
        """`sent`: whether any byte of the request could have left this host, so whether the receiver may have acted on it."""
        super().__init__(detail, fix=fix or _FIXES.get(kind, ""), kind=kind, sent=sent, **facts)
        self.kind = kind
        self.sent = sent


class EgressDenied(EgressError):
    """The address or port is not open for outgoing requests."""

    code = "egress_denied"
    status = 403

    def __init__(self, refusal: Refusal, **facts: Any) -> None:
        super().__init__("egress_denied", refusal.reason, fix=refusal.fix, **facts)


def translate(error: Exception, *, phase: str, sent: bool) -> EgressError:
    """The `EgressError` for whatever was raised while the request was in `phase`; an `EgressError` is returned as it is."""
    if isinstance(error, EgressError):
        return error
    kind = _kind(error, phase, sent=sent)
    words = f"the time limit passed while {_WHILE[phase]}" if isinstance(error, TimeoutError) else _words(error)
    return EgressError(kind, words, sent=sent)


def _kind(error: Exception, phase: str, *, sent: bool) -> EgressKind:
    """From the narrow to the wide: aiohttp's classes inherit from each other and from OSError and TimeoutError."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | aiohttp.ClientSSLError():
            return "tls"
        case aiohttp.ClientConnectorError():
            return "connect"
        case asyncio.TimeoutError():
            return "dns_timeout" if phase == "look-up" else "timeout"
        case OSError():
            return "reset" if sent else "connect"
        case aiohttp.InvalidURL():
            return "bad_url"
        case _:
            return "protocol"


def _words(error: Exception) -> str:
    """The error's first line, short: it may quote what the peer sent. Without the URL, which may hold a secret."""
    from aiohttp import ClientConnectorError

    text = str(error.os_error if isinstance(error, ClientConnectorError) else error)
    text = (text or type(error).__name__).splitlines()[0]
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])
