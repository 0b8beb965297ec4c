"""Connections in memory, so that a token that lives costs no look at the database.

What is served from here is vouched for: by a look at all generations that began less than `FRESH_S` ago, by both clocks, and by not being
due for a renewal. One that was revoked, replaced or found changed is dropped, and whoever still has it in hand serves it no more
(`Kept.drop`). What was read before that is kept no more either: a reader, or a refresh that had committed already, may come back from the
database after whoever revoked did. Names of tenants are kept with what they meant for as long as `netra.py` does.

When a generation was first read is kept for longer than its token, by both clocks: a wall clock that is set back gives no token of this
process more time, not even one that is read anew (`aged`).

Everything here is done on Netra's event loop, but `at_hand`, which changes nothing but the count of uses, from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ..kernel.clock import Clock
from ..kernel.scope import Scope
from ..kernel.uses import Meter, Uses
from .model import US, Connection, Token

USE: Final = "connection.token.use"
UNNAMED: Final = "library"
"""The actor where nobody has said who acts."""

FRESH_S: Final = 1.0
"""How long a look at all generations vouches for what is in memory: nothing revoked elsewhere is served for longer."""

MOST_KEPT: Final = 10_000
ALIAS_S: Final = 1.0
"""How long a name is taken to mean the same tenant."""

STEP_US: Final = US
"""By how much the wall clock may be behind the monotonic one before it is taken to have been set back."""

_NEVER: Final = float("-inf")
_EVER_US: Final = 2**63

Entered = Callable[[], Scope | None]
"""The scope that the caller has entered, on whatever thread."""

Place = tuple[str, bytes]
"""(tenant, connection id)."""


def outside() -> Scope | None:
    """Nobody enters one."""
    return None


@dataclass(slots=True)
class Kept:
    """A connection in memory. It ends when either clock says so: the wall clock, or `until` on the monotonic one.

    `known_at` is when the last look began that saw it so. `good_until` (monotonic) and `good_until_us` (wall) are when somebody must look
    again. The former is long past for one that is not served from memory any more.
    """

    connection: Connection
    token: Token
    until: float
    known_at: float
    due: float
    good_until_us: int
    uses: Meter  # of those who enter no scope, or name no actor
    good_until: float = _NEVER

    def vouch(self, known_at: float) -> None:
        """It was so at that time."""
        self.known_at = max(self.known_at, known_at)
        self.good_until = min(self.known_at + FRESH_S, self.due, self.until)

    def drop(self) -> None:
        """Serve it no more."""
        self.good_until = _NEVER


@dataclass(frozen=True, slots=True)
class Sighting:
    """When this process first read a generation of a connection, by both clocks."""

    generation: int
    wall_us: int
    monotonic: float


class Memory:
    """See the module's docstring."""

    def __init__(self, clock: Clock, uses: Uses, entered: Entered) -> None:
        self._monotonic, self._wall_us = clock.monotonic, clock.wall_us
        self._uses = uses
        self._entered = entered
        self._kept: dict[tuple[str, str], Kept] = {}
        self._named: dict[tuple[str | None, str], tuple[Kept, float]] = {}
        self._seen: dict[Place, Sighting] = {}
        self._forgotten: dict[tuple[str, str], float] = {}
        self._forgotten_all = _NEVER

    def at_hand(self, tenant: str | None = None, connection: str = "", min_valid_s: float = 0) -> Token | None:
        """What `OAuth.token` answers if memory alone can, which waits for nothing; else None. From any thread. A use is counted.

        `tenant` is the name that it was asked for under just now.
        """
        found = self._named.get((tenant, connection))
        if found is None:
            return None
        kept, until = found
        now, wall_us = self._monotonic(), self._wall_us()
        if now >= kept.good_until or now >= until or wall_us >= kept.good_until_us:
            return None
        if min_valid_s > 0 and not self._is_good(kept, min_valid_s):
            return None
        scope = self._entered()
        if scope is not None and scope.actor != UNNAMED:
            self._uses.note(kept.connection.tenant, scope.actor, USE, kept.connection.name)
            return kept.token
        if wall_us >= kept.uses.until_us:
            kept.uses = self._meter(kept.connection)
        kept.uses.hit()
        return kept.token

    def get(self, tenant: str, name: str, min_valid_s: float) -> Token | None:
        """The token of a tenant's connection, if this may be served without a look."""
        kept = self._kept.get((tenant, name))
        return kept.token if kept is not None and self._is_good(kept, min_valid_s) else None

    def name(self, reference: str | None, tenant: str, name: str) -> None:
        """The tenant was asked for under this name."""
        kept = self._kept.get((tenant, name))
        if reference is not None and kept is not None:
            if len(self._named) >= 2 * MOST_KEPT:
                self._named.clear()
            self._named[reference, name] = kept, self._monotonic() + ALIAS_S

    def keep(self, found: Connection, token: Token, began: float) -> None:
        """Serve it from now on, if nothing was decided about it since `began` (monotonic), from when on it is known to be so."""
        if began < max(self._forgotten_all, self._forgotten.get((found.tenant, found.name), _NEVER)):
            return
        wall_us = self._wall_us()
        left_s, due_s = (float("inf") if at is None else (at - wall_us) / US for at in (found.expires_us, found.due_us))
        if len(self._kept) >= MOST_KEPT:
            self.clear()
        self._drop((found.tenant, found.name))
        good_until_us = min(_EVER_US if at is None else at for at in (found.expires_us, found.due_us))
        kept = self._kept[found.tenant, found.name] = Kept(
            found, token, began + left_s, began, began + due_s, good_until_us, self._meter(found)
        )
        kept.vouch(began)

    def forget(self, tenant: str, name: str) -> None:
        """Something was decided about it: serve it no more, nor what was read of it before."""
        now = self._monotonic()
        if len(self._forgotten) >= MOST_KEPT:
            self._forgotten.clear()
            self._forgotten_all = now
        self._forgotten[tenant, name] = now
        self._drop((tenant, name))

    def aged(self, found: Connection) -> Connection:
        """The connection as it was read, its token's times as a wall clock has them that was set back since it was first read."""
        place, wall_us, now = (found.tenant, found.id), self._wall_us(), self._monotonic()
        known = self._seen.get(place)
        if known is None or known.generation != found.generation:
            if len(self._seen) >= MOST_KEPT:
                self._seen.clear()
            self._seen[place] = Sighting(found.generation, wall_us, now)
            return found
        back_us = known.wall_us + int((now - known.monotonic) * US) - wall_us
        if back_us <= STEP_US:
            return found
        issued_us, expires_us, due_us = (None if at is None else at - back_us for at in (found.issued_us, found.expires_us, found.due_us))
        return replace(found, issued_us=issued_us, expires_us=expires_us, due_us=due_us)

    def clear(self) -> None:
        """Serve nothing."""
        for kept in self._kept.values():
            kept.drop()
        self._kept.clear()
        self._named.clear()

    def places(self) -> set[Place]:
        """What is to be looked at."""
        return {(kept.connection.tenant, kept.connection.id) for kept in self._kept.values()}

    def looked(self, asked: set[Place], found: Mapping[Place, tuple[int, str]], began: float) -> None:
        """A look at these, begun then, has found these generations and states."""
        for key, kept in list(self._kept.items()):
            have = (kept.connection.generation, kept.connection.state)
            place = (kept.connection.tenant, kept.connection.id)
            if found.get(place) == have:
                kept.vouch(began)
            elif place in asked:
                self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        former = self._kept.pop(key, None)
        if former is not None:
            former.drop()

    def _meter(self, connection: Connection) -> Meter:
        return self._uses.meter(connection.tenant, UNNAMED, USE, connection.name)

    def _is_good(self, kept: Kept, min_valid_s: float) -> bool:
        now, wall_us = self._monotonic(), self._wall_us()
        if now >= kept.good_until or now + min_valid_s >= kept.until or wall_us >= kept.good_until_us:
            return False
        return kept.connection.lives(wall_us, min_valid_s)
