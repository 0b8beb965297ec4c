"""What an operator asks of many messages, as `netra.webhooks` offers it: each a decision with its audit entry, most of them tasks.

Times are epoch seconds. An endpoint is named by its id or uid, a message by its id, a task by `qtask_...`. What takes many transactions
answers at once with the running task; a process with workers walks it, and `task` tells how it stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.ids import from_text, to_text
from ..kernel.scope import Scope
from ..storage.database import Database
from ..storage.transaction import Tx
from . import endpoints, expunge, store, tasks
from .model import DeadFilter, DeliveryRow, Task, TaskKind, TaskWanted

ScopeOf = Callable[[str | None], Awaitable[Scope]]
"""The scope of a named tenant, or the one that the caller has entered."""

RECOVERED: Final = ("skipped", "dead")
REPLAYED: Final = ("delivered", "skipped", "dead", "cancelled")
STATES: Final[Mapping[TaskKind, tuple[str, ...]]] = {
    "recover": RECOVERED,
    "redrive": ("dead",),
    "replay_missing": (),
    "bulk_replay": REPLAYED,
    "cancel": ("due",),
}
"""The states of the deliveries that each kind of task changes, unless it is told others."""

LONGEST_WHY: Final = 500
MOST_EPOCH_S: Final = 253_402_300_800

Shape = dict[str, Any]


class Operators:
    """See the module's docstring; part of `Webhooks`."""

    _database: Database
    _scope_of: ScopeOf

    async def recover(self, endpoint: str, since: float, *, until: float | None = None, tenant: str | None = None) -> Shape:
        """Send an endpoint again what it missed: `skipped` and `dead` deliveries of messages since then are due, with new attempts."""
        return await self._begin("recover", endpoint, _wanted(since, until, states=RECOVERED), tenant)

    async def replay_missing(self, endpoint: str, since: float, *, until: float | None = None, tenant: str | None = None) -> Shape:
        """Send an endpoint the messages since then that it wants and that were never meant for it, because it was made or changed later."""
        return await self._begin("replay_missing", endpoint, _wanted(since, until), tenant)

    async def bulk_replay(
        self,
        endpoint: str,
        since: float,
        *,
        until: float | None = None,
        event_types: Sequence[str] = (),
        channel: str = "",
        tag: str = "",
        states: Sequence[str] = REPLAYED,
        tenant: str | None = None,
    ) -> Shape:
        """Send an endpoint again what it was sent since then, in these `states`: also what was delivered, unless it is left out."""
        wanted = _wanted(since, until, states=states, event_types=tuple(event_types), channel=channel, tag=tag)
        return await self._begin("bulk_replay", endpoint, wanted, tenant)

    async def redrive(
        self,
        endpoint: str | None = None,
        since: float = 0.0,
        *,
        until: float | None = None,
        event_types: Sequence[str] = (),
        tenant: str | None = None,
    ) -> Shape:
        """Send dead letters again: those to one endpoint or to all that take messages, of these event types, since then."""
        wanted = _wanted(since, until, states=("dead",), event_types=tuple(event_types))
        return await self._begin("redrive", endpoint, wanted, tenant)

    async def dead_letters(
        self,
        endpoint: str | None = None,
        *,
        event_types: Sequence[str] = (),
        since: float | None = None,
        until: float | None = None,
        after: tuple[str, str] | None = None,
        limit: int = 100,
        tenant: str | None = None,
    ) -> list[Shape]:
        """Dead letters by endpoint and message, behind `after` (an endpoint's id, a message's)."""
        scope = await self._scope_of(tenant)
        place = (from_text("ep", after[0]), from_text("msg", after[1])) if after is not None else (b"", b"")
        asked = (endpoint, tuple(event_types), since, until)
        return [dead_letter_of(row) for row in await self._database.read(_dead, asked, place, limit, scope=scope)]

    async def cancel(self, message: str, endpoint: str | None = None, *, why: str, tenant: str | None = None) -> Shape:
        """Cancel what of a message is due, to one endpoint or to all: `{"cancelled": [...], "under_way": [...]}`, endpoints' ids.

        An attempt under way is not stopped: its receiver may have the message already. Ask again where that matters.
        """
        scope = await self._scope_of(tenant)
        found = await self._database.write(cancel, from_text("msg", message), endpoint, check_why(why), scope=scope)
        return cancelled_of(*found)

    async def cancel_backlog(
        self, endpoint: str, *, why: str, since: float = 0.0, until: float | None = None, tenant: str | None = None
    ) -> Shape:
        """Cancel everything that waits for an endpoint, attempts that fail meanwhile included."""
        return await self._begin("cancel", endpoint, _wanted(since, until, states=("due",), why=check_why(why)), tenant)

    async def expunge(self, message: str, *, tenant: str | None = None) -> None:
        """Erase a message's payload; its id, states and attempts stay, and what was due of it is cancelled."""
        scope = await self._scope_of(tenant)
        await self._database.write(expunge.expunge, from_text("msg", message), scope=scope)

    async def expunge_attempt(self, message: str, attempt: str, *, tenant: str | None = None) -> None:
        """Erase what a receiver answered to one attempt."""
        scope = await self._scope_of(tenant)
        ids = from_text("msg", message), from_text("atmpt", attempt)
        await self._database.write(expunge.expunge_attempt, *ids, scope=scope)

    async def task(self, task: str, *, tenant: str | None = None) -> Shape:
        """How a task stands."""
        scope = await self._scope_of(tenant)
        return task_out(await self._database.read(tasks.get, from_text("qtask", task), scope=scope))

    async def tasks(self, *, after: str | None = None, limit: int = 50, tenant: str | None = None) -> list[Shape]:
        """The tenant's tasks, the newest first, behind the one named by `after`."""
        scope = await self._scope_of(tenant)
        last: Task | None = None
        if after is not None:
            last = await self._database.read(tasks.get, from_text("qtask", after), scope=scope)
        place = (last.created_us, last.id) if last is not None else None
        return [task_out(each) for each in await self._database.read(tasks.page, place, limit, scope=scope)]

    async def cancel_task(self, task: str, *, why: str = "", tenant: str | None = None) -> Shape:
        """End a running task between two pages; what it has changed stays so. Nothing of it is committed after this has answered."""
        scope = await self._scope_of(tenant)
        return task_out(await self._database.write(tasks.decide, from_text("qtask", task), why[:LONGEST_WHY], scope=scope))

    async def _begin(self, kind: TaskKind, endpoint: str | None, wanted: TaskWanted, tenant: str | None) -> Shape:
        scope = await self._scope_of(tenant)
        return task_out(await self._database.write(begin, kind, endpoint, wanted, scope=scope))


async def begin(tx: Tx, kind: TaskKind, reference: str | None, wanted: TaskWanted) -> Task:
    """A task for the endpoint of that id or uid, which must take messages; for all of them where none is named."""
    if reference is None:
        return await tasks.create(tx, kind, wanted)
    endpoint = await endpoints.get(tx, reference)
    if endpoint.disabled and kind != "cancel":
        raise InvalidInput("the endpoint is disabled", fix="Enable it first: what is sent to it meanwhile is recorded as skipped.")
    return await tasks.create(tx, kind, replace(wanted, endpoint_id=endpoint.id))


async def cancel(tx: Tx, message_id: bytes, reference: str | None, why: str) -> tuple[list[bytes], list[bytes]]:
    """`store.cancel` for the endpoint of that id or uid, or for all."""
    await store.message(tx, message_id)
    endpoint = await endpoints.get(tx, reference) if reference is not None else None
    return await store.cancel(tx, message_id, endpoint.id if endpoint is not None else None, why)


def check_why(why: str) -> str:
    """A reason as it is kept; `InvalidInput` where there is none, because who reads the trail later has nothing else."""
    text = why.strip()
    if not 1 <= len(text) <= LONGEST_WHY or not text.isprintable():
        raise InvalidInput("a reason is missing, too long or not printable", fix=f"Say why, in at most {LONGEST_WHY} printable characters.")
    return text


def cancelled_of(cancelled: Sequence[bytes], under_way: Sequence[bytes]) -> Shape:
    """The JSON of a cancellation."""
    return {"cancelled": [to_text("ep", each) for each in cancelled], "under_way": [to_text("ep", each) for each in under_way]}


def task_out(task: Task) -> Shape:
    """The JSON of a task; times are epoch microseconds."""
    wanted = task.wanted
    return {
        "task": task.text_id,
        "kind": task.kind,
        "state": task.state,
        "endpoint": to_text("ep", wanted.endpoint_id) if wanted.endpoint_id is not None else None,
        "since_us": wanted.since_us,
        "until_us": wanted.until_us,
        "states": list(wanted.states),
        "event_types": list(wanted.event_types),
        "messages": task.done,
        "changed": task.changed,
        "reason": task.reason or wanted.why or None,
        "created_us": task.created_us,
        "updated_us": task.updated_us,
        "finished_us": task.finished_us,
    }


def dead_letter_of(row: DeliveryRow) -> Shape:
    """The JSON of a dead letter."""
    return {
        "message": to_text("msg", row.message_id),
        "endpoint": to_text("ep", row.endpoint_id),
        "attempts": row.number,
        "last_status": row.last_status or None,
        "reason": row.reason,
    }


async def dead_filter(tx: Tx, reference: str | None, event_types: Sequence[str], since_us: int | None, until_us: int | None) -> DeadFilter:
    """The filter for the endpoint of that id or uid; `since_us` is inclusive, `until_us` exclusive."""
    endpoint = await endpoints.get(tx, reference) if reference is not None else None
    bounds = (-1 if since_us is None else since_us - 1, 2**62 if until_us is None else until_us)
    return DeadFilter(endpoint.id if endpoint is not None else None, tuple(event_types), *bounds)


async def _dead(
    tx: Tx, asked: tuple[str | None, tuple[str, ...], float | None, float | None], place: tuple[bytes, bytes], limit: int
) -> list[DeliveryRow]:
    endpoint, types, since, until = asked
    bounds = (None if since is None else _us(since), None if until is None else _us(until))
    return await store.dead_letters(tx, place, limit, await dead_filter(tx, endpoint, types, *bounds))


def _wanted(since: float, until: float | None, *, states: Sequence[str] = (), **more: Any) -> TaskWanted:
    unknown = set(states) - {*REPLAYED, "due"}
    if unknown:
        raise InvalidInput(f"{min(unknown)!r} is no state that can be sent again", fix=f"Choose among {', '.join(REPLAYED)}.")
    return TaskWanted(None, _us(since), _us(until) if until is not None else 0, tuple(states), **more)


def _us(epoch_s: float) -> int:
    if not 0 <= epoch_s < MOST_EPOCH_S:
        raise InvalidInput(f"{epoch_s!r} is not a time", fix="Give seconds since 1970, at most the year 9999.")
    return int(epoch_s * 1_000_000)
