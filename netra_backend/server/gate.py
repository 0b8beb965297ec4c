"""The front of the server, plain ASGI: trace, path, key, body, in that order; then the route; then the errors.

Everything that must hold for every route is here and nowhere else, so that a new route cannot forget it. A request is
refused at the first of these that fails, and no byte of a body is read for a client that was not let in.

The two ingest routes are answered from here without the web framework, which costs five times what they do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from ..errors import NetraError
from ..kernel.scope import TraceContext
from . import body as bodies
from . import errors, ingest
from .access import ACCESS, Access, admit, segments_of
from .body import Headers, Receive, Send
from .edge import Edge

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HAS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class Gate:
    """The ASGI application. `routes` answers whatever is not ingest."""

    def __init__(self, edge: Edge, routes: App) -> None:
        self.edge = edge
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one answer, whatever happens."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        answer = _Answer(send)
        headers = dict(scope["headers"])
        trace = self._trace(headers)
        try:
            await self._handle(scope, headers, receive, answer.send, trace)
        except errors.ClientGone:
            return
        except NetraError as error:
            await self._refuse(error, scope, answer, trace)
        except Exception as error:  # noqa: BLE001  (the one place where the unexpected becomes an answer)
            await self._refuse(error, scope, answer, trace)

    async def _handle(self, scope: Scope, headers: Headers, receive: Receive, send: Send, trace: TraceContext) -> None:
        segments = segments_of(scope.get("raw_path") or scope["path"].encode())
        if b"%00" in scope["query_string"]:
            raise errors.MalformedPath("the query holds U+0000")
        method = scope["method"]
        access = await admit(self.edge, method, segments, headers, trace)
        if method == "POST" and _is_ingest(segments):
            await ingest.answer(access, segments, headers, scope["query_string"], receive, send)
            return
        await self._route(scope, headers, receive, send, access, segments)

    async def _route(self, scope: Scope, headers: Headers, receive: Receive, send: Send, access: Access, segments: Sequence[str]) -> None:
        body = b""
        if scope["method"] in _HAS_BODY:
            body = await bodies.read(receive, headers, min(bodies.BODY_MAX, self.edge.netra.settings.body_max_bytes))
            if body:
                bodies.check_content_type(headers)
                bodies.check_json(body)
            receive = bodies.replay(body, receive)
        scope["path"] = "/" + "/".join(segments)
        scope[ACCESS] = Access(
            access.edge,
            access.principal,
            access.trace,
            access.found,
            access.reference,
            bodies.idempotency_key(headers) if scope["method"] == "POST" else None,
            body,
            scope["path"],
        )
        await self._routes(scope, receive, send)

    def _trace(self, headers: Headers) -> TraceContext:
        """The caller's position in its trace (W3C Trace Context), or a new root."""
        given = headers.get(b"traceparent")
        found = TraceContext.parse(given.decode("latin-1")) if given is not None else None
        if found is not None:
            return found
        digits = self.edge.netra.runtime.chance.token(24).hex()
        return TraceContext(digits[:32], digits[32:])

    async def _refuse(self, error: Exception, scope: Scope, answer: _Answer, trace: TraceContext) -> None:
        known = error if isinstance(error, NetraError) else errors.InternalError()
        if errors.status_of(known) == 500:
            log = self.edge.netra.runtime.log
            log.error("internal error %s at %s %r", trace.trace_id, scope["method"], scope["path"][:200], exc_info=error)
        if not answer.started:
            await bodies.send_all(answer.send, *errors.render(known, scope["path"], trace.trace_id))


class _Answer:
    """Remembers whether an answer has begun, for after that no other can be given."""

    __slots__ = ("_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.started = True
        await self._send(message)


def _is_ingest(segments: Sequence[str]) -> bool:
    match segments:
        case ("api", "v1", "app", _, "msg") | ("api", "v1", "app", _, "msg", "batch"):
            return True
        case _:
            return False
