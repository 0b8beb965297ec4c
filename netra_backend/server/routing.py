"""What the routes behind the framework have in common: who was let in, one way to answer, one effect per key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import Depends, Request, Response
from starlette.responses import StreamingResponse

from ..errors import NetraError
from ..kernel.scope import Scope
from ..storage import idempotency
from ..storage.idempotency import Claim
from ..storage.transaction import Tx
from ..webhooks.intake import Q
from .access import ACCESS, Access

T = TypeVar("T")
Make = Callable[[Tx], Awaitable[tuple[bytes, T]]]
"""Does the work; its result, and the id under which the result can be found again."""
Again = Callable[[Tx, bytes], Awaitable[T]]
"""Finds the result of an earlier call by that id."""

_NOT_KNOWN_YET: Final = b""


def _access(request: Request) -> Access:
    access: Access = request.scope[ACCESS]
    return access


Caller = Annotated[Access, Depends(_access)]


def answer(value: Any, status: int = 200, *, replayed: bool = False) -> Response:
    """A JSON answer; `replayed` says that an earlier call with this Idempotency-Key had the effect."""
    headers = {"idempotency-replayed": "true"} if replayed else None
    return Response(orjson.dumps(value), status, headers, "application/json")


def no_content() -> Response:
    """204."""
    return Response(status_code=204)


def stream(caller: Access, events: AsyncIterator[bytes]) -> Response:
    """Server-sent events (HTML Standard, section 9.2). Whoever makes them asks at each turn whether the key still holds.

    A route asks `edge.streams` whether there is room before it does anything for its stream.
    """
    return StreamingResponse(_until_refused(caller, events), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _until_refused(caller: Access, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        with caller.edge.streams.one(caller.tenant.tenant):  # only here: what is never begun is never ended
            async for event in events:
                yield event
    except NetraError:
        return  # the answer has begun: it ends, and whoever asks again is told why


async def once(access: Access, scope: Scope, route: str, make: Make[T], again: Again[T]) -> tuple[T, bool]:
    """Do it, at most once per Idempotency-Key: the result, and whether an earlier call had it.

    The key is claimed in the transaction of the effect, so the two stand or fall together. Another path or body under
    the same key is refused (`KeyReused`). `route` is method and path template.
    """
    key = access.idempotency_key
    sent = access.path.encode() + b"\0" + access.body
    claim = Claim(route, key, idempotency.hash_body(sent)) if key is not None else None
    result: tuple[T, bool] = await access.edge.netra.database.write(_once, claim, make, again, scope=scope)
    return result


async def _once(tx: Tx, claim: Claim | None, make: Make[T], again: Again[T]) -> tuple[T, bool]:
    if claim is None:
        return (await make(tx))[1], False
    replay = await idempotency.claim(tx, claim, _NOT_KNOWN_YET, 200)
    if replay is not None:
        return await again(tx, replay.ref), True
    ref, value = await make(tx)
    await tx.execute(Q.point_key_at, route=claim.route, key=claim.key, ref=ref)
    return value, False
