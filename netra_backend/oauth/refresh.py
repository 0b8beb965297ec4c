"""The refresh protocol: lease, intent, lineage.

What must hold, however many callers, processes, crashes, pauses and lost answers there are:

- O1 One token request is in flight per grant: callers of a process share one flight, and processes exclude each other by a lease in
  the connection's row.
- O2 An answer that was read is never lost: it is in the spool before anything is done with it, and whoever takes the lease over looks
  there first.
- O3 A token that was superseded is never sent. Safety is in no lease, which a paused process holds for ever in its own eyes, but in two
  things: nothing is sent once the lease's age leaves no room for a request and its commit (`fence_s`), and a commit asks for
  the parent's generation and fingerprint. What remains is a process paused between that check and its write.
- O4 A grant is given up only on `invalid_grant` for its current token, under its lease, with no orphan left; what a client signs for
  (`assertion.py`) on `invalid_grant` for the assertion of this attempt.
- O5 The flight belongs to the vault. A caller that is cancelled changes nothing.
- O7 A success that comes late is committed if its parent is still current, else kept as an orphan.

One round: take the lease and write the intent in one transaction (`store.begin`); send once, on a connection of its own, without retries
and redirects; decide by the class of the answer (`answers.py`). NOT_SENT goes to the issuer's next endpoint. `invalid_client` tries
the other secret. AMBIGUOUS sends the same token again, at a random time, where the provider is not known to punish that;
where it is, the old access token serves and one replay is made just before it ends. In every failing state
the old access token serves until its end.

Rejected: a lease as the only guard, an unconditional write-back, retries in the HTTP client, and a lock that is deleted without a look at
whose it is; each is in wide use, and each loses tokens.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import orjson

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel.debugging import any_session, watching
from ..kernel.failpoints import declare
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress import Egress, Reply
from ..resilience.egress_error import EgressError
from ..storage.database import Database
from ..storage.sealing import Sealer
from . import answers, flows, store
from .answers import Kind, Outcome
from .assertion import ASSERTION_TYPE, GRANT, PRIVATE_KEY_JWT, assertion, granting
from .breakers import OPEN, REFRESH, Breakers
from .errors import RefreshFailed, UnknownConnection
from .holders import Holders
from .model import JWT_BEARER, OWN_RIGHT, Busy, Client, Connection, Lease, Ready, Step
from .settings import OAuthSettings
from .spool import Spool, Spooled

WAIT_S: Final = 0.05
MOST_REPLAYS: Final = 5
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 60.0
MISCONFIGURED_PAUSE_S: Final = 30.0
COMMIT_TRIES: Final = 5
UNSPOOLED_TRIES: Final = 1000
"""Of an answer whose only copy is in memory: twenty minutes."""
TOO_OLD: Final = "lease_too_old"
"""This process slept between taking the lease and sending: nothing was sent, and it begins anew."""

NOTHING_SIGNED: Final = "no_assertion"
"""The registration has none any more, though its connection is by one: nothing was sent, and it waits for a better registration."""

_NOBODY_ASKED: Final = frozenset({TOO_OLD, OPEN})
"""Causes of a refresh that failed without a request: nobody is told, or each of many that wait for one probe would have an entry."""

OF_A_CODE: Final = "code:"
"""Begins the parent's name of an answer that a code was traded for; the way's id follows."""

BEFORE_SEND: Final = declare("oauth.intent_before_send", "the lease is taken and the intent is durable, nothing has been sent")
SPOOLED: Final = declare("oauth.spooled_before_commit", "an answer with tokens is in the spool, nothing of it is in the database")
COMMITTED: Final = declare("oauth.committed_before_unspooled", "a successor is committed, its answer is still in the spool")
ANSWERED: Final = declare("oauth.answered_before_noted", "an answer without tokens was read, nothing of it is in the database")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a refresh brought no newer token: each endpoint that was tried, with its cause."""

    tried: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """For people."""
        return "; ".join(f"{endpoint}: {cause}" for endpoint, cause in self.tried)


class Refresher:
    """One refresh at a time of one connection; see the module's docstring. Who shares a flight is decided above."""

    def __init__(
        self, database: Database, runtime: Runtime, settings: OAuthSettings, sealer: Sealer, egress: Egress, holders: Holders, spool: Spool
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._sealer = sealer
        self._egress = egress
        self._holders = holders
        self._spool = spool
        self.breakers = Breakers(runtime, settings)
        self.observe: Callable[[Scope, Client, Outcome], None] | None = None
        """Hears what came of each refresh: traffic that somebody has proven a right to."""

    async def refresh(self, scope: Scope, id_: bytes, known: int, *, forced: bool = False) -> tuple[Connection, Failure | None]:
        """How the connection stands once generation `known` was replaced, by us or by others, or could not be.

        `Unavailable` where another process holds the lease for longer than it can.
        """
        clock = self._runtime.clock
        give_up_at = clock.monotonic() + 2 * self._settings.lease_ttl_s
        lapsed: tuple[bytes, int] | None = None
        while True:
            began = clock.monotonic()
            step: Step = await self._write(scope, store.begin, id_, known, self._holders.me, lapsed, forced=forced)
            if isinstance(step, Lease):
                self._holders.forget(scope.tenant, id_)
                now, failure = await self._fly(scope, step, began)
                if failure is None or failure.tried[-1][1] != TOO_OLD or clock.monotonic() > give_up_at:
                    return now, failure
                lapsed = None
                continue
            if isinstance(step, Ready):
                self._holders.forget(scope.tenant, id_)
                return step.connection, None
            if clock.monotonic() > give_up_at:
                raise Unavailable("another process has been refreshing this connection for too long")
            lapsed = await self._judge(scope, step)
            if lapsed is None:
                await clock.sleep(WAIT_S)

    async def replay_spool(self, scope: Scope, lapsed: bytes | None = None) -> None:
        """Commit what ended processes of this host, and failed commits of our own, have left in the spool.

        Of the connection `lapsed`, whose lease is nobody's any more, also what a process has left that merely stands still: the
        lineage decides between the two commits. One that cannot be committed keeps no other waiting; it is told at the end.
        """
        failures: list[NetraError] = []
        for path, spooled in self._spool.of(lapsed):
            ours = lapsed is not None or spooled.holder == self._holders.me or self._holders.is_gone(spooled.holder)
            if spooled.tenant == scope.tenant and ours:
                try:
                    await self._replay(scope, path, spooled)
                except NetraError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def leftovers(self) -> set[str]:
        """Tenants of whom something is in the spool."""
        return {spooled.tenant for _, spooled in self._spool.of()}

    async def _judge(self, scope: Scope, busy: Busy) -> tuple[bytes, int] | None:
        """The lease, if it is nobody's any more. What its holder has read is committed first: then there is nothing to send."""
        if not self._holders.has_lapsed(scope.tenant, busy.connection.id, busy.holder, busy.fence):
            return None
        await self.replay_spool(scope, busy.connection.id)
        return busy.holder, busy.fence

    async def _fly(self, scope: Scope, lease: Lease, began: float) -> tuple[Connection, Failure | None]:
        try:
            now, failure = await self._rounds(scope, lease, began)
        except NetraError:
            self._count("error")
            raise
        self._count("refreshed" if now.generation > lease.connection.generation else now.state if failure else "superseded")
        return now, failure

    async def _rounds(self, scope: Scope, lease: Lease, began: float) -> tuple[Connection, Failure | None]:
        """Send, and send again while that may help and the lease has room for it."""
        tried: list[tuple[str, str]] = []
        outcome = Outcome(Kind.NOT_SENT, TOO_OLD)
        for number in range(MOST_REPLAYS):
            outcome, now = await self._send(scope, lease, began, tried)
            if now is not None:
                return now, None
            if outcome.kind is not Kind.AMBIGUOUS or not self._may_replay(lease, number):
                return await self._settle(scope, lease, outcome, tried)
            lease = replace(lease, replayed=True, connection=replace(lease.connection, attempt_at=outcome.endpoint))
            pause = self._runtime.chance.uniform(0, min(FIRST_PAUSE_S * 2**number, self._settings.lease_ttl_s / 10))
            if self._age(began) + pause >= self._settings.fence_s:
                return await self._settle(scope, lease, outcome, tried)
            await self._runtime.clock.sleep(pause)
            if not await self._write_plain(scope, store.send_again, lease, outcome.endpoint):
                return await self._write(scope, store.current, lease.connection.id), Failure(tuple(tried))
        return await self._settle(scope, lease, outcome, tried)

    def _may_replay(self, lease: Lease, number: int) -> bool:
        """Whether the provider takes a token again whose answer was lost, as far as anybody knows."""
        window_s = lease.client.replay_window_s if lease.connection.kind is None else None
        if number >= MOST_REPLAYS - 1 or window_s == 0:
            return False
        first_us = lease.connection.attempt_us
        return window_s is None or first_us is None or self._runtime.clock.wall_us() - first_us < window_s * 1_000_000

    async def _send(self, scope: Scope, lease: Lease, began: float, tried: list[tuple[str, str]]) -> tuple[Outcome, Connection | None]:
        """One request that left this host, or none: the issuer's endpoints in turn while nothing leaves, its secrets in turn.

        A token that may have been sent goes to no other endpoint than the one that it was sent to.
        """
        endpoints = list(enumerate(lease.client.token_endpoints))
        if lease.replayed:
            endpoints = endpoints[lease.connection.attempt_at :][:1] or endpoints[-1:]
        outcome = Outcome(Kind.NOT_SENT, "no_endpoint")
        for at, endpoint in endpoints:
            if at > 0 and not lease.replayed and not await self._write_plain(scope, store.send_again, lease, at):
                return Outcome(Kind.NOT_SENT, TOO_OLD), None
            for number, secret in lease.client.credentials():
                self._runtime.failpoints.hit(BEFORE_SEND)
                if self._age(began) >= self._settings.fence_s:
                    return Outcome(Kind.NOT_SENT, TOO_OLD), None
                outcome, sent_us = await self._post(scope, lease, endpoint, secret)
                if outcome.members is not None:
                    return outcome, await self._take(scope, lease, outcome.members, sent_us, number)
                tried.append((endpoint, outcome.cause))
                if not outcome.is_the_clients:
                    break
            if outcome.kind is not Kind.NOT_SENT:
                return replace(outcome, endpoint=at), None
        return outcome, None

    async def _post(self, scope: Scope, lease: Lease, endpoint: str, secret: str) -> tuple[Outcome, int]:
        members = self._asking(lease, endpoint)
        if members is None:
            return Outcome(Kind.NOT_SENT, NOTHING_SIGNED), self._runtime.clock.wall_us()
        outcome, sent_us = await self.post(scope, lease.client, secret, endpoint, members, REFRESH)
        if self.observe is not None:
            self.observe(scope, lease.client, outcome)
        return outcome, sent_us

    def _asking(self, lease: Lease, endpoint: str) -> dict[str, str] | None:
        """What is asked for, and by what right: by a refresh token, by the client's own, or by what it signs now."""
        refresh, client = lease.connection.refresh, lease.client
        assert refresh is not None
        scopes = {"scope": " ".join(client.scopes)} if client.scopes else {}
        if lease.connection.kind == OWN_RIGHT:
            return {"grant_type": OWN_RIGHT, **scopes}
        if lease.connection.kind == JWT_BEARER:
            if client.assertion is None:
                return None
            return {"grant_type": GRANT, "assertion": granting(client.assertion, endpoint, *self._now_and_jti()), **scopes}
        return {"grant_type": "refresh_token", "refresh_token": refresh}

    async def post(
        self, scope: Scope, client: Client, secret: str, endpoint: str, members: dict[str, str], operation: str
    ) -> tuple[Outcome, int]:
        """One token request, if the breaker of this operation lets it through; what came of it, and the wall clock when it began."""
        sent_us = self._runtime.clock.wall_us()

        async def send() -> Outcome:
            try:
                reply = await self.ask(scope, client, secret, endpoint, members)
            except EgressError as error:
                return answers.failed(error)
            return answers.classify(reply)

        return await self.breakers.guarded(scope.tenant, endpoint, operation, send), sent_us

    async def ask(self, scope: Scope, client: Client, secret: str, endpoint: str, members: dict[str, str]) -> Reply:
        """One form to one of the provider's endpoints, in the client's name; `EgressError` where no answer came."""
        headers, body = request_of(client, secret, self._identified(client, secret, endpoint, members))
        watch = self._runtime.debug.watch(scope, {"provider": provider_facts(client)}) if any_session else None
        with watching(watch):
            return await self._egress.request(
                "POST", endpoint, headers=headers, body=body, tenant=scope.tenant, timeout_s=self._settings.deadline_s
            )

    async def ask_by_any(self, scope: Scope, client: Client, endpoint: str, members: dict[str, str]) -> Reply:
        """The same, by the client's other secret where the first one is refused; for what may be asked twice."""
        (_, first), *others = client.credentials()
        reply = await self.ask(scope, client, first, endpoint, members)
        for _, secret in others:
            if not answers.classify(reply).is_the_clients:
                break
            reply = await self.ask(scope, client, secret, endpoint, members)
        return reply

    def _identified(self, client: Client, secret: str, endpoint: str, members: dict[str, str]) -> dict[str, str]:
        """The members, with a fresh assertion of who asks where the client signs one."""
        if client.auth != PRIVATE_KEY_JWT:
            return members
        signed = assertion(secret, client.client_id, client.issuer or endpoint, *self._now_and_jti())
        return {**members, "client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}

    def _now_and_jti(self) -> tuple[int, str]:
        """What makes one assertion differ from every other."""
        return self._runtime.clock.wall_us() // 1_000_000, self._runtime.chance.token(16).hex()

    async def _take(self, scope: Scope, lease: Lease, members: Mapping[str, Any], sent_us: int, secret: int) -> Connection:
        """Keep the answer, then commit it. Nothing is awaited between its being read and its being in the spool."""
        was = lease.connection
        assert was.rt_fp is not None
        spooled = Spooled(scope.tenant, was.id, lease.holder, lease.fence, was.generation, was.rt_fp, sent_us, secret)
        return await self.keep(scope, spooled, lease.spool_key, members, lease.client)

    async def keep(self, scope: Scope, spooled: Spooled, key: bytes, members: Mapping[str, Any], client: Client) -> Connection:
        """Spool what was just read, then commit it. A spool that takes nothing costs the second copy, not the answer."""
        path = None
        try:
            path = self._spool.write(spooled, key, orjson.dumps(members))
            await asyncio.to_thread(self._spool.sync, path)
        except OSError as error:
            self._runtime.log.warning("an answer with tokens has no safe copy in the spool until its commit: %s", error)
        self._runtime.failpoints.hit(SPOOLED)
        return await self._commit(scope, path, spooled, members, client)

    async def _replay(self, scope: Scope, path: Path, spooled: Spooled) -> None:
        key: bytes = await self._write(scope, store.spool_key)
        try:
            client: Client = await self._write(scope, store.client_of_connection, spooled.connection)
        except UnknownConnection:  # deleted meanwhile, and its tokens are to be forgotten
            await asyncio.to_thread(self._spool.remove, path)
            return
        body = await asyncio.to_thread(self._spool.read, path, key)
        if body is None:  # another process has committed it just now, or the root keys are not those that sealed it
            self._runtime.log.warning("%s does not open, or is gone", path)
            return
        await self._commit(scope, path, spooled, orjson.loads(body), client)

    async def _commit(self, scope: Scope, path: Path | None, spooled: Spooled, members: Mapping[str, Any], client: Client) -> Connection:
        """Until the database has it, or for as long as it takes to say that it has not: then it waits in the spool, if it is there."""
        grant = answers.grant_of(members, client, spooled.sent_us)
        if spooled.parent_fp.startswith(OF_A_CODE):
            flow = bytes.fromhex(spooled.parent_fp.removeprefix(OF_A_CODE))
            work: tuple[Any, ...] = (flows.commit, flow, spooled.connection, grant)
        else:
            work = (store.commit, spooled.connection, spooled.generation, spooled.parent_fp, grant, spooled.secret)
        for number in range(1, COMMIT_TRIES if path is not None else UNSPOOLED_TRIES):
            try:
                now: Connection = await self._write(scope, *work)
                break
            except (Unavailable, OutcomeUnknown):  # the lineage makes a second commit harmless
                await self._runtime.clock.sleep(FIRST_PAUSE_S * min(number, COMMIT_TRIES))
        else:
            now = await self._write(scope, *work)
        self._runtime.failpoints.hit(COMMITTED)
        if path is not None:
            await asyncio.to_thread(self._spool.remove, path)
        return now

    async def _settle(
        self, scope: Scope, lease: Lease, outcome: Outcome, tried: list[tuple[str, str]]
    ) -> tuple[Connection, Failure | None]:
        """Note what came of it."""
        self._runtime.failpoints.hit(ANSWERED)
        failure = Failure(tuple(tried) or ((self._first(lease), outcome.cause),))
        told = tuple(each for each in failure.tried if each[1] not in _NOBODY_ASKED)
        pause_s = self._pause_s(lease, outcome)
        if outcome.kind is Kind.AMBIGUOUS:
            return await self._write(scope, store.doubt, lease, outcome.cause, pause_s, told), failure
        if outcome.kind is Kind.REJECTED and outcome.cause == "invalid_grant" and lease.connection.ends_by_refusal:
            now, promoted = await self._write(scope, store.reject, lease, outcome.cause, told)
            return now, None if promoted else failure
        return await self._write(scope, store.give_up, lease, pause_s, keep_intent=lease.replayed, tried=told), failure

    def _pause_s(self, lease: Lease, outcome: Outcome) -> float:
        if outcome.cause == TOO_OLD:
            return 0.0
        if outcome.kind is Kind.REJECTED:
            return MISCONFIGURED_PAUSE_S
        curve = min(FIRST_PAUSE_S * 2 ** min(lease.connection.failures, 10), LONGEST_PAUSE_S)
        return max(self._runtime.chance.uniform(curve / 2, curve), outcome.retry_after_s or 0.0)

    @staticmethod
    def _first(lease: Lease) -> str:
        return next(iter(lease.client.token_endpoints), "no token endpoint")

    def _age(self, began: float) -> float:
        """Of the lease, counted from before it was asked for."""
        return self._runtime.clock.monotonic() - began

    def _count(self, outcome: str) -> None:
        self._runtime.metrics.count("netra_oauth_refresh_total", outcome=outcome)

    async def _write(self, scope: Scope, fn: Any, *arguments: Any, **options: Any) -> Any:
        """A store function that opens or seals."""

        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments, **options)

        return await self._database.write(run, scope=scope)

    async def _write_plain(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        return await self._database.write(fn, *arguments, scope=scope)


def provider_facts(client: Client) -> tuple[str, ...]:
    """By which names a debug session may select what is asked of a provider."""
    return tuple(name for name in (client.name, client.provider, client.issuer) if name)


def request_of(client: Client, secret: str, members: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a token request (RFC 6749 sections 2.3.1 and 4.1.3)."""
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    form = dict(members)
    if client.auth == "basic":
        pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}"
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif client.auth != "none" or form.get("grant_type") != GRANT:  # RFC 7521 section 4.1: who signs is named in what he signed
        form["client_id"] = client.client_id
        if client.auth == "post":
            form["client_secret"] = secret
    return headers, urlencode(form).encode()


def refused(connection: Connection, failure: Failure | None) -> RefreshFailed:
    """The error of a caller for whom no token is left."""
    words = failure.words if failure is not None else f"it is to be tried again later ({connection.reason or 'a pause after a failure'})"
    return RefreshFailed(f"the connection {connection.name!r} has no token that lives: {words}")
