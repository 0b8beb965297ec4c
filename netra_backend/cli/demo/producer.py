"""The demo's producer: half of the events in batches, half one by one, each until it is acknowledged.

A repetition carries the same `eventId`. The ledger has a line for each acknowledgement, with what the server called
the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson

from ...kernel.clock import Clock
from ...resilience.egress import Egress, EgressError, Reply
from ..rest import refusal
from .flights import EVENT_TYPE, Event
from .ledgers import Book

BATCH: Final = 50
AT_ONCE: Final = 16
"""Requests on their way together."""

AGAIN_AFTER_S: Final = 0.1
TIMEOUT_S: Final = 10.0


class Producer:
    """Sends events to one application until each is acknowledged. `halfway` is set when `half` of them are."""

    def __init__(self, egress: Egress, clock: Clock, app_url: str, key: str, book: Book, half: int) -> None:
        self.acknowledged = 0
        self.halfway = asyncio.Event()
        self._half = half
        self._egress = egress
        self._clock = clock
        self._app_url = app_url
        self._headers = (("authorization", f"Bearer {key}"), ("content-type", "application/json"))
        self._book = book
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def send(self, events: Sequence[Event]) -> None:
        """Send all of them, in turns of one batch and as many single requests."""
        async with asyncio.TaskGroup() as tasks:
            for start in range(0, len(events), 2 * BATCH):
                await self._start(tasks, "msg/batch", events[start : start + BATCH])
                for event in events[start + BATCH : start + 2 * BATCH]:
                    await self._start(tasks, "msg", [event])

    async def _start(self, tasks: asyncio.TaskGroup, route: str, events: Sequence[Event]) -> None:
        await self._slots.acquire()
        task = tasks.create_task(self._until_acknowledged(route, events))
        task.add_done_callback(lambda _: self._slots.release())

    async def _until_acknowledged(self, route: str, events: Sequence[Event]) -> None:
        first_sent_us = self._clock.wall_us()
        objects = [_message(event) for event in events]
        body = objects[0] if route == "msg" else b"[" + b",".join(objects) + b"]"
        tries = 1
        while (reply := await self._ask(route, body)) is None:
            tries += 1
            await self._clock.sleep(AGAIN_AFTER_S)
        answer = orjson.loads(reply.body)
        now_us = self._clock.wall_us()
        stored = [answer] if route == "msg" else answer
        for event, message in zip(events, stored, strict=True):
            known = {"event_id": event.id, "message_id": message["id"], "route": route, "tries": tries}
            self._book.add({**known, "first_sent_us": first_sent_us, "at_us": now_us})
        self.acknowledged += len(events)
        if self.acknowledged >= self._half:
            self.halfway.set()

    async def _ask(self, route: str, body: bytes) -> Reply | None:
        """The 202, or None: the server was not there, or is not ready, and the same is asked again."""
        url = f"{self._app_url}/{route}?with_content=false"
        try:
            reply = await self._egress.request(
                "POST", url, headers=self._headers, body=body, tenant="demo", timeout_s=TIMEOUT_S, read_limit=2**24
            )
        except EgressError:
            return None
        if reply.status == 202 and not reply.truncated:
            return reply
        if reply.status in {429, 500, 502, 503, 504}:
            return None
        raise refusal(reply.status, reply.body)


def _message(event: Event) -> bytes:
    """The request's JSON around the payload's own bytes, which are what is signed."""
    head: dict[str, Any] = {"eventType": EVENT_TYPE, "eventId": event.id}
    return orjson.dumps(head)[:-1] + b',"payload":' + event.payload + b"}"
