"""An ASGI middleware (Starlette, FastAPI, Litestar, Django under ASGI): each request's tenant, actor and trace, for all that it calls.

    app.add_middleware(NetraMiddleware, netra=netra, tenant=lambda request: request["state"]["tenant"])

`tenant` and `actor` get the request's ASGI scope and may be coroutine functions. A tenant comes from what was authenticated, never
from what the client merely says. Where it is not known this early, answer None: the trace is set all the same, and the tenant is
named where it is known. The trace is that of the request's `traceparent` header (W3C Trace Context), or a new one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..kernel import debugging
from ..kernel.debugging import any_session
from ..netra import Netra
from .exchange import Exchange

Request = MutableMapping[str, Any]
App = Callable[[Request, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
Told = Callable[[Request], Any]


def _nobody(request: Request) -> None:
    del request


def _library(request: Request) -> str:
    del request
    return "library"


class NetraMiddleware:
    """See the module's docstring."""

    def __init__(self, app: App, netra: Netra, tenant: Told = _nobody, actor: Told = _library) -> None:
        self._app = app
        self._netra = netra
        self._tenant = tenant
        self._actor = actor

    async def __call__(self, scope: Request, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        """One request, or one connection of a websocket; a lifespan is nobody's."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        tenant, actor = await _told(self._tenant, scope), await _told(self._actor, scope)
        with self._netra.context(tenant, actor, traceparent_of(scope), f"{scope.get('method', 'GET')} {scope['path']}"):
            watch = debugging.watched.get() if any_session else None
            if watch is None or scope["type"] != "http" or not watch.wants("http"):
                await self._app(scope, receive, send)
                return
            exchange = Exchange(watch, scope, receive, send)
            with exchange.recorded():
                await self._app(scope, exchange.receive, exchange.send)


def traceparent_of(scope: Request) -> str:
    """The header's value; nothing where it comes twice, as the recommendation asks (section 3.2)."""
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return found[0].decode("latin-1") if len(found) == 1 else ""


async def _told(ask: Told, scope: Request) -> Any:
    answer = ask(scope)
    return await answer if inspect.isawaitable(answer) else answer
