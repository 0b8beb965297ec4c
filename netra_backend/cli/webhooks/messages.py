"""`netra webhooks send | list | show | resend`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from ...errors import InvalidInput
from ...kernel.clock import SystemClock
from ...kernel.durations import parse_duration
from ..options import TENANT, Place, command
from ..output import DEAD_LETTERS, NO, OK
from . import app
from .door import Door, Shape, entered

LOOK_EVERY_S: Final = 0.1
UNSETTLED: Final = frozenset({"due", "leased"})
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")]
MessageId = Annotated[str, typer.Argument(metavar="MSG", help="A message's id, msg_...")]


@command(app, "send", TENANT)
async def send(
    place: Place,
    event_type: Annotated[str, typer.Option("--type", metavar="X", help="The event type, invoice.paid for example.")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The payload, as JSON; - is standard input.")] = "-",
    event_id: Annotated[str | None, typer.Option("--event-id", metavar="ID", help="A key: a repetition with it is harmless.")] = None,
    ordering_key: Annotated[
        str | None,
        typer.Option("--ordering-key", metavar="K", help="Wait for those of this key before it, where an endpoint orders by key."),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="S", help="Its own retries: 5s,5m,1h, or netra, svix, standard or none.")
    ] = None,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="DURATION", help="Wait so long for its deliveries; exit 3 if one is a dead letter.")
    ] = None,
) -> int:
    """Send a message; it is stored when this returns.

    The bytes of the payload are signed and sent as they are, white space around them excepted.
    """
    wait_s = parse_duration(wait) if wait else 0.0
    payload = _payload(file)
    async with entered(place) as door:
        sent = await door.send(event_type, payload, event_id, ordering_key, schedule)
        if not wait:
            place.output.document(sent, f"{sent['id']} is stored")
            return OK
        shown = await _settled(door, sent["id"], wait_s)
    states = [each["state"] for each in shown["deliveries"]]
    words = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "no endpoint takes it"
    place.output.document(shown, f"{sent['id']}: {words}")
    if "dead" in states:
        return DEAD_LETTERS
    return NO if UNSETTLED.intersection(states) else OK


@command(app, "list", TENANT)
async def list_(place: Place, limit: Limit = 50) -> None:
    """List messages, the newest first."""
    async with entered(place) as door:
        found = await door.messages(limit)
    columns = {"id": "message", "eventType": "type", "eventId": "event id", "timestamp": "stored"}
    place.output.rows("messages", found, columns, "There is no message.")


@command(app, "show", TENANT)
async def show(place: Place, message: MessageId) -> None:
    """Show a message, where it went, and every attempt."""
    async with entered(place) as door:
        found = await door.show(message)
    if place.as_json:
        place.output.document(found, "")
        return
    place.output.document(found, f"{found['id']}  {found['eventType']}  {found['timestamp']}\n{orjson.dumps(found['payload']).decode()}")
    deliveries = {"endpointId": "endpoint", "state": "state", "attempts": "attempts", "nextAttempt": "next", "reason": "reason"}
    place.output.rows("deliveries", found["deliveries"], deliveries, "No endpoint takes it.")
    attempts = {"timestamp": "at", "endpointId": "endpoint", "statusText": "outcome", "responseStatusCode": "status", "response": "answer"}
    place.output.rows("attempts", found["attempts"], attempts, "No attempt was made yet.")


@command(app, "resend", TENANT)
async def resend(
    place: Place, message: MessageId, endpoint: Annotated[str, typer.Argument(metavar="EP", help="An endpoint's id or uid.")]
) -> None:
    """Deliver a message to an endpoint once more, whatever became of it."""
    async with entered(place) as door:
        await door.resend(message, endpoint)
    place.output.document({"msgId": message, "endpoint": endpoint, "state": "due"}, f"{message} is due for {endpoint}")


def _payload(file: str) -> str:
    source = "standard input" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        orjson.loads(raw)
        return raw.decode().strip()
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}", fix="Give a file of JSON, or - for standard input.") from error
    except ValueError as error:
        raise InvalidInput(f"{source} is not JSON: {error}", fix='Give one JSON value, {"id": "inv_42"} for example.') from error


async def _settled(door: Door, message_id: str, within_s: float) -> Shape:
    """The message once no delivery is on its way any more, or as it stands after `within_s`."""
    clock = SystemClock()
    ends = clock.monotonic() + within_s
    while True:
        shown: dict[str, Any] = await door.show(message_id)
        if clock.monotonic() >= ends or not UNSETTLED.intersection(each["state"] for each in shown["deliveries"]):
            return shown
        await clock.sleep(LOOK_EVERY_S)
