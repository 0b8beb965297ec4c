"""The two ingest routes, plain ASGI: `POST /api/v1/app/{a}/msg` and `.../msg/batch`.

A message's payload is the exact source slice of the request's `payload` member (or, sent as
`transformationsParams.rawPayload`, that string). What is wrong with the shape of any message refuses the whole request
before anything is stored. What only storing can tell (an `eventId` that was used for other content) concerns one
message: a batch then answers 207 with an `error` in that message's place. 202 says that every message is durable.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import orjson

from ..errors import InvalidInput, NetraError
from ..kernel.scope import Scope
from ..webhooks.intake import Answer
from ..webhooks.model import NewMessage
from . import body as bodies
from . import json_slice
from .errors import InvalidMembers, MalformedBody, problem, problems_of, status_of
from .message_in import Reader, application_of
from .render import message_out
from .svix_app import create_for_message

if TYPE_CHECKING:
    from .access import Access
    from .body import Receive, Send

MOST_MESSAGES: Final = 10_000
TURN: Final = 16
"""Messages of a batch that are read before others have their turn on the loop."""

_BATCH_KEY: Final = "batch·{key}·{index}"
"""A batch's key (its hash) for one of its messages. A header's key is ASCII, so no single message's key is like it."""


async def answer(
    access: Access, segments: Sequence[str], headers: bodies.Headers, query_string: bytes, receive: Receive, send: Send
) -> None:
    """Serve one ingest request; refusals are raised."""
    key = bodies.idempotency_key(headers)
    with_content = _with_content(query_string)
    if len(segments) == 5:
        bodies.check_content_type(headers)
        await _one(access, key, receive, send, headers, with_content=with_content)
    else:
        await _batch(access, key, receive, send, headers, with_content=with_content)


async def _one(access: Access, key: str | None, receive: Receive, send: Send, headers: bodies.Headers, *, with_content: bool) -> None:
    settings = access.edge.netra.settings
    body = await bodies.read(receive, headers, min(settings.payload_max_bytes + bodies.ENVELOPE_MAX, settings.body_max_bytes))
    value = json_slice.parse(body)
    text = body.decode()
    if not isinstance(value, dict):
        raise InvalidMembers([problem(["body"], "a message is an object", "type_error")])
    reader = Reader(access.edge.netra)
    new = reader.message(value, text, json_slice.object_members(text), ["body"], key)
    reader.raise_problems()
    scope = await _scope(access, value)
    accepted = (await access.edge.netra.webhooks.accept(scope, [new]))[0]
    if isinstance(accepted, NetraError):
        raise accepted
    await _send(send, 202, message_out(accepted.message, with_content=with_content), replayed=accepted.replayed)


async def _batch(access: Access, key: str | None, receive: Receive, send: Send, headers: bodies.Headers, *, with_content: bool) -> None:
    scope = access.scope
    by_line = bodies.is_ndjson(headers)
    if not by_line:
        bodies.check_content_type(headers)
    body = await bodies.read(receive, headers, access.edge.netra.settings.body_max_bytes)
    news = await _read_batch(access, _lines(body) if by_line else _array(body), key)
    answers = await access.edge.netra.webhooks.accept(scope, news) if news else []
    refused = any(isinstance(each, NetraError) for each in answers)
    replayed = bool(answers) and all(not isinstance(each, NetraError) and each.replayed for each in answers)
    await _send(send, 207 if refused else 202, [_in_place(each, with_content=with_content) for each in answers], replayed=replayed)


_Source = tuple[dict[str, Any], str, dict[str, json_slice.Span]]
"""A message as it was sent: its value, the text that it stands in, and where in it each member stands."""


def _array(body: bytes) -> Iterator[_Source]:
    values = json_slice.parse(body)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InvalidMembers([problem(["body"], "a batch is an array of messages", "type_error")])
    _check_count(len(values))
    text = body.decode()
    for value, spans in zip(values, json_slice.array_of_objects(text), strict=True):
        yield value, text, spans


def _lines(body: bytes) -> Iterator[_Source]:
    """The same from JSON texts, one a line; empty lines are passed over."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    _check_count(len(lines))
    for index, line in enumerate(lines):
        try:
            value = json_slice.parse(line)
        except MalformedBody as error:
            raise MalformedBody(f"message {index}: {error.detail}") from None
        if not isinstance(value, dict):
            raise InvalidMembers([problem(["body", index], "a message is an object", "type_error")])
        text = line.decode()
        yield value, text, json_slice.object_members(text)


def _check_count(count: int) -> None:
    if count > MOST_MESSAGES:
        raise InvalidMembers([problem(["body"], f"a batch has at most {MOST_MESSAGES} messages")])


async def _read_batch(access: Access, sources: Iterable[_Source], key: str | None) -> list[NewMessage]:
    reader = Reader(access.edge.netra)
    news = []
    hashed = hashlib.sha256(key.encode()).hexdigest() if key is not None else None
    for index, (value, text, spans) in enumerate(sources):
        own = _BATCH_KEY.format(key=hashed, index=index) if hashed is not None else None
        if "application" in value:
            reader.problems.append(problem(["body", index, "application"], "an application is made with a single message only"))
        news.append(reader.message(value, text, spans, ["body", index], own))
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
    reader.raise_problems()
    return news


async def _scope(access: Access, value: dict[str, Any]) -> Scope:
    """The tenant's scope; an operator's message may bring the application that it needs."""
    if access.found is None and access.principal.is_operator and value.get("application") is not None:
        tenant = await create_for_message(access, application_of(value["application"], access.reference))
        return access.system_scope.with_tenant(tenant.tenant)
    return access.scope


def _in_place(each: Answer, *, with_content: bool) -> dict[str, Any]:
    if not isinstance(each, NetraError):
        return message_out(each.message, with_content=with_content)
    status = status_of(each)
    detail: Any = problems_of(each) if status == 422 else each.detail
    return {"error": {"status": status, "code": each.code, "detail": detail, "fix": each.fix}}


def _with_content(query_string: bytes) -> bool:
    """Whether the answer repeats the payload: yes unless `with_content=false`, as Svix has it."""
    if query_string in {b"", b"with_content=true", b"with_content=false"}:  # what clients send, without parsing it
        return query_string != b"with_content=false"
    given = parse_qs(query_string.decode("latin-1")).get("with_content", ["true"])[-1].lower()
    if given not in {"true", "false", "1", "0"}:
        raise InvalidInput("with_content is neither true nor false", fix="Ask with with_content=true, or leave it out.")
    return given in {"true", "1"}


async def _send(send: Send, status: int, value: Any, *, replayed: bool) -> None:
    body = orjson.dumps(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if replayed:
        headers.append((b"idempotency-replayed", b"true"))
    await bodies.send_all(send, status, headers, body)
