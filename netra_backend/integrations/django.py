"""Django beside Netra: a middleware for each request's tenant and trace, and two ways to keep our tables out of Django's.

    MIDDLEWARE = [..., "netra_backend.integrations.django.NetraMiddleware"]
    NETRA = "shop.netra.netra"                   # an open Netra, or where it is found
    NETRA_TENANT = "shop.tenants.of_request"     # called with the request; None where it is not known yet
    DATABASE_ROUTERS = ["netra_backend.integrations.django.NetraRouter"]

The middleware serves synchronous and asynchronous views. The router keeps migrations away from models of our tables, which
`inspectdb` would write if it saw them; `hide_tables` keeps it from seeing them. Django's own `migrate` and `flush` touch
the tables of its models only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from ..kernel import debugging
from ..kernel.debugging import any_session
from . import PREFIX


class NetraMiddleware:
    """See the module's docstring."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._waits = asyncio.iscoroutinefunction(get_response)
        if self._waits:
            import_module("asgiref.sync").markcoroutinefunction(self)
        try:
            settings = import_module("django.conf").settings
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Netra's middleware for Django needs Django itself: pip install django", name=error.name) from error
        self._netra = _found(settings.NETRA)
        self._tenant = _found(getattr(settings, "NETRA_TENANT", None)) or _nobody

    def __call__(self, request: Any) -> Any:
        """One request; a coroutine where the view is one."""
        if self._waits:
            return self._answer(request)
        with self._context(request):
            response = self._get_response(request)
            _record(request, response)
            return response

    async def _answer(self, request: Any) -> Any:
        with self._context(request):
            response = await self._get_response(request)
            _record(request, response)
            return response

    def _context(self, request: Any) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self._netra.context(
            self._tenant(request), "library", request.headers.get("traceparent", ""), f"{request.method} {request.path}"
        )
        return context


def _record(request: Any, response: Any) -> None:
    """The exchange, for a debug session that wants it. A body that was streamed, or never read, is left out."""
    watch = debugging.watched.get() if any_session else None
    if watch is None or not watch.wants("http"):
        return
    asked = (request.method, request.get_full_path(), request.headers, getattr(request, "_body", b""))
    told = b"" if getattr(response, "streaming", False) else response.content
    debugging.http(watch, "in", asked, {"status": response.status_code, "headers": response.headers, "body": told})


class NetraRouter:
    """For DATABASE_ROUTERS: no migration of Django's makes, changes or drops a table of ours."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """False for a model of a table of ours; no opinion on any other."""
        del db, app_label, model_name
        model = hints.get("model")
        return False if model is not None and model._meta.db_table.startswith(PREFIX) else None  # noqa: SLF001  (Django's public name)


def hide_tables(connection: Any) -> None:
    """Have `inspectdb` and everything else that lists this connection's tables leave ours out; call it in `AppConfig.ready`."""
    introspection = connection.introspection
    whole = introspection.get_table_list
    introspection.get_table_list = lambda cursor: [table for table in whole(cursor) if not table.name.startswith(PREFIX)]


def _found(named: Any) -> Any:
    """An object, or the one at its dotted path."""
    return import_module("django.utils.module_loading").import_string(named) if isinstance(named, str) else named


def _nobody(request: Any) -> None:
    del request
