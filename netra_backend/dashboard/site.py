"""Every page, in one router: what `netra serve` hands to the server."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from . import audit, batches, cache, connections, debugging, installation, kpis, overview, traces, webhooks
from .rendering import render_plain
from .visits import Access

ROUTER: Final = APIRouter(include_in_schema=False)
PARTS: Final = (overview, webhooks, connections, batches, cache, kpis, audit, traces, debugging, installation)
ASSETS: Final = {"netra.js": "text/javascript", "netra.css": "text/css", "netra.svg": "image/svg+xml"}


def mount(routes: FastAPI) -> None:
    """Add every page."""
    routes.include_router(ROUTER)


async def login(request: Request) -> Response:
    """Takes a key, typed or from behind a link's `#`, or leads to an identity provider where one is set up; shows nobody's data."""
    access: Access = request.scope["netra.access"]
    operators, tenants = await access.edge.netra.sso.logins.offered()
    return HTMLResponse(render_plain("login.html", {"operators_by_provider": operators, "tenants_by_provider": tenants}))


async def home() -> Response:
    """To the first page."""
    return RedirectResponse("/ui/overview", 303)


async def script() -> Response:
    """What the pages' buttons do."""
    return _asset("netra.js")


async def style() -> Response:
    """How the pages look."""
    return _asset("netra.css")


async def icon() -> Response:
    """The mark in the browser's tab."""
    return _asset("netra.svg")


def _asset(name: str) -> Response:
    return Response(_read(name), media_type=ASSETS[name])


@functools.cache
def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath("pages", name).read_bytes()


_PAGES: Final[Mapping[str, Callable[..., Awaitable[Response]]]] = {
    "/": home,
    "/ui": home,
    "/ui/login": login,
    "/ui/netra.js": script,
    "/ui/netra.css": style,
    "/ui/netra.svg": icon,
}
for _path, _answer in _PAGES.items():
    ROUTER.add_api_route(_path, _answer, methods=["GET"], response_model=None)
for _part in PARTS:
    ROUTER.include_router(_part.router)
