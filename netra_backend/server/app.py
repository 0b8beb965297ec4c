"""The application: the gate in front, the routes behind it, one OpenAPI document over both."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..errors import NetraError, NotFound
from . import (
    audit,
    batch,
    debug,
    errors,
    events,
    jwks,
    keys,
    kpis,
    login,
    native,
    oauth2,
    openapi,
    operators,
    probes,
    sessions,
    svix_app,
    svix_attempt,
    svix_auth,
    svix_endpoint,
    svix_event_type,
    svix_example,
    svix_headers,
    svix_message,
    svix_operational,
    svix_stats,
    svix_task,
    traces,
)
from . import cache as cache_routes
from . import oauth as oauth_routes
from . import sso as sso_routes
from .access import ACCESS, Access
from .edge import Doctor, Edge, Guest
from .errors import InvalidMembers, MalformedBody, problem
from .gate import Gate

if TYPE_CHECKING:
    from ..netra import Netra

ROUTERS: Final = (
    svix_app.router,
    svix_endpoint.router,
    svix_headers.router,
    svix_stats.router,
    svix_example.router,
    svix_auth.router,
    svix_event_type.router,
    svix_operational.router,
    svix_message.router,
    svix_attempt.router,
    svix_task.router,
    svix_task.background,
    keys.router,
    jwks.router,
    native.router,
    audit.router,
    operators.router,
    cache_routes.router,
    batch.router,
    debug.router,
    oauth_routes.router,
    events.router,
    kpis.router,
    traces.router,
    oauth_routes.public,
    sso_routes.router,
    sso_routes.operators,
    oauth2.router,
    login.router,
    sessions.router,
    probes.router,
)


class MethodNotAllowed(NetraError):
    """This path does not take that method."""

    code = "method_not_allowed"
    status = 405
    fix = "See /openapi.json for what this path takes."


def create_app(netra: Netra, *, dev: bool = False, guests: tuple[Guest, ...] = (), doctor: Doctor | None = None) -> Gate:
    """The ASGI application over an entered Netra. `dev` opens `/metrics` to everybody.

    `guests` add routes beside the API's own, behind the same gate: the dashboard's. `doctor` is what their page of settings asks.
    """
    edge = Edge.over(netra, dev=dev, doctor=doctor)
    return Gate(edge, create_routes(guests))


@cache
def create_routes(guests: tuple[Guest, ...] = ()) -> FastAPI:
    """What stands behind the gate, made once: it holds no state, each request brings its `Access`."""
    routes = FastAPI(
        title="Netra",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    for router in ROUTERS:
        routes.include_router(router)
    for mount in guests:
        mount(routes)
    routes.add_exception_handler(NetraError, _known)
    routes.add_exception_handler(RequestValidationError, _invalid)
    routes.add_exception_handler(HTTPException, _http)
    routes.add_exception_handler(Exception, _unexpected)

    @routes.get("/openapi.json", include_in_schema=False)
    async def _openapi() -> Response:
        """This document."""
        return Response(_document(), media_type="application/json")

    return routes


@cache
def _document() -> bytes:
    return openapi.document(create_routes())


def _answer(request: Request, error: NetraError) -> Response:
    access: Access = request.scope[ACCESS]
    status, headers, body = errors.render(error, request.scope["path"], access.trace.trace_id)
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


async def _unexpected(request: Request, error: Exception) -> Response:
    """The framework raises the error again once this is sent, and the gate logs it."""
    del error
    return _answer(request, errors.InternalError())


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, NetraError)
    if error.status == 500:
        raise error  # for `_unexpected`, so that it is logged
    return _answer(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: list[dict[str, Any]] = list(error.errors())
    if any(each["type"] == "json_invalid" for each in found):
        return _answer(request, MalformedBody("the body is not JSON"))
    return _answer(request, InvalidMembers([problem(each["loc"], each["msg"], each["type"]) for each in found]))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        response = _answer(request, MethodNotAllowed(f"{request.scope['method']} is not possible here"))
        response.headers.update(error.headers or {})
        return response
    if error.status_code == 404:
        return _answer(request, NotFound("there is no such route", fix="See /openapi.json."))
    return _answer(request, MalformedBody(str(error.detail)))
