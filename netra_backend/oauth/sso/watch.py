"""Watching over providers: probes of our own, doubts from traffic, and the decision where new logins go.

One process, under a lease, looks after all tenants that have a choice of providers; its monotonic clock advances the clocks of their rows.
Any process may doubt an issuer by what its refreshes met, or probe one that a login could not reach, at most once per `probe_s`: neither
decides more than the watcher would.

A probe asks for what a login needs: metadata, keys, and the token endpoint, which must refuse a refresh token that nobody has
issued. Any well-formed refusal is health, `server_error` is not; nor is a time-out, a cut, a 5xx. A refusal for too many requests
is health too: otherwise whoever makes us ask too often could bring a failover about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ...errors import NetraError, Unavailable
from ...kernel.rounds import attempt
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...resilience.egress import Egress, EgressError
from ...storage import log
from ...storage.database import Database
from ...storage.sealing import Sealer
from .. import store as vault
from ..answers import Kind, Outcome, classify
from ..answers import failed as no_answer
from ..breakers import OPEN
from ..issuers import asked, discovered
from ..keys import Keys
from ..model import Client
from ..refresh import Refresher
from . import store
from .errors import NoProvider, RotationMoved
from .health import Health, Window
from .model import Provider
from .rotation import Rotation, decide
from .settings import SsoSettings

LEASE: Final = "sso"
NOBODYS: Final = "netra-probe"
"""A refresh token that nobody has issued."""

AT_ONCE: Final = 20
MOST_TENANTS: Final = 100_000
SWAPS: Final = 5
MOST_WINDOWS: Final = 10_000
_SCOPE: Final = system_scope("sso")
ACTOR: Final = "sso"

Place = tuple[str, str]
"""A tenant and an issuer."""


class Member(Protocol):
    """This process among the others (`storage.membership`)."""

    id: bytes

    @property
    def quiet(self) -> bool:
        """Whether it must start nothing new."""
        ...


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe of one issuer found: by operation why it failed, empty where it did not."""

    issuer: str
    reasons: Mapping[str, str]


class Prober:
    """Asks an issuer what a login would ask it."""

    def __init__(self, refresher: Refresher, egress: Egress, deadline_s: float) -> None:
        self._refresher = refresher
        self._egress = egress
        self._deadline_s = deadline_s

    async def probe(self, scope: Scope, issuer: str, client: Client) -> Probed:
        """One round; it never raises for what the issuer does."""
        (metadata, keys), token = await asyncio.gather(self._published(scope, issuer), self._token(scope, client))
        return Probed(issuer, {"metadata": metadata, "keys": keys, "token": token})

    async def _published(self, scope: Scope, issuer: str) -> tuple[str, str]:
        try:
            metadata = await discovered(self._egress, scope, issuer, self._deadline_s)
        except NetraError as error:
            return error.detail or error.code, ""  # where its keys are is not known, so nothing is said of them
        try:
            reply = await asked(self._egress, scope, str(metadata.get("jwks_uri")), self._deadline_s)
            if reply.status != 200 or not len(Keys.of(reply.body)):
                raise Unavailable(f"its keys were answered with status {reply.status}")
        except NetraError as error:
            return "", error.detail or error.code
        return "", ""

    async def _token(self, scope: Scope, client: Client) -> str:
        outcome = Outcome(Kind.NOT_SENT, "no_endpoint")
        members = {"grant_type": "refresh_token", "refresh_token": NOBODYS}
        for endpoint in client.token_endpoints:
            outcome = await self._asked(scope, client, endpoint, members)
            if outcome.kind is not Kind.NOT_SENT:
                break
        return outcome.cause if failed(outcome) else ""

    async def _asked(self, scope: Scope, client: Client, endpoint: str, members: dict[str, str]) -> Outcome:
        """Past the vault's breakers: a probe asks above all those whom nobody else asks any more."""
        try:
            return classify(await self._refresher.ask(scope, client, client.credentials()[0][1], endpoint, members))
        except EgressError as error:
            return no_answer(error)


class Watch:
    """See the module's docstring."""

    def __init__(self, database: Database, runtime: Runtime, settings: SsoSettings, sealer: Sealer, member: Member, prober: Prober) -> None:
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._sealer = sealer
        self._member = member
        self._prober = prober
        self.chores: list[Callable[[], Awaitable[None]]] = []
        """What else one process does for all, begun at each look."""
        self._at_it: set[Callable[[], Awaitable[None]]] = set()
        self._windows: dict[Place, Window] = {}
        self._hinted: dict[Place, float] = {}
        self._ticks: dict[str, float] = {}
        self._probed: dict[Place, float] = {}
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    def start(self) -> None:
        """Look for ever, in the background."""
        self._go(self._forever())

    async def stop(self) -> None:
        """End."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(self) -> None:
        """One round over all tenants that have a choice, if this process watches."""
        if self._member.quiet or not await self._database.write(log.has_lead, LEASE, self._member.id, scope=_SCOPE):
            self._ticks.clear()  # time that another one watches is not ours to count
            return
        for chore in self.chores:
            self._begin(chore)
        found: list[tuple[str, int]] = await self._database.read(store.tenants_to_watch, MOST_TENANTS, scope=_SCOPE)
        await asyncio.gather(*(self.look_at(tenant) for tenant, enabled in found if enabled > 1 and tenant not in self._busy))

    def _begin(self, chore: Callable[[], Awaitable[None]]) -> None:
        """Apart from the look, and not again while it is at it: sessions whose provider hangs must not hide that it does."""
        if chore not in self._at_it:
            self._at_it.add(chore)
            self._go(self._done(chore))

    async def _done(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await attempt(self._runtime.log, "what one process does for all of sign-on could not be done yet", chore())
        finally:
            self._at_it.discard(chore)

    async def look_at(self, tenant: str, only: str | None = None) -> None:
        """Probe a tenant's issuers that it is time for (or `only` that one, now), and decide."""
        self._busy.add(tenant)
        try:
            async with self._room:
                await self._look_at(Scope(tenant, ACTOR), only)
        except NetraError as error:
            self._runtime.log.warning("the sign-on providers of %s could not be looked after: %s", tenant, error)
        finally:
            self._busy.discard(tenant)

    def hint(self, tenant: str, issuer: str) -> None:
        """A login could not reach an issuer. That says nothing by itself; it is reason to look now, if nobody did a moment ago."""
        now = self._runtime.clock.monotonic()
        if now - self._hinted.get((tenant, issuer), float("-inf")) >= self._settings.probe_s:
            self._hinted[tenant, issuer] = now
            self._go(self.look_at(tenant, issuer))

    def observe(self, scope: Scope, client: Client, outcome: Outcome) -> None:
        """What came of a refresh."""
        if client.issuer is None or outcome.cause == OPEN:  # a request that was not made says nothing
            return
        place = (scope.tenant, client.issuer)
        if place not in self._windows and len(self._windows) >= MOST_WINDOWS:
            self._windows.clear()
        window = self._windows.setdefault(place, Window(self._settings.window_s))
        if window.add(self._runtime.clock.monotonic(), failed=failed(outcome)):
            self._go(self._doubt(Scope(scope.tenant, ACTOR), client.issuer, outcome.cause))

    async def _forever(self) -> None:
        """Each look by itself: that of one whose issuer hangs, which waits for that, keeps those of others from nothing."""
        while True:
            await self._runtime.clock.sleep(self._settings.probe_s)
            self._go(self._looked())

    async def _looked(self) -> None:
        await attempt(self._runtime.log, "sign-on providers could not be looked after", self.look())

    async def _look_at(self, scope: Scope, only: str | None) -> None:
        found, rotation = await self._database.read(store.both, scope=scope)
        candidates = [each for each in found if each.enabled]
        elapsed = 0.0 if only is not None else self._elapsed(scope.tenant)
        due = [each for each in _by_issuer(candidates) if self._is_due(scope.tenant, each.issuer, rotation, only)]
        probes = await asyncio.gather(*(self._probe(scope, each) for each in due))

        def judged(was: Rotation) -> Rotation:
            now = was.advanced(elapsed)
            for probe in probes:
                for operation, reason in probe.reasons.items():
                    health = now.health.get(probe.issuer, {}).get(operation, Health())
                    if operation != "keys" or not probe.reasons["metadata"]:
                        now = now.with_health(probe.issuer, operation, health.probed(reason, now.clock_s, self._settings.return_s))
            return now

        await self._change(scope, judged)

    async def _probe(self, scope: Scope, provider: Provider) -> Probed:
        async def client(tx: Any) -> Client:
            return await vault.client_named(tx, self._sealer, provider.client)

        registered: Client = await self._database.read(client, scope=scope)
        self._probed[scope.tenant, provider.issuer] = self._runtime.clock.monotonic()
        probed = await self._prober.probe(scope, provider.issuer, registered)
        outcome = "failed" if any(probed.reasons.values()) else "answered"
        self._runtime.metrics.count("netra_sso_probes_total", outcome=outcome)
        return probed

    def _is_due(self, tenant: str, issuer: str, rotation: Rotation, only: str | None) -> bool:
        """One that is well is probed once in the window, any other at each look."""
        if only is not None:
            return issuer == only
        well = all(health == Health() for health in rotation.health.get(issuer, {}).values())
        age = self._runtime.clock.monotonic() - self._probed.get((tenant, issuer), float("-inf"))
        return not well or age >= self._settings.window_s * 0.99

    def _elapsed(self, tenant: str) -> float:
        now = self._runtime.clock.monotonic()
        elapsed = now - self._ticks.get(tenant, now)
        self._ticks[tenant] = now
        return elapsed

    async def _doubt(self, scope: Scope, issuer: str, cause: str) -> None:
        def doubted(was: Rotation) -> Rotation:
            if issuer not in was.health:
                return was  # people do not log in there
            health = was.health[issuer].get("token", Health())
            return was.with_health(issuer, "token", health.doubted(f"half of its refreshes fail: {cause}"))

        try:
            await self._change(scope, doubted)
        except NoProvider:
            return
        except NetraError as error:
            self._runtime.log.warning("a doubt about %s could not be noted: %s", issuer, error)

    async def _change(self, scope: Scope, change: Any) -> None:
        """Change the rotation, decide, and write it; anew where somebody else was first."""
        for number in range(SWAPS):
            found = await self._database.read(store.providers, scope=scope)
            was, version = await self._database.read(store.rotation, scope=scope)
            now, told = decide(change(was), [each.candidate for each in found if each.enabled], self._settings)
            if told is None and (now == was or (now.is_settled and was.is_settled)):
                return
            try:
                await self._database.write(store.swap, version, now, told, scope=scope)
            except RotationMoved:
                if number == SWAPS - 1:
                    raise
                continue
            if told is not None:
                self._runtime.log.warning("sign-on of %s: %s, from %s to %s", scope.tenant, told.reason, told.origin, told.target)
                self._runtime.metrics.count("netra_sso_flips_total", reason=told.reason)
            return

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def failed(outcome: Outcome) -> bool:
    """Whether it speaks against the issuer: an OAuth error does not, save `server_error`, which is no clear answer (`answers.py`)."""
    return outcome.kind in {Kind.NOT_SENT, Kind.AMBIGUOUS}


def _by_issuer(candidates: list[Provider]) -> list[Provider]:
    """One provider of each issuer."""
    return list({each.issuer: each for each in reversed(candidates)}.values())
