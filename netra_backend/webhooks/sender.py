"""Makes attempts: one request per delivery, then its acknowledgement.

The slot in flight is free as soon as the request is over; the delivery stays this process's until the table knows the
outcome. An acknowledgement that cannot be written (disk full, writer in trouble) is tried again until it can: the
receiver has the message, and forgetting that would send it twice.

Nothing starts while the node is quiet (its last committed beat is too old), because others may have taken the rows.

An endpoint with `auth` is sent the access token of that connection, asked for at each attempt. Where none can be had nothing is sent, no
attempt is burned, and the endpoint is parked, so that a backlog is not taken up and put back delivery by delivery.

What an attempt says about its endpoint (`replies.py`) is known to `breakers` before the slot is free again, and is written
in the acknowledgement's transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel import debugging
from ..kernel.backoff import Schedule
from ..kernel.bearers import Bearers, NoBearers
from ..kernel.debugging import Watch, any_session, watching
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.runtime import Runtime
from ..kernel.scope import SYSTEM_TENANT, Scope, TraceContext
from ..kernel.spans import continued
from ..resilience.circuit_breaker import Outcome as Health
from ..resilience.egress import Egress, EgressError, Reply
from ..storage.database import Database
from ..storage.membership import Membership
from ..storage.transaction import Tx
from . import replies, schedules, store, verdicts
from .breakers import Breakers
from .lanes import Lanes
from .lines import PassedOver
from .model import Attempt, Delivery, Endpoint, News, Outcome, Secret, Verdict
from .paces import Paces
from .settings import WebhookSettings
from .signing import signature_header
from .snapshots import Snapshots
from .store import Lane

RESPONSE_KEPT: Final = 16 * 1024
RETRY_ACKNOWLEDGEMENT_S: Final = 0.25
USER_AGENT: Final = "Netra-Webhooks/1"
ATTEMPT_HEADER: Final = "netra-attempt"
"""Names the attempt to its receiver, so that its log and ours can be compared row by row."""

_OURS: Final = frozenset({
    "content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature",
    ATTEMPT_HEADER,
})  # fmt: skip
TRACE_SWITCH: Final = "netra.trace"
"""The member of an endpoint's metadata that has `traceparent` sent along, if it is `on`."""

_NOTHING_SENT: Final = replies.Said(Health.NOT_SENT)

TOKEN_AGAIN_S: Final = 10.0
"""How soon the vault is asked again for a token that it could not get for the moment."""

HIDDEN: Final = "[token]"
"""Stands in what is kept of an answer for the access token that came with the request, which some receivers send back."""

BEFORE_ATTEMPT: Final = declare("webhooks.before_attempt", "a delivery is leased and in memory, no request was made")
AFTER_ATTEMPT: Final = declare("webhooks.after_attempt_before_ack", "the receiver has answered, the table does not know")


@dataclass(frozen=True, slots=True)
class _Made:
    """What one request came to, before anything is decided."""

    id: bytes
    started_us: int
    duration_us: int
    said: replies.Said
    status: int = 0
    response: str = ""
    error: EgressError | None = None
    error_words: str = ""


class Sender:
    """See the module's docstring. `wants_claim`, `retry_at` and `passed_over` tell the dispatcher what it should look at."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: WebhookSettings,
        membership: Membership,
        snapshots: Snapshots,
        egress: Egress,
        bearers: Bearers | None = None,
    ) -> None:
        self.breakers = Breakers(database, runtime, settings, membership)
        self.breakers.changed = self._changed
        self.paces = Paces(runtime.clock, membership, snapshots.peek)
        self.lanes = Lanes(self.breakers.allowance, settings.in_flight_total, self.paces)
        self._brands = ("webhook", "svix") if settings.svix_headers else ("webhook",)
        self.wants_claim: Callable[[Lane], None] = _ignore
        self.retry_at: Callable[[Lane, int], None] = _ignore
        self.passed_over: PassedOver = _ignore
        self.running = False
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._membership = membership
        self._snapshots = snapshots
        self._egress = egress
        self._bearers = bearers or NoBearers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rests: dict[Lane, asyncio.Task[None]] = {}

    def accept(self, deliveries: Sequence[Delivery], *, claimed: bool = False) -> None:
        """Take over deliveries that a commit has leased to this process."""
        for delivery in deliveries:
            if delivery.owner == self._membership.id:
                self.lanes.add(delivery, claimed=claimed)
        self.pump()

    def pump(self) -> None:
        """Start every attempt that may start now."""
        while self.running and not self._membership.quiet and (delivery := self.lanes.next()) is not None:
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        resting, self.lanes.resting = self.lanes.resting, {}
        for lane, wait_s in resting.items():
            if lane not in self._rests:
                self._rests[lane] = asyncio.create_task(self._rest(lane, wait_s))

    async def _rest(self, lane: Lane, wait_s: float) -> None:
        """Go on with a lane whose next attempt has to wait, or whose limit is not known yet."""
        debugging.unwatched()  # begun by another lane's work
        try:
            if self.paces.knows(lane) or not await self.learn([lane]):
                await self._runtime.clock.sleep(wait_s)
        finally:
            del self._rests[lane]
        self.lanes.touch(lane)
        self.pump()

    async def learn(self, lanes: Iterable[Lane]) -> bool:
        """Have the endpoints of these lanes in memory, their limits with them; False where some tenant's cannot be read."""
        tenants = sorted({lane[0] for lane in lanes if not self.paces.knows(lane)})
        results = await asyncio.gather(*map(self._snapshots.get, tenants), return_exceptions=True)
        for tenant, error in zip(tenants, results, strict=True):
            if isinstance(error, BaseException):
                if not isinstance(error, NetraError):
                    raise error
                self._runtime.log.warning("nothing is sent for %s: %s", tenant, error)
        return not any(isinstance(result, BaseException) for result in results)

    def forget(self) -> None:
        """A new life began: what was leased to the former one is somebody else's."""
        for delivery in self.lanes.waiting_deliveries():
            self.lanes.drop(delivery)

    def _changed(self, lane: Lane) -> None:
        """The endpoint may be sent more than before, or less."""
        self.lanes.touch(lane)
        self.wants_claim(lane)

    async def finish(self, grace_s: float) -> None:
        """Wait for attempts under way; after `grace_s` they are given up, and the rows fall to the others."""
        self.running = False
        for rest in self._rests.values():
            rest.cancel()
        await asyncio.gather(*self._rests.values(), return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, delivery: Delivery) -> None:
        with watching(await self._listener(delivery)):
            await self._deliver_it(delivery)

    async def _listener(self, delivery: Delivery) -> Watch | None:
        """Who debugs this delivery: what its message's maker was watched by, or what selects its endpoint or trace."""
        if not any_session:
            return None
        message, endpoint = delivery.message, delivery.endpoint_id
        snapshot = self._snapshots.peek(message.tenant)
        known = snapshot.endpoints.get(endpoint) if snapshot is not None else None
        facts = {"endpoint": (to_text("ep", endpoint), *([known.uid] if known is not None and known.uid else ()))}
        return await self._runtime.debug.pick_up(Scope(message.tenant, "webhooks", message.trace), message.id, facts)

    async def _deliver_it(self, delivery: Delivery) -> None:
        tenant, _, endpoint_id = delivery.key
        began = self._runtime.clock.monotonic()
        try:
            outcome = await self._attempt(delivery)
        except NetraError as error:
            self._runtime.log.warning("no attempt of %s was made: %s", delivery.message.text_id, error)
            outcome = None
        except Exception:
            self._runtime.log.exception("no attempt of %s was made", delivery.message.text_id)
            outcome = None
        finally:
            wants = self.lanes.landed(delivery, self._runtime.clock.monotonic() - began)
            self.pump()
            if wants:
                self.wants_claim((tenant, endpoint_id))
        if outcome is None:
            self.lanes.drop(delivery)  # it stays leased in the table, and the release check makes it due again
            return
        try:
            kept = await self._acknowledge(outcome)
        finally:
            self.lanes.drop(delivery)  # also after an error of ours: what memory forgets, the release check finds
            if outcome.news is not None:
                await self._settled(outcome.news)
        if kept and outcome.verdict.state == "due":
            self.retry_at((tenant, endpoint_id), outcome.verdict.due_us)
        elif delivery.line is not None:
            self.wants_claim((tenant, endpoint_id))  # the next of its line is due now

    async def _settled(self, news: News) -> None:
        if news.disable:
            self._snapshots.forget(news.tenant)
        try:
            await self.breakers.settled(news)
        except NetraError as error:
            self._runtime.log.warning("the health of an endpoint could not be read again, the next look does: %s", error)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        snapshot = await self._snapshots.get(delivery.message.tenant)
        if not _takes(snapshot.endpoints.get(delivery.endpoint_id), delivery):
            snapshot = await self._snapshots.current(delivery.message.tenant)  # a final verdict is not left to an old copy
        endpoint = snapshot.endpoints.get(delivery.endpoint_id)
        by_type = (await self._snapshots.get(SYSTEM_TENANT)).schedules  # before the request: afterwards nothing may fail
        now_us = self._runtime.clock.wall_us()
        if endpoint is None or not _takes(endpoint, delivery):
            return self._unsent(delivery, now_us, verdicts.withdrawn(delivery, now_us, deleted=endpoint is None))
        if delivery.message.is_expunged:
            return self._unsent(delivery, now_us, verdicts.expunged(delivery, now_us))
        if now_us > delivery.deadline_us:
            return self._unsent(delivery, now_us, verdicts.expired(delivery, now_us))
        keys = _live(snapshot.secrets.get(endpoint.id, ()), now_us)
        if not keys:
            return self._unsent(delivery, now_us, verdicts.refused(delivery, now_us, "the endpoint has no live secret"))
        try:
            token = await self._token(delivery, endpoint)
        except NetraError as error:
            return self._parked(delivery, f"no token of the connection {endpoint.auth!r}: {error} {error.fix}".strip(), error)
        self._runtime.failpoints.hit(BEFORE_ATTEMPT)
        self._runtime.uses.note(endpoint.tenant, "webhooks", "endpoint.secret.use", endpoint.id.hex())
        made = await self._request(delivery, endpoint, keys, token)
        self._runtime.failpoints.hit(AFTER_ATTEMPT)
        verdict = self._judge(delivery, made, schedules.of_delivery(self._settings.schedule, by_type, endpoint, delivery))
        news = self.breakers.note((endpoint.tenant, endpoint.id), made.said, made.started_us)
        return Outcome(delivery, self._record(delivery, endpoint, made, verdict), verdict, news)

    def _unsent(self, delivery: Delivery, now_us: int, verdict: Verdict) -> Outcome:
        """No request was made: if this was the endpoint's probe, it is given back."""
        lane = (delivery.message.tenant, delivery.endpoint_id)
        return Outcome(delivery, None, verdict, self.breakers.note(lane, _NOTHING_SENT, now_us))

    async def _token(self, delivery: Delivery, endpoint: Endpoint) -> str | None:
        """The access token that goes along, None where the endpoint wants none."""
        if endpoint.auth is None:
            return None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._bearers.bearer(Scope(endpoint.tenant, "webhooks", delivery.message.trace), endpoint.auth)
        except TimeoutError as error:
            raise Unavailable("it is being renewed, and that takes long") from error

    def _parked(self, delivery: Delivery, reason: str, error: NetraError) -> Outcome:
        """Nothing was sent, and nothing is until the token may be there."""
        again_s = TOKEN_AGAIN_S if isinstance(error, Unavailable) else verdicts.REFUSED_AGAIN_S
        now_us = self._runtime.clock.wall_us()
        news = self.breakers.note((delivery.message.tenant, delivery.endpoint_id), replies.parked(again_s), now_us)
        return Outcome(delivery, None, verdicts.refused(delivery, now_us, reason, again_s), news)

    async def _request(self, delivery: Delivery, endpoint: Endpoint, keys: Sequence[bytes], token: str | None) -> _Made:
        clock = self._runtime.clock
        attempt_id, started_us, began = self._runtime.ids.new(), clock.wall_us(), clock.monotonic()
        body = delivery.message.payload.encode()
        try:
            reply = await self._egress.request(
                "POST",
                endpoint.url,
                headers=[
                    *_headers(delivery, endpoint, keys, token, attempt_id, started_us // 1_000_000, body, self._brands),
                    *_trace_header(delivery, endpoint, attempt_id, started_us),
                ],
                body=body,
                tenant=delivery.message.tenant,
                timeout_s=self._settings.timeout_s,
                connect_timeout_s=self._settings.connect_timeout_s,
            )
        except EgressError as error:
            took_us, said = int((clock.monotonic() - began) * 1e6), replies.read_error(error)
            return _Made(attempt_id, started_us, took_us, said, error=error, error_words=_without(f"{error.detail} {error.fix}", token))
        said = replies.read(reply, clock.wall_us())
        return _Made(attempt_id, started_us, int(reply.duration_s * 1e6), said, reply.status, _readable(reply, token))

    def _judge(self, delivery: Delivery, made: _Made, schedule: Schedule) -> Verdict:
        now_us, said, error = self._runtime.clock.wall_us(), made.said, made.error
        if said.health is Health.SUCCESS:
            return verdicts.delivered(delivery, now_us)
        if error is not None and said.health is Health.NOT_SENT:
            return verdicts.refused(delivery, now_us, f"{error.detail} {error.fix}".strip())
        if said.disable:
            return verdicts.unwanted(delivery, now_us, said.disable)
        reason = f"status {made.status}" if error is None else error.kind
        if said.abort:
            return verdicts.aborted(delivery, now_us, reason)
        return verdicts.failed(delivery, now_us, reason, schedule, self._runtime.chance, said.floor_s)

    def _record(self, delivery: Delivery, endpoint: Endpoint, made: _Made, verdict: Verdict) -> Attempt:
        burned = verdict.number > delivery.number
        outcome = "delivered" if verdict.state == "delivered" else "failed" if burned else "refused"
        error = _storable(made.error_words.strip())
        return Attempt(
            delivery.message.tenant,
            delivery.message.id,
            made.id,
            endpoint.id,
            verdict.number,
            delivery.manual,
            made.started_us,
            made.duration_us,
            outcome,
            made.status,
            made.error.kind if made.error is not None else "",
            error,
            made.response,
            endpoint.url,
            late=False,
            trace=_trace_of(delivery, made.id, made.started_us),
        )

    async def _acknowledge(self, outcome: Outcome) -> bool:
        """Write it down, however long that takes; True if the lease was still ours.

        Also when this life of the node is over, and after a commit of unknown outcome: the request did go out, its
        attempt is a row of its own whose key makes a repetition harmless, and the fence decides about the rest.
        """
        while True:
            try:
                kept: bool = await self._database.write_item(self._write_down, outcome)
            except (Unavailable, OutcomeUnknown) as error:
                self._runtime.log.warning("an acknowledgement could not be written yet: %s", error)
                await self._runtime.clock.sleep(RETRY_ACKNOWLEDGEMENT_S)
            else:
                if kept:
                    self._count(outcome)
                return kept

    async def _write_down(self, tx: Tx, outcomes: Sequence[Outcome]) -> list[bool]:
        return await store.acknowledge(tx, outcomes, self.passed_over)

    def _count(self, outcome: Outcome) -> None:
        state = outcome.verdict.state
        metrics, result = self._runtime.metrics, "failed" if state == "due" else state
        metrics.count("netra_webhook_deliveries_total", outcome=result)
        metrics.count("netra_tenant_deliveries_total", outcome=result, tenant=outcome.delivery.message.tenant)
        if outcome.attempt is not None:
            metrics.observe("netra_webhook_attempt_seconds", outcome.attempt.duration_us / 1_000_000)


def _trace_of(delivery: Delivery, attempt_id: bytes, started_us: int) -> TraceContext:
    """Where the attempt stands: in its message's trace while that is fresh, else in one of its own."""
    return continued(delivery.message.trace, started_us - delivery.message.created_us, attempt_id)[0]


def _takes(endpoint: Endpoint | None, delivery: Delivery) -> bool:
    """Whether the endpoint is there and wants this now; what an operator sends again goes out although it is disabled."""
    return endpoint is not None and (delivery.manual or not endpoint.disabled)


def _live(secrets: Sequence[Secret], now_us: int) -> list[bytes]:
    """Every key that may sign now (W9: none that has been revoked), the newest first."""
    return [secret.key for secret in secrets if secret.expires_us is None or secret.expires_us > now_us]


def _headers(
    delivery: Delivery,
    endpoint: Endpoint,
    keys: Sequence[bytes],
    token: str | None,
    attempt_id: bytes,
    timestamp_s: int,
    body: bytes,
    brands: Sequence[str],
) -> list[tuple[str, str]]:
    """The endpoint's own and ours; what a receiver verifies by stands there once for each brand."""
    ours = _OURS if token is None else _OURS | {"authorization"}
    message_id = to_text("msg", delivery.message.id)
    signed = {"id": message_id, "timestamp": str(timestamp_s), "signature": signature_header(keys, message_id, timestamp_s, body)}
    return [
        *((name, value) for name, value in endpoint.headers.items() if name.lower() not in ours),
        *([] if token is None else [("authorization", f"Bearer {token}")]),
        ("content-type", "application/json"),
        ("user-agent", USER_AGENT),
        *((f"{brand}-{name}", value) for brand in brands for name, value in signed.items()),
        (ATTEMPT_HEADER, to_text("atmpt", attempt_id)),
    ]


def _trace_header(delivery: Delivery, endpoint: Endpoint, attempt_id: bytes, started_us: int) -> list[tuple[str, str]]:
    """The attempt's position (W3C Trace Context), only where the tenant has turned that on: it tells a stranger what belongs together."""
    if endpoint.metadata.get(TRACE_SWITCH) != "on":
        return []
    return [("traceparent", _trace_of(delivery, attempt_id, started_us).traceparent)]


def _readable(reply: Reply, token: str | None) -> str:
    """The head of a response body as text."""
    if token is None:
        return _storable(reply.body[:RESPONSE_KEPT].decode("utf-8", "replace"))
    return _storable(_without(reply.body.decode("utf-8", "replace"), token)[:RESPONSE_KEPT])


def _without(text: str, token: str | None) -> str:
    """A text that may quote what the receiver sent, without the token that it was sent; also where the quotation is cut short."""
    if token is None:
        return text
    text = text.replace(token, HIDDEN)
    for length in range(min(len(token) - 1, len(text)), _LEAST_TOLD, -1):
        if text.endswith(token[:length]):
            return text[:-length] + HIDDEN
    return text


_LEAST_TOLD: Final = 8
"""So many characters of a token at the end of a text tell nothing of it."""


def _storable(text: str) -> str:
    """Text that a row can hold: no NUL, no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _ignore(*_: object) -> None:
    return
