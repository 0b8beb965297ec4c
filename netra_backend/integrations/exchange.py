"""An HTTP exchange as a debug session sees it: what an ASGI application received and sent, up to 16 KiB of each body.

It stands between the application and its server, passes every message on as it is, and records once, when the work is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..kernel import debugging
from ..kernel.debugging import BODY_KEPT, Watch

Message = MutableMapping[str, Any]


class Exchange:
    """See the module's docstring. `receive` and `send` take the place of the server's."""

    def __init__(
        self, watch: Watch, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        self._watch = watch
        self._scope = scope
        self._receive = receive
        self._send = send
        self._asked = bytearray()
        self._told = bytearray()
        self._answer: dict[str, Any] = {"status": 0}

    async def receive(self) -> Any:
        """The server's next message."""
        message = await self._receive()
        _grow(self._asked, message.get("body", b""))
        return message

    async def send(self, message: Any) -> None:
        """The application's next message."""
        if message["type"] == "http.response.start":
            self._answer.update(status=message["status"], headers=message.get("headers", ()))
        _grow(self._told, message.get("body", b""))
        await self._send(message)

    def refused(self, status: int, code: str) -> None:
        """Somebody above answers with this error."""
        self._answer.update(status=status, error=code)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Around the application's work."""
        path = self._scope.get("path", "")
        query = self._scope.get("query_string", b"").decode("latin-1")
        headers = self._scope["headers"]
        try:
            yield
        except Exception as error:
            self._answer.setdefault("error", type(error).__name__)
            raise
        finally:
            request = (self._scope["method"], f"{path}?{query}" if query else path, headers, bytes(self._asked))
            debugging.http(self._watch, "in", request, {**self._answer, "body": bytes(self._told)})


def facts_of(method: str, segments: Sequence[str]) -> dict[str, str | tuple[str, ...]]:
    """What a request says of itself that a session may select by: its route, and the endpoint that its path names."""
    path = "/" + "/".join(segments)
    facts: dict[str, str | tuple[str, ...]] = {"route": (f"{method} {path}", path)}
    if "endpoint" in segments[:-1]:
        facts["endpoint"] = segments[segments.index("endpoint") + 1]
    return facts


def _grow(body: bytearray, more: bytes) -> None:
    room = BODY_KEPT + 1 - len(body)
    if room > 0:
        body += more[:room]
