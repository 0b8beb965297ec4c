"""The door to a server: its REST API in Svix's vocabulary, answers turned into the command line's shapes."""

from __future__ import annotations

from typing import Final

import orjson

from ...webhooks.keys import KeyKind, decode_secret, told
from ...webhooks.model import TaskKind
from ..rest import PAGE, RestClient
from .door import NewEndpoint, Over, Shape

ATTEMPTS_SHOWN: Final = 100
_VERBS: Final = {"recover": "recover", "replay_missing": "replay-missing", "bulk_replay": "bulk-replay"}
_STATUSES: Final = {"success": 0, "fail": 2, "canceled": 4, None: None}


class RemoteDoor:
    """See `door.Door`."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._app = ("app", tenant)
        self._own = ("tenants", tenant, "webhooks")

    async def send(
        self, event_type: str, payload: str, event_id: str | None, ordering_key: str | None, schedule: str | None = None
    ) -> Shape:
        """See `Door.send`. The payload is spliced in as text, because what is signed is its exact slice of the body."""
        head = {"eventType": event_type, "eventId": event_id, "orderingKey": ordering_key, "retrySchedule": schedule}
        body = orjson.dumps(head)[:-1] + b',"payload":' + payload.encode() + b"}"
        sent: Shape = await self._client.ask("POST", (*self._app, "msg"), body=body)
        return sent

    async def messages(self, limit: int) -> list[Shape]:
        """See `Door.messages`."""
        return await self._client.list(*self._app, "msg", limit=limit)

    async def show(self, message_id: str) -> Shape:
        """See `Door.show`."""
        found: Shape = await self._client.get(*self._app, "msg", message_id)
        attempts = await self._client.list(*self._app, "attempt", "msg", message_id, limit=ATTEMPTS_SHOWN)
        deliveries = await self._client.list(*self._app, "msg", message_id, "endpoint", limit=ATTEMPTS_SHOWN)
        return {**found, "deliveries": list(map(_delivery, deliveries)), "attempts": attempts}

    async def dead(self, wanted: Over, limit: int) -> list[Shape]:
        """See `Door.dead`."""
        types = list(wanted.event_types) or None
        return await self._client.list(*self._own, "dead", limit=limit, endpoint=wanted.endpoint, event_type=types, **_times(wanted))

    async def begin(self, kind: TaskKind, wanted: Over) -> Shape:
        """See `Door.begin`."""
        if kind == "redrive":
            given = {"endpoint": wanted.endpoint, "event_types": list(wanted.event_types) or None, **_times(wanted)}
            return await self._post(*self._own, "dead", "redrive", body=given)
        assert wanted.endpoint is not None  # the command asks for it
        if kind == "cancel":
            return await self._post(*self._own, "endpoints", wanted.endpoint, "cancel", body={"why": wanted.why, **_times(wanted)})
        given = {"eventTypes": list(wanted.event_types) or None, "status": _STATUSES.get(wanted.status), **_times(wanted)}
        begun = await self._post(*self._app, "endpoint", wanted.endpoint, _VERBS[kind], body=given)
        return await self.task(begun["id"])

    async def task(self, task: str) -> Shape:
        """See `Door.task`."""
        found: Shape = await self._client.get(*self._own, "tasks", task)
        return found

    async def tasks(self, limit: int) -> list[Shape]:
        """See `Door.tasks`."""
        found: list[Shape] = []
        after: str | None = None
        while len(found) < limit:
            page = await self._client.get(*self._own, "tasks", limit=min(PAGE, limit - len(found)), after=after)
            found += page["data"]
            after = page["after"]
            if page["done"]:
                break
        return found

    async def cancel_task(self, task: str, why: str) -> Shape:
        """See `Door.cancel_task`."""
        return await self._post(*self._own, "tasks", task, "cancel", body={"why": why})

    async def cancel(self, message_id: str, endpoint: str | None, why: str) -> Shape:
        """See `Door.cancel`."""
        return await self._post(*self._own, "messages", message_id, "cancel", body={"why": why, "endpoint": endpoint})

    async def expunge(self, message_id: str, attempt: str | None) -> None:
        """See `Door.expunge`."""
        below = ("content",) if attempt is None else ("attempt", attempt, "content")
        await self._client.ask("DELETE", (*self._app, "msg", message_id, *below))

    async def _post(self, *path: str, body: Shape) -> Shape:
        """The answer's JSON; what is None is not said."""
        found: Shape = await self._client.post(*path, body={name: value for name, value in body.items() if value is not None})
        return found

    async def resend(self, message_id: str, endpoint: str) -> None:
        """See `Door.resend`."""
        await self._client.post(*self._app, "msg", message_id, "endpoint", endpoint, "resend", body={})

    async def add_endpoint(self, wanted: NewEndpoint) -> Shape:
        """See `Door.add_endpoint`."""
        given = {
            "url": wanted.url,
            "uid": wanted.uid,
            "filterTypes": list(wanted.event_types) or None,
            "secret": wanted.secret,
            "keyKind": wanted.key_kind,
            "ordering": wanted.ordering,
            "filter": wanted.filter,
            "retrySchedule": wanted.schedule,
            "auth": {"connection": wanted.connection} if wanted.connection is not None else None,
        }
        body = {name: value for name, value in given.items() if value is not None}
        made: Shape = await self._client.post(*self._app, "endpoint", body=body)
        if wanted.secret is not None:
            return {**made, "secret": told(decode_secret(wanted.secret))}
        return {**made, "secret": (await self.secret(made["id"]))["key"]}

    async def secret(self, endpoint: str) -> Shape:
        """See `Door.secret`."""
        found: Shape = await self._client.get(*self._app, "endpoint", endpoint, "secret")
        return found

    async def rotate(self, endpoint: str, secret: str | None, kind: KeyKind | None, overlap_s: int) -> Shape:
        """See `Door.rotate`."""
        body = {"key": secret, "keyKind": kind, "gracePeriodSeconds": overlap_s}
        made: Shape = await self._client.post(*self._app, "endpoint", endpoint, "secret", "rotate", body=body)
        return made

    async def portal(self, expiry_s: int, session: str | None, *, read_only: bool) -> Shape:
        """See `Door.portal`."""
        body = {"expiry": expiry_s, "sessionId": session, "readOnly": read_only}
        made: Shape = await self._client.post("auth", "app-portal-access", self._app[1], body=body)
        return made

    async def endpoints(self, limit: int) -> list[Shape]:
        """See `Door.endpoints`."""
        return await self._client.list(*self._app, "endpoint", limit=limit)


def _times(wanted: Over) -> Shape:
    return {name: at.isoformat() if at is not None else None for name, at in (("since", wanted.since), ("until", wanted.until))}


def _delivery(destination: Shape) -> Shape:
    members = ("state", "attempts", "nextAttempt", "lastStatusCode", "reason")
    return {"endpointId": destination["id"], **{name: destination[name] for name in members}}
