"""Webhooks as the rest of Netra sees them: send in a transaction, accept from the network, resend."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from ..errors import InvalidInput, MissingTenant, NetraError, NotFound, OutcomeUnknown, Unavailable
from ..kernel.ids import to_text
from ..kernel.runtime import Runtime
from ..kernel.scope import SYSTEM_TENANT, Scope, TraceContext
from ..resilience.single_flight import SingleFlight
from ..storage.database import Database
from ..storage.membership import Membership
from ..storage.sealing import Sealer
from ..storage.transaction import Tx
from . import endpoints, inbox, intake, quotas, schedules
from .endpoints import check_event_type
from .errors import PayloadTooLarge, SchemaMismatch, UnknownEventType
from .filters import wanting
from .inbox import Received
from .intake import Answer, Intake, StaleSnapshot, Target
from .model import Accepted, Delivery, Endpoint, NewMessage, Snapshot
from .operators import Operators, ScopeOf
from .schemas import LARGE_CHARACTERS, Schemas
from .sender import Sender
from .settings import WebhookSettings
from .signing import verify
from .snapshots import Snapshots
from .store import Key, Lane
from .worker import Dispatcher

STALE_TRIES: Final = 20
MESSAGES_AT_ONCE: Final = 256
DELIVERIES_AT_ONCE: Final = 1024
"""What one part of a list may come to, and about what the writer takes in one unit: a wide fan-out holds its lock no longer."""
LONGEST_NAME: Final = 256
MOST_EPOCH_S: Final = 253_402_300_800

Room = Callable[[Key], bool]
"""Whether a delivery may be inserted leased to this process, because its sender has room for it."""


async def _no_scope(tenant: str | None) -> Scope:
    if tenant is None:
        raise MissingTenant
    return Scope(tenant, "library")


class Webhooks(Operators):
    """`netra.webhooks`. `sender` is None where this process has no workers: everything is then inserted due."""

    verify = staticmethod(verify)

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: WebhookSettings,
        sealer: Sealer,
        membership: Membership,
        snapshots: Snapshots,
        dispatcher: Dispatcher | None,
        scope_of: ScopeOf = _no_scope,
    ) -> None:
        self.settings = settings
        self.snapshots = snapshots
        self.dispatcher = dispatcher
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._membership = membership
        self._quotas = quotas.Quotas(runtime.clock, settings)
        self._scope_of = scope_of
        self.schemas = Schemas(runtime.clock)
        self._schemas_read: SingleFlight[str, None] = SingleFlight()

    @property
    def sender(self) -> Sender | None:
        """What makes attempts in this process, if anything does."""
        return self.dispatcher.sender if self.dispatcher is not None else None

    async def send(
        self,
        tx: Tx,
        type: str,
        payload: Any,
        *,
        event_id: str | None = None,
        content_key: bool = False,
        deliver_at: float | None = None,
        channels: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        ordering_key: str | None = None,
        schedule: str | Sequence[float] | None = None,
    ) -> str:
        """Store a message in the caller's transaction and return its id: it is delivered iff that commits.

        `payload` is anything JSON can say. `event_id` makes a repetition harmless: the same content returns the first
        message's id, other content raises `KeyReused`. `content_key=True` derives that key from tenant, type and
        payload, for producers that cannot keep an id. `deliver_at` is epoch seconds. Messages of one `ordering_key` reach
        an endpoint that orders by key one after the other, in the order of their commits. `schedule` is the message's own retry
        schedule: seconds to wait after each failed attempt (`[5, 300]`), or `netra`, `svix` or `standard`.
        """
        message = {
            "type": type,
            "payload": payload,
            "event_id": event_id,
            "content_key": content_key,
            "deliver_at": deliver_at,
            "channels": channels,
            "tags": tags,
            "ordering_key": ordering_key,
            "schedule": schedule,
        }
        return (await self.send_many(tx, [message]))[0]

    async def send_many(self, tx: Tx, messages: Sequence[NewMessage | Mapping[str, Any]]) -> list[str]:
        """Like `send` for a list: each a `NewMessage`, or a mapping of `send`'s arguments. Returns the ids in order."""
        self._database.check_intake()
        async with tx.verb():
            await self._quotas.check_queue(tx.tenant, partial(quotas.queued, tx))
            self._quotas.take_all(tx.tenant, len(messages))
            return await self._send_many(tx, messages)

    async def _send_many(self, tx: Tx, messages: Sequence[NewMessage | Mapping[str, Any]]) -> list[str]:
        news = [m if isinstance(m, NewMessage) else self.new_message(tx.tenant, **m) for m in messages]
        await self._check_types(tx, news)
        if not self.schemas.fresh:
            await self.schemas.load(tx)
        for refusal in self.schemas.refusals(news).values():
            raise refusal
        return [to_text("msg", id_) for id_ in await self._store_in(tx, news)]

    async def send_to(self, tx: Tx, endpoint: Endpoint, type: str, payload: Any) -> bytes:
        """Store a message for one endpoint alone, whatever it takes otherwise: an example. Returns the id."""
        self._database.check_intake()
        self._quotas.take_all(tx.tenant, 1)
        return (await self._store_in(tx, [self.new_message(tx.tenant, type, payload)], endpoint.id))[0]

    async def _store_in(self, tx: Tx, news: Sequence[NewMessage], only: bytes | None = None) -> list[bytes]:
        """Fan messages out in an open transaction: to whom they match, or to one endpoint."""
        for _ in range(STALE_TRIES):
            snapshot = await endpoints.current_snapshot(tx, self.snapshots.peek(tx.tenant))
            if only is not None and only not in snapshot.endpoints:
                raise NotFound("the endpoint was deleted just now")
            taken: Counter[Lane] = Counter()
            items = [self._intake(tx.scope, new, snapshot, self._room(taken, own=tx.own), only) for new in news]
            answers = await self._ingest(tx, items)
            if not any(isinstance(answer, StaleSnapshot) for answer in answers):  # all are, or none: one tenant, one version
                return [_accepted(answer).message.id for answer in answers]
        raise _too_quick()

    async def receive(
        self, tx: Tx, headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str], *, source: str = ""
    ) -> Received:
        """For a receiver of webhooks, Netra's or anybody's of the Standard Webhooks: verify, and say whether this one is new.

        Its id is taken in the caller's transaction, so that what the caller does there for a new one happens once however often
        it arrives; a rollback gives it back. `source` keeps apart senders whose ids may be equal. Raises as `verify` does.
        """
        async with tx.verb():
            return await inbox.receive(tx, headers, body, secret, source=source)

    async def accept(self, scope: Scope, news: Sequence[NewMessage]) -> list[Answer]:
        """Store messages from the network, each by itself, in the transactions of everybody who waits just now.

        One answer per message, in order: `Accepted`, or the error that concerns this one alone. Nothing is answered
        before its commit. A long list is stored part by part, so that it does not keep others from the write lock.
        What is over the tenant's quota is answered with `QuotaExceeded`.
        """
        self._database.check_intake()
        await self._quotas.check_queue(scope.tenant, partial(self._database.read, quotas.queued, scope=scope))
        allowed, refusal = self._quotas.take_up_to(scope.tenant, len(news))
        answers = await self._accept_checked(scope, news[:allowed]) if allowed else []
        return answers if refusal is None else [*answers, *[refusal] * (len(news) - allowed)]

    async def _accept_checked(self, scope: Scope, news: Sequence[NewMessage]) -> list[Answer]:
        if self.settings.strict_event_types:
            await self._database.read(self._check_types, news, scope=scope)
        if refused := await self._mismatches(news):
            fitting = [new for place, new in enumerate(news) if place not in refused]
            others = iter(await self._accept_all(scope, fitting))
            return [refused[place] if place in refused else next(others) for place in range(len(news))]
        return await self._accept_all(scope, news)

    async def _mismatches(self, news: Sequence[NewMessage]) -> dict[int, SchemaMismatch]:
        if not self.schemas.fresh:
            await self._schemas_read.run("", lambda: self._database.read(self.schemas.load, scope=Scope(SYSTEM_TENANT)))
        if not self.schemas.concern(news):
            return {}
        if sum(len(new.payload) for new in news) < LARGE_CHARACTERS:
            return self.schemas.refusals(news)
        return await asyncio.to_thread(self.schemas.refusals, news)

    async def _accept_all(self, scope: Scope, news: Sequence[NewMessage]) -> list[Answer]:
        answers: list[Answer] = []
        at_once = _at_once(await self.snapshots.get(scope.tenant))
        for start in range(0, len(news), at_once):
            part = news[start : start + at_once]
            try:
                answers += await self._accept(scope, part)
            except (Unavailable, OutcomeUnknown) as error:
                if not answers:
                    raise
                answers += [error] * len(part)  # the parts before are stored, and are answered as such
        return answers

    async def _accept(self, scope: Scope, news: Sequence[NewMessage]) -> list[Answer]:
        snapshot = await self.snapshots.get(scope.tenant)
        todo = list(range(len(news)))
        done: dict[int, Answer] = {}
        for _ in range(STALE_TRIES):
            results = await self._store([news[i] for i in todo], scope, snapshot)
            done.update(zip(todo, results, strict=True))
            todo = [i for i in todo if isinstance(done[i], StaleSnapshot)]
            if not todo:
                return [done[i] for i in range(len(news))]
            snapshot = await self.snapshots.refresh(scope.tenant)
        raise _too_quick()

    def new_message(
        self,
        tenant: str,
        type: str,
        payload: Any,
        *,
        event_id: str | None = None,
        content_key: bool = False,
        deliver_at: float | None = None,
        channels: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        ordering_key: str | None = None,
        schedule: str | Sequence[float] | None = None,
    ) -> NewMessage:
        """Check what a producer gave and render its payload."""
        text = _render(payload)
        if event_id is None and content_key:
            event_id = derive_content_key(tenant, type, payload)
        return self.checked(
            NewMessage(
                check_event_type(type),
                text,
                event_id,
                channels=None if channels is None else tuple(channels),
                tags=None if tags is None else tuple(tags),
                deliver_at_us=None if deliver_at is None else _microseconds(deliver_at),
                ordering_key=ordering_key,
                schedule=None if schedule is None else schedules.check(schedule),
            )
        )

    def checked(self, new: NewMessage) -> NewMessage:
        """The message, if it is within its bounds; with its hash where a key may be repeated."""
        limit = self.settings.payload_max_bytes
        if len(new.payload) > limit // 4 and len(new.payload.encode()) > limit:
            raise PayloadTooLarge(f"the payload is larger than {self.settings.payload_max_bytes} bytes")
        _check_names("eventId", [new.event_id] if new.event_id is not None else [])
        _check_names("a key", [new.idempotency_key] if new.idempotency_key is not None else [])
        _check_names("a channel", new.channels or ())
        _check_names("a tag", new.tags or ())
        _check_names("an ordering key", [new.ordering_key] if new.ordering_key is not None else [])
        if new.event_id is None and new.idempotency_key is None:
            return new
        return replace(new, body_hash=intake.content_hash(new))

    async def _store(self, news: Sequence[NewMessage], scope: Scope, snapshot: Snapshot) -> list[Answer]:
        items = [self._intake(scope, new, snapshot, self._reserve) for new in news]
        weight = max(len(items), sum(len(item.targets) for item in items) * MESSAGES_AT_ONCE // DELIVERIES_AT_ONCE)
        try:
            if len(items) == 1:
                return [await _as_answer(self._database.write_item(self._ingest, items[0], weight=weight))]
            results: list[Answer] = await self._database.write_item(self._ingest_batch, items, weight=weight)
            return results
        finally:
            self._settle(items)

    def _intake(self, scope: Scope, new: NewMessage, snapshot: Snapshot, room: Room, only: bytes | None = None) -> Intake:
        message_id = self._runtime.ids.new()
        tenant, trace = scope.tenant, scope.trace
        if not trace.trace_id:  # nobody traces the caller: the message begins a trace of its own
            trace = TraceContext(self._runtime.ids.new().hex(), message_id[8:].hex())
        targets = []
        wanted = wanting(snapshot.matching(new.event_type, new.channels), new) if only is None else [snapshot.endpoints[only]]
        for endpoint in wanted:
            skip = "the endpoint is disabled" if endpoint.disabled else None
            line = endpoint.line_of(new.ordering_key)
            lease = skip is None and line is None and new.deliver_at_us is None and room((tenant, message_id, endpoint.id))
            targets.append(Target(endpoint.id, lease, skip, line))
        return Intake(
            tenant,
            message_id,
            new,
            snapshot.version,
            targets,
            self.settings.deadline_s,
            trace,
            self._membership.id,
            self.settings.svix_strict,
            debug=scope.debug,
        )

    def _reserve(self, key: Key) -> bool:
        """Keep a place in the sender for a delivery that we commit ourselves; given back by `_settle`."""
        sender = self.sender
        if sender is None or not sender.running or self._membership.quiet:
            return False
        if not sender.lanes.reserve((key[0], key[2])):
            return False
        sender.lanes.expect([key])
        return True

    def _room(self, taken: Counter[Lane], *, own: bool) -> Room:
        """Only a look at the sender, which keeps no place.

        The transaction is the caller's, who may roll back without our hearing of it; and this may be the writer's thread.
        """

        def room(key: Key) -> bool:
            sender, lane = self.sender, (key[0], key[2])
            if not own or sender is None or not sender.running or self._membership.quiet:
                return False
            taken[lane] += 1
            return sender.lanes.has_room(lane, taken[lane])

        return room

    def _settle(self, items: Sequence[Intake]) -> None:
        if self.sender is None:
            return
        for item in items:
            self.sender.lanes.settle((item.tenant, item.id, target.endpoint_id) for target in item.targets if target.lease)

    async def _ingest(self, tx: Tx, items: Sequence[Intake]) -> list[Answer]:
        return await intake.ingest(tx, items, self._hand_over)

    async def _ingest_batch(self, tx: Tx, batches: Sequence[Sequence[Intake]]) -> list[list[Answer]]:
        answers = iter(await self._ingest(tx, [item for batch in batches for item in batch]))
        return [[next(answers) for _ in batch] for batch in batches]

    def _hand_over(self, deliveries: Sequence[Delivery]) -> None:
        if self.sender is not None:
            self.sender.accept(deliveries)

    async def _check_types(self, tx: Tx, news: Sequence[NewMessage]) -> None:
        if not self.settings.strict_event_types:
            return
        for name in sorted({new.event_type for new in news}):
            try:
                await endpoints.get_event_type(tx, name)
            except NetraError as error:
                raise UnknownEventType(f"there is no event type {name!r}") from error


def _too_quick() -> Unavailable:
    return Unavailable("the tenant's endpoints change too quickly to fan a message out")


def _at_once(snapshot: Snapshot) -> int:
    """How many messages of a list are stored in one piece, should each go to every endpoint."""
    return max(1, min(MESSAGES_AT_ONCE, DELIVERIES_AT_ONCE // max(1, len(snapshot.endpoints))))


async def _as_answer(write: Any) -> Answer:
    """The writer raises what concerns one item; a batch of one answers with it as a larger one does."""
    try:
        accepted: Accepted = await write
    except NetraError as error:
        if isinstance(error, Unavailable) and not isinstance(error, StaleSnapshot):
            raise
        return error
    return accepted


def _check_names(what: str, names: Sequence[Any]) -> None:
    """Printable text of a bounded length: no NUL, no control character, no half of a surrogate pair."""
    for name in names:
        if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidInput(f"{what} must be 1 to {LONGEST_NAME} printable characters", fix="Use an id of plain letters and digits.")


def _microseconds(epoch_s: float) -> int:
    if not 0 <= epoch_s < MOST_EPOCH_S:
        raise InvalidInput(f"deliver_at {epoch_s!r} is not a time", fix="Give seconds since 1970, at most the year 9999.")
    return int(epoch_s * 1_000_000)


def _accepted(answer: Answer) -> Accepted:
    if isinstance(answer, NetraError):
        raise answer
    return answer


def _render(payload: Any) -> str:
    try:
        return orjson.dumps(payload).decode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the payload is not JSON: {error}", fix="Pass dicts, lists, strings, numbers, booleans and None.") from error


def derive_content_key(tenant: str, event_type: str, payload: Any) -> str:
    """A key from what the message says: SHA-256 over tenant, type and the payload with its keys sorted."""
    canonical = orjson.dumps([tenant, event_type, payload], option=orjson.OPT_SORT_KEYS)
    return "content_" + hashlib.sha256(canonical).hexdigest()
