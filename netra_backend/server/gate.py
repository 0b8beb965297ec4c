"""The front of the server, plain ASGI: trace, path, key, body, in that order; then the route; then the errors.

Everything that must hold for every route is here and nowhere else, so that a new route cannot forget it. A request is
refused at the first of these that fails, and no byte of a body is read for a client that was not let in.

The two ingest routes are answered from here without the web framework, which costs five times what they do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..errors import NetraError
from ..integrations.exchange import Exchange, facts_of
from ..kernel.debugging import any_session, watching
from ..kernel.scope import TraceContext
from ..kernel.spans import ERROR, OK, Span
from ..observability.logs import About, about
from . import body as bodies
from . import errors, ingest, sessions
from .access import ACCESS, NOBODY, Access, admit, segments_of
from .body import Headers, Receive, Send
from .edge import Edge
from .page import RAW_HEADERS

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

INGEST: Final = "/api/v1/app/{app_id}/msg"
UNMATCHED: Final = "unmatched"
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
        answer = _Answer(send, page=errors.is_page(scope["path"]))
        headers = dict(scope["headers"])
        parent = self._parent(headers)
        trace = TraceContext(parent.trace_id, self.edge.netra.runtime.chance.token(8).hex(), parent.sampled)
        begun_us = self.edge.netra.runtime.clock.wall_us()
        try:
            await self._respond(scope, headers, receive, answer, trace)
        finally:
            self._count(scope, answer, begun_us)
            if answer.access is not None and _is_told(scope["method"], headers, answer.access, ingest=answer.is_ingest):
                self._tell(scope, answer, answer.access, parent, begun_us)

    async def _respond(self, scope: Scope, headers: Headers, receive: Receive, answer: _Answer, trace: TraceContext) -> None:
        try:
            await self._handle(scope, headers, receive, answer, trace)
        except errors.ClientGone:
            return
        except NetraError as error:
            await self._refuse(error, scope, answer, trace)
        except Exception as error:  # noqa: BLE001  (the one place where the unexpected becomes an answer)
            await self._refuse(error, scope, answer, trace)

    async def _handle(self, scope: Scope, headers: Headers, receive: Receive, answer: _Answer, trace: TraceContext) -> None:
        segments = segments_of(scope.get("raw_path") or scope["path"].encode())
        if b"%00" in scope["query_string"]:
            raise errors.MalformedPath("the query holds U+0000")
        if segments[0] == "ui":
            sessions.check_private(scope, headers, self.edge.netra.settings.trusted_proxies)
        access = answer.access = await admit(self.edge, scope["method"], segments, headers, trace)
        answer.is_ingest = scope["method"] == "POST" and _is_ingest(segments)
        about.set(About(access.found.tenant if access.found is not None else "", trace.trace_id))
        if any_session and access.found is not None:
            await self._watched(scope, headers, receive, answer.send, access, segments)
            return
        await self._answer(scope, headers, receive, answer.send, access, segments)

    async def _watched(self, scope: Scope, headers: Headers, receive: Receive, send: Send, access: Access, segments: Sequence[str]) -> None:
        """A request for a tenant that may be debugged; see `exchange.py`. Nothing of the request can start that."""
        facts = facts_of(scope["method"], segments)
        with watching(self.edge.netra.runtime.debug.watch(access.scope, facts)) as watch:
            if watch is None or not watch.wants("http") or "debug" in segments[4:5]:
                await self._answer(scope, headers, receive, send, access, segments)
                return
            exchange = Exchange(watch, scope, receive, send)
            with exchange.recorded():
                try:
                    await self._answer(scope, headers, exchange.receive, exchange.send, access, segments)
                except NetraError as error:
                    exchange.refused(errors.status_of(error), error.code)
                    raise

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send, access: Access, segments: Sequence[str]) -> None:
        if scope["method"] == "POST" and _is_ingest(segments):
            await ingest.answer(access, segments, headers, scope["query_string"], receive, send)
            return
        await self._route(scope, headers, receive, send, access, segments)

    async def _route(self, scope: Scope, headers: Headers, receive: Receive, send: Send, access: Access, segments: Sequence[str]) -> None:
        body = b""
        if scope["method"] in _HAS_BODY:
            form = _is_form(segments)
            most = bodies.FORM_MAX if form else bodies.BODY_MAX
            body = await bodies.read(receive, headers, min(most, self.edge.netra.settings.body_max_bytes))
            if body and not form:
                bodies.check_content_type(headers)
                bodies.check_json(body)
            receive = bodies.replay(body, receive)
        scope["path"] = "/" + "/".join(segments)
        key = bodies.idempotency_key(headers) if scope["method"] == "POST" else None
        scope[ACCESS] = replace(access, idempotency_key=key, body=body, path=scope["path"])
        await self._routes(scope, receive, send)

    def _count(self, scope: Scope, answer: _Answer, begun_us: int) -> None:
        """Rate, errors and duration by route; and of the tenant, where the request was let in for one."""
        runtime = self.edge.netra.runtime
        route = INGEST if answer.is_ingest else getattr(scope.get("route"), "path", UNMATCHED)
        status = str(answer.status)
        runtime.metrics.count("netra_http_requests_total", method=scope["method"], route=route, status=status)
        seconds = (runtime.clock.wall_us() - begun_us) / 1_000_000
        runtime.metrics.observe("netra_http_request_seconds", max(0.0, seconds), route=route)
        if answer.access is not None and answer.access.found is not None:
            outcome = "error" if answer.status >= 500 or not answer.status else "refused" if answer.status >= 400 else "ok"
            runtime.metrics.count("netra_tenant_requests_total", outcome=outcome, tenant=answer.access.found.tenant)

    def _tell(self, scope: Scope, answer: _Answer, access: Access, parent: TraceContext, begun_us: int) -> None:
        """The request as a span: what a trace of several parts begins with."""
        runtime, trace = self.edge.netra.runtime, access.trace
        tenant = access.found.tenant if access.found is not None else access.principal.tenant
        name = f"{scope['method']} {scope['path'][:200]}"
        status = ERROR if answer.status >= 500 or not answer.status else OK
        ends_us = max(begun_us, runtime.clock.wall_us())
        runtime.tracer.span(
            Span(tenant, trace.trace_id, trace.span_id, parent.span_id, "server", name, begun_us, ends_us, status, str(answer.status))
        )

    def _parent(self, headers: Headers) -> TraceContext:
        """The caller's position in its trace (W3C Trace Context), or a new trace without a position."""
        given = headers.get(b"traceparent")
        found = TraceContext.parse(given.decode("latin-1")) if given is not None else None
        if found is not None:
            return found
        return TraceContext(self.edge.netra.runtime.chance.token(16).hex(), "")

    async def _refuse(self, error: Exception, scope: Scope, answer: _Answer, trace: TraceContext) -> None:
        known = error if isinstance(error, NetraError) else errors.InternalError()
        if errors.status_of(known) == 500:
            log = self.edge.netra.runtime.log
            log.error("internal error %s at %s %r", trace.trace_id, scope["method"], scope["path"][:200], exc_info=error)
        if not answer.started:
            await bodies.send_all(answer.send, *errors.render(known, scope["path"], trace.trace_id))


class _Answer:
    """Remembers whether an answer has begun, for after that no other can be given; gives every page its headers."""

    __slots__ = ("_page", "_send", "access", "is_ingest", "started", "status")

    def __init__(self, send: Send, *, page: bool) -> None:
        self._send = send
        self._page = page
        self.started = False
        self.status = 0
        self.is_ingest = False
        self.access: Access | None = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.started = True
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._page:
                message["headers"] = [*message["headers"], *RAW_HEADERS]
        await self._send(message)


def _is_form(segments: Sequence[str]) -> bool:
    """The two routes that take a form, and parse it themselves."""
    return tuple(segments) in {("oauth2", "token"), ("oauth2", "introspect")}


def _is_told(method: str, headers: Headers, access: Access, *, ingest: bool) -> bool:
    """Whether a request is kept as a span: one that changes something, or that came in a trace of its caller's. Ingest only where traced.

    What needs no key is nobody's, and may have a secret in its path.
    """
    if access.principal.actor == NOBODY.actor or not access.trace.sampled:
        return False
    return b"traceparent" in headers or (method not in {"GET", "HEAD"} and not ingest)


def _is_ingest(segments: Sequence[str]) -> bool:
    match segments:
        case ("api", "v1", "app", _, "msg") | ("api", "v1", "app", _, "msg", "batch"):
            return True
        case _:
            return False
