"""Who is asked no more for a while: a circuit breaker for each tenant, token endpoint and operation.

A provider that is down is asked by every connection whose token ends, and each of them waits for a whole time-out under its lease. After
some failures in a row nothing is sent to that endpoint for that purpose until a probe has come through; whoever would have sent hears
NOT_SENT at once, which goes to the issuer's next endpoint, or serves the old token as stale.

What is fixed:

- Apart by tenant: one tenant's registration, which may name any address, never keeps another's tokens from being renewed.
- Apart by operation: what a provider does with refresh tokens says nothing of what it does with codes. A revocation is told once,
  whatever the breakers say, and what people ask for by hand (discovery, a device's code) is always asked.
- An answer in the words of the standard is health, whatever it refuses; a lost one, a 5xx, a 429, no connection and `server_error` are not.
  What is wrong on our side (an address that may not be asked) says nothing.
- The breakers are each process's own and never stored: see docs/decisions/0015.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from ..kernel.runtime import Runtime
from ..resilience.circuit_breaker import CircuitBreaker, Policy
from ..resilience.circuit_breaker import Outcome as Health
from .answers import Kind, Outcome
from .model import US
from .settings import OAuthSettings

REFRESH: Final = "refresh"
CODE: Final = "code"
DEVICE: Final = "device"
EXCHANGE: Final = "exchange"
OPERATIONS: Final = (REFRESH, CODE, DEVICE, EXCHANGE)

OPEN: Final = "breaker_open"
"""The cause of a request that was not made."""

AGAIN_S: Final = 1.0
"""How soon after a refusal by a probe under way or a slow start it is worth another try."""

MOST_KNOWN: Final = 10_000
STATES: Final = ("open", "half_open", "slow_start")
_OURS: Final = frozenset({"egress_denied", "bad_url", "bad_header", "no_endpoint"})

Key = tuple[str, str, str]
"""(tenant, endpoint, operation)."""


class Breakers:
    """See the module's docstring. For one event loop."""

    def __init__(self, runtime: Runtime, settings: OAuthSettings) -> None:
        self._runtime = runtime
        self._policy = Policy(
            failures=settings.breaker_failures, open_s=settings.breaker_open_s, probe_s=max(settings.deadline_s * 2, AGAIN_S)
        )
        self._known: OrderedDict[Key, CircuitBreaker] = OrderedDict()

    async def guarded(self, tenant: str, endpoint: str, operation: str, send: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """What `send` comes to, or NOT_SENT where the breaker lets nothing through."""
        breaker = self._of((tenant, endpoint, operation))
        if not breaker.try_begin():
            return Outcome(Kind.NOT_SENT, OPEN, self._again_s(breaker))
        began_us = self._runtime.clock.wall_us()
        said = Health.NOT_SENT  # also where the sending task is ended: that says nothing of the provider
        try:
            outcome = await send()
            said = health_of(outcome)
        finally:
            breaker.finish(said, began_us)
        return outcome

    def states(self) -> Counter[str]:
        """How many of them are open, half open or in a slow start."""
        found = Counter(dict.fromkeys(STATES, 0))
        for breaker in self._known.values():
            name = _name_of(breaker)
            if name != "closed":
                found[name] += 1
        return found

    def of_tenant(self, tenant: str) -> list[tuple[str, str, str]]:
        """A tenant's endpoints that were asked lately: (endpoint, operation, state), by name."""
        found = [
            (endpoint, operation, _name_of(breaker)) for (owner, endpoint, operation), breaker in self._known.items() if owner == tenant
        ]
        return sorted(found)

    def _of(self, key: Key) -> CircuitBreaker:
        breaker = self._known.get(key)
        if breaker is None:
            breaker = self._known[key] = CircuitBreaker(self._runtime.clock, self._runtime.chance, self._policy)
            if len(self._known) > MOST_KNOWN:
                self._forget_one()
        self._known.move_to_end(key)
        return breaker

    def _forget_one(self) -> None:
        """The one that was asked for longest ago and has nothing on its way; the newest is the one just made."""
        idle = next((key for key, breaker in self._known.items() if not breaker.in_flight), None)
        if idle is not None:
            del self._known[idle]

    def _again_s(self, breaker: CircuitBreaker) -> float:
        """When it may be worth another try: after the opening, and not all at the same moment."""
        left_us = breaker.state.until_us - self._runtime.clock.wall_us() if breaker.state.phase == "open" else 0
        return max(left_us, 0) / US + self._runtime.chance.uniform(0, AGAIN_S)


def _name_of(breaker: CircuitBreaker) -> str:
    state = breaker.state
    return "slow_start" if state.phase == "closed" and state.limit else state.phase


def health_of(outcome: Outcome) -> Health:
    """What came of a request, as a breaker counts it."""
    match outcome.kind:
        case Kind.SUCCESS:
            return Health.SUCCESS
        case Kind.REJECTED:
            return Health.ANSWERED
        case Kind.THROTTLED:
            return Health.ANSWERED if outcome.cause == "slow_down" else Health.FAILURE
        case Kind.NOT_SENT if outcome.cause in _OURS:
            return Health.NOT_SENT
        case _:
            return Health.FAILURE
