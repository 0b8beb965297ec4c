"""Request bodies: read under a cap, judged as JSON before anybody looks inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from ..errors import InvalidInput
from . import json_slice
from .errors import BodyTooLarge, ClientGone, UnsupportedMediaType

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]
"""Names in lower case; of a header that comes twice, the last."""

BODY_MAX: Final = 1024 * 1024
"""Bytes that any route but the two of ingest takes."""

FORM_MAX: Final = 64 * 1024
"""Bytes of a form, at the token endpoint and its sibling."""

_MOST_OF_A_KEY: Final = 256
_NDJSON: Final = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines"})
"""No registered type; these are what clients send."""

ENVELOPE_MAX: Final = 64 * 1024
"""Bytes that a message may add around its payload."""


async def read(receive: Receive, headers: Headers, limit: int) -> bytes:
    """The whole body, or `BodyTooLarge` as soon as that is known: by the declared length before a byte is read."""
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    return await _read_on(receive, message, limit)


async def _read_on(receive: Receive, message: MutableMapping[str, Any], limit: int) -> bytes:
    chunks = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks += message.get("body", b"")
        if len(chunks) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(chunks)
        message = await receive()


def idempotency_key(headers: Headers) -> str | None:
    """The `Idempotency-Key` header: 1 to 256 printable ASCII characters."""
    given = headers.get(b"idempotency-key")
    if given is None:
        return None
    text = given.decode("latin-1")
    if not (0 < len(text) <= _MOST_OF_A_KEY and text.isascii() and text.isprintable()):
        raise InvalidInput(
            f"the Idempotency-Key is not 1 to {_MOST_OF_A_KEY} printable ASCII characters", fix="Send an id of plain letters and digits."
        )
    return text


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes")


def is_ndjson(headers: Headers) -> bool:
    """Whether a body says that it is JSON texts, one a line."""
    return _kind(headers) in _NDJSON


def _kind(headers: Headers) -> bytes | None:
    given = headers.get(b"content-type")
    return None if given is None else given.partition(b";")[0].strip().lower()


def check_content_type(headers: Headers) -> None:
    """A body must say that it is JSON, or say nothing."""
    kind = _kind(headers)
    if kind is None:
        return
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise UnsupportedMediaType(f"the content type {kind[:80].decode('latin-1')!r} is not application/json")


def check_json(body: bytes) -> None:
    """Whether a body may be handed on: strict JSON, and no member of its object twice."""
    value = json_slice.parse(body)
    if isinstance(value, dict):
        json_slice.object_members(body.decode())


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then whatever the connection says."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def send_all(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """One whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
