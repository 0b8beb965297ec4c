"""The door to the database: the library's own calls, in the scope of whoever runs the command."""

from __future__ import annotations

from typing import Any

from ...errors import NetraError
from ...kernel.ids import from_text
from ...kernel.scope import Scope
from ...netra import Netra
from ...server.render import STATUS_TEXT, attempt_out, endpoint_out, message_out, microseconds, task_out
from ...storage.transaction import Tx
from ...webhooks import endpoints, expunge, operators, schedules, store, tasks
from ...webhooks.endpoints import check_event_type, check_url
from ...webhooks.filters import check_filter
from ...webhooks.health import with_health
from ...webhooks.keys import KeyKind, told
from ...webhooks.model import DeliveryRow, Endpoint, EndpointHealth, NewMessage, TaskKind, TaskWanted
from ..session import operator
from . import shapes
from .door import NewEndpoint, Over, Shape

ATTEMPTS_SHOWN = 100
USUAL_URL = "http://127.0.0.1:8071"
"""Where `netra serve` is by default; the setting `public_url` says where it is for others."""


class LocalDoor:
    """See `door.Door`."""

    def __init__(self, netra: Netra, scope: Scope) -> None:
        self._netra = netra
        self._scope = scope

    async def send(
        self, event_type: str, payload: str, event_id: str | None, ordering_key: str | None, schedule: str | None = None
    ) -> Shape:
        """See `Door.send`."""
        kept = None if schedule is None else schedules.check(schedule)
        described = NewMessage(check_event_type(event_type), payload, event_id, ordering_key=ordering_key, schedule=kept)
        new = self._netra.webhooks.checked(described)
        answer = (await self._netra.webhooks.accept(self._scope, [new]))[0]
        if isinstance(answer, NetraError):
            raise answer
        return message_out(answer.message)

    async def messages(self, limit: int) -> list[Shape]:
        """See `Door.messages`."""
        return [message_out(each) for each in await self._read(store.messages, None, limit)]

    async def show(self, message_id: str) -> Shape:
        """See `Door.show`."""
        id_ = from_text("msg", message_id)
        found = message_out(await self._read(store.message, id_))
        deliveries = await self._read(store.deliveries, id_)
        attempts = await self._read(store.attempts_of_message, id_, None, ATTEMPTS_SHOWN)
        return {
            **found,
            "deliveries": list(map(shapes.delivery, deliveries)),
            "attempts": [attempt_out(each, None, with_content=True) for each in attempts],
        }

    async def dead(self, wanted: Over, limit: int) -> list[Shape]:
        """See `Door.dead`."""
        return [shapes.dead_letter(row) for row in await self._read(_dead, wanted, limit)]

    async def begin(self, kind: TaskKind, wanted: Over) -> Shape:
        """See `Door.begin`."""
        return task_out(await self._write(operators.begin, kind, wanted.endpoint, _walk(kind, wanted)))

    async def task(self, task: str) -> Shape:
        """See `Door.task`."""
        return task_out(await self._read(tasks.get, from_text("qtask", task)))

    async def tasks(self, limit: int) -> list[Shape]:
        """See `Door.tasks`."""
        return [task_out(each) for each in await self._read(tasks.page, None, limit)]

    async def cancel_task(self, task: str, why: str) -> Shape:
        """See `Door.cancel_task`."""
        return task_out(await self._write(tasks.decide, from_text("qtask", task), operators.check_why(why)))

    async def cancel(self, message_id: str, endpoint: str | None, why: str) -> Shape:
        """See `Door.cancel`."""
        found = await self._write(operators.cancel, from_text("msg", message_id), endpoint, operators.check_why(why))
        return operators.cancelled_of(*found)

    async def expunge(self, message_id: str, attempt: str | None) -> None:
        """See `Door.expunge`."""
        if attempt is None:
            await self._write(expunge.expunge, from_text("msg", message_id))
        else:
            await self._write(expunge.expunge_attempt, from_text("msg", message_id), from_text("atmpt", attempt))

    async def resend(self, message_id: str, endpoint: str) -> None:
        """See `Door.resend`."""
        await self._write(_resend, from_text("msg", message_id), endpoint, self._netra.webhooks.settings.deadline_s)

    async def add_endpoint(self, wanted: NewEndpoint) -> Shape:
        """See `Door.add_endpoint`."""
        made, key = await self._write(_add_endpoint, self._netra.sealer, _described(self._scope.tenant, wanted), wanted)
        return {**endpoint_out(made), "secret": told(key)}

    async def secret(self, endpoint: str) -> Shape:
        """See `Door.secret`."""
        return {"key": told(await self._write(endpoints.disclose_secret, self._netra.sealer, endpoint))}

    async def rotate(self, endpoint: str, secret: str | None, kind: KeyKind | None, overlap_s: int) -> Shape:
        """See `Door.rotate`."""
        return {"key": told(await self._write(_rotate, self._netra.sealer, endpoint, secret, kind, overlap_s))}

    async def portal(self, expiry_s: int, session: str | None, *, read_only: bool) -> Shape:
        """See `Door.portal`."""
        from ...server.auth import derive_pepper  # with the web framework behind it, which no other command here waits for
        from ...server.models import PortalAccess
        from ...server.svix_auth import make_portal_key, portal_link

        wanted = PortalAccess(expiry=expiry_s, session_id=session, read_only=read_only)
        pepper = await self._netra.database.write(derive_pepper, self._netra.sealer, scope=operator())
        return portal_link(self._netra.settings.public_url or USUAL_URL, await self._write(make_portal_key, pepper, wanted))

    async def endpoints(self, limit: int) -> list[Shape]:
        """See `Door.endpoints`."""
        return [endpoint_out(*each) for each in await self._read(_endpoints, limit)]

    async def _read(self, fn: Any, *args: Any) -> Any:
        return await self._netra.database.read(fn, *args, scope=self._scope)

    async def _write(self, fn: Any, *args: Any) -> Any:
        return await self._netra.database.write(fn, *args, scope=self._scope)


async def _endpoints(tx: Tx, limit: int) -> list[tuple[Endpoint, EndpointHealth]]:
    return await with_health(tx, await endpoints.page(tx, (-1, b""), limit))


def _walk(kind: TaskKind, wanted: Over) -> TaskWanted:
    from ...server.models import STATES_OF_STATUS

    states = operators.STATES[kind] if wanted.status is None else STATES_OF_STATUS[STATUS_TEXT.index(wanted.status)]
    since_us, until_us = (microseconds(at) if at is not None else 0 for at in (wanted.since, wanted.until))
    why = operators.check_why(wanted.why) if kind == "cancel" else ""
    return TaskWanted(None, since_us, until_us, states, tuple(wanted.event_types), why=why)


async def _dead(tx: Tx, wanted: Over, limit: int) -> list[DeliveryRow]:
    since_us, until_us = (microseconds(at) if at is not None else None for at in (wanted.since, wanted.until))
    found = await operators.dead_filter(tx, wanted.endpoint, wanted.event_types, since_us, until_us)
    return await store.dead_letters(tx, (b"", b""), limit, found)


async def _resend(tx: Tx, message_id: bytes, reference: str, deadline_s: float) -> None:
    endpoint = await endpoints.get(tx, reference)
    await store.message(tx, message_id)
    await store.resend(tx, message_id, endpoint.id, deadline_s)


def _described(tenant: str, wanted: NewEndpoint) -> Endpoint:
    return Endpoint(
        tenant=tenant,
        id=b"",
        uid=wanted.uid,
        url=check_url(wanted.url),
        description="",
        event_types=tuple(check_event_type(name) for name in wanted.event_types) or None,
        channels=None,
        disabled=False,
        rate_limit=None,
        metadata={},
        headers={},
        ordering=wanted.ordering,
        filter=check_filter(wanted.filter) if wanted.filter is not None else None,
        schedule=schedules.check(wanted.schedule) if wanted.schedule is not None else None,
        auth=wanted.connection,
    )


async def _add_endpoint(tx: Tx, sealer: Any, described: Endpoint, wanted: NewEndpoint) -> tuple[Endpoint, bytes]:
    made = await endpoints.create(tx, sealer, described, wanted.secret, wanted.key_kind)
    return made, (await endpoints.live_secrets(tx, sealer, made.id))[0].key


async def _rotate(tx: Tx, sealer: Any, reference: str, secret: str | None, kind: KeyKind | None, overlap_s: int) -> bytes:
    await endpoints.rotate_secret(tx, sealer, reference, secret, kind, overlap_s)
    return (await endpoints.live_secrets(tx, sealer, (await endpoints.get(tx, reference)).id))[0].key
