"""How a page is answered: once, or as a stream of what it has become since (HTML Standard, section 9.2).

The stream has the page's own address, asked for as `text/event-stream`, so what may be seen live is what may be seen. It sends the
page again when something was committed and the page is another one by that, at most once a second; `pages/netra.js` puts the parts
that have changed in their places. Every second it asks whether its key still holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, StreamingResponse

from ..errors import NetraError, Unavailable
from . import choosing
from .rendering import render
from .visits import Right, Visit, visit_of

Show = Callable[[Visit], Awaitable[Mapping[str, Any]]]
Made = tuple[str, str]
"""The template, and what it is given: a whole page."""

EVERY_S: Final = 1.0
RENEW_S: Final = 5.0
"""Ages and counts of this process change without a commit."""

KEEP_ALIVE_S: Final = 10.0
LASTS_S: Final = 600.0
MOST_STREAMS: Final = 64


class TooManyLooking(Unavailable):
    """Too many pages are open live at once; this one is shown as it is."""

    code = "too_many_live_pages"


class Streams:
    """How many pages are live in this process."""

    open = 0


def page(
    router: APIRouter, path: str, template: str, right: Right = "tenant", *, of_tenant: bool = True, live: bool = True
) -> Callable[[Show], Show]:
    """Make a function a page: it gives the template its values. One that is `of_tenant` lets an operator choose a tenant first.

    One that is not `live` leaves an entry at each look, and is not sent again by itself: its stream is over before it begins.
    """

    def add(show: Show) -> Show:
        async def answer(request: Request) -> Response:
            visit = await visit_of(request)
            visit.require(right)
            chosen, shown = (choosing.TEMPLATE, choosing.show) if of_tenant and visit.tenant is None else (template, show)
            if "text/event-stream" in request.headers.get("accept", ""):
                return _live(visit, chosen, shown) if live else Response(status_code=204)
            return HTMLResponse(render(visit, chosen, await shown(visit)))

        router.add_api_route(f"/ui/{path}", answer, methods=["GET"], include_in_schema=False, response_model=None, name=show.__name__)
        return show

    return add


def _live(visit: Visit, template: str, show: Show) -> Response:
    if Streams.open >= MOST_STREAMS:
        raise TooManyLooking(f"{MOST_STREAMS} pages are live already")
    return StreamingResponse(_changes(visit, template, show), media_type="text/event-stream")


async def _changes(visit: Visit, template: str, show: Show) -> AsyncIterator[bytes]:
    clock, database = visit.netra.runtime.clock, visit.netra.database
    began = told_at = made_at = clock.monotonic()
    told, version = "", -1
    Streams.open += 1
    try:
        yield b"retry: 2000\n\n"
        while not visit.access.edge.draining and clock.monotonic() - began < LASTS_S:
            await visit.access.check_again()
            now = clock.monotonic()
            if database.version() != version or now - made_at >= RENEW_S:
                version, made_at = database.version(), now
                made = render(visit, template, await show(visit))
                if made != told:
                    told, told_at = made, now
                    yield b"event: page\ndata: %b\n\n" % orjson.dumps(made)
            if now - told_at > KEEP_ALIVE_S:
                told_at = now
                yield b": still here\n\n"
            await clock.sleep(EVERY_S)
    except NetraError:
        return  # the answer has begun: the stream ends, and the browser, which asks again, is told why
    finally:
        Streams.open -= 1
