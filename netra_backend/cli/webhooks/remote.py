"""The door to a server: its REST API in Svix's vocabulary, answers turned into the command line's shapes."""

from __future__ import annotations

from typing import Final

import orjson

from ...webhooks.keys import KeyKind, decode_secret, told
from ..rest import RestClient
from .door import NewEndpoint, Shape

ATTEMPTS_SHOWN: Final = 100


class RemoteDoor:
    """See `door.Door`."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._app = ("app", tenant)

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

    async def dead(self, limit: int) -> list[Shape]:
        """See `Door.dead`."""
        return await self._client.list("tenants", self._app[1], "webhooks", "dead", limit=limit)

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

    async def endpoints(self, limit: int) -> list[Shape]:
        """See `Door.endpoints`."""
        return await self._client.list(*self._app, "endpoint", limit=limit)


def _delivery(destination: Shape) -> Shape:
    members = ("state", "attempts", "nextAttempt", "lastStatusCode", "reason")
    return {"endpointId": destination["id"], **{name: destination[name] for name in members}}
