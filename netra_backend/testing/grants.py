"""What an authorization server keeps of its grants, in each of the ways that providers rotate refresh tokens. No I/O.

Each profile is a behaviour that some provider in use has:

- `strict`: each refresh token is good once; one that comes twice revokes the whole family (RFC 9700 section 4.14.2).
- `idempotent-grace`: within a window the previous one is answered with the very same successor.
- `forking-grace`: within a window the previous one is answered with a new successor; both live.
- `previous-only`: the previous one is good until the current one has been used.
- `keep-old`: the refresh token stays, and the answer does not name it.
- `no-rotation`: the refresh token stays, and the answer names it.
- `access-dies`: strict, and the old access token dies with the refresh.
- `early-reject`: no rotation, and access tokens are refused after half of the life that was promised.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

PROFILES: Final = (
    "strict",
    "idempotent-grace",
    "forking-grace",
    "previous-only",
    "keep-old",
    "no-rotation",
    "access-dies",
    "early-reject",
)
BEARER: Final = "Bearer"
_ROTATES: Final = frozenset({"strict", "idempotent-grace", "forking-grace", "previous-only", "access-dies"})


@dataclass
class Family:
    """One grant: all tokens that descend from one consent. `live` are the refresh tokens that are good, by number."""

    name: str
    live: dict[str, int]
    newest: int = 0
    revoked: bool = False
    previous: str = ""
    previous_until: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)


class Grants:
    """The server's memory. `now` is monotonic seconds, handed in."""

    def __init__(self, profile: str, *, lifetime_s: float = 3600, window_s: float = 30) -> None:
        if profile not in PROFILES:
            raise ValueError(f"no profile is called {profile!r}: {', '.join(PROFILES)}")
        self.profile = profile
        self.lifetime_s = lifetime_s
        self.window_s = window_s
        self.families: dict[str, Family] = {}
        self._of_token: dict[str, tuple[Family, int]] = {}
        self._numbers = itertools.count(1)

    def new(self, now: float) -> dict[str, Any]:
        """A new grant's first tokens."""
        family = Family(f"g{next(self._numbers)}", {})
        self.families[family.name] = family
        return self._issue(family, now, rotate=True)

    def place_of(self, refresh: str) -> tuple[str, int, int]:
        """Family, number of this token in it, and number of the newest; `("", 0, 0)` for a stranger."""
        found = self._of_token.get(refresh)
        return ("", 0, 0) if found is None else (found[0].name, found[1], found[0].newest)

    def refresh(self, refresh: str, now: float) -> dict[str, Any] | None:
        """The answer to a refresh token; None is `invalid_grant`."""
        found = self._of_token.get(refresh)
        if found is None or found[0].revoked:
            return None
        family, _ = found
        if refresh in family.live:
            return self._trade(family, refresh, now)
        return self._replayed(family, refresh, now)

    def _trade(self, family: Family, refresh: str, now: float) -> dict[str, Any]:
        if self.profile not in _ROTATES:
            return self._issue(family, now, rotate=False)
        if self.profile == "access-dies":
            family.access.clear()
        del family.live[refresh]
        if self.profile == "previous-only":
            family.live.clear()
        family.previous, family.previous_until = refresh, now + self.window_s
        family.answer = self._issue(family, now, rotate=True)
        return family.answer

    def _replayed(self, family: Family, refresh: str, now: float) -> dict[str, Any] | None:
        is_previous = refresh == family.previous
        if is_previous and self.profile == "idempotent-grace" and now < family.previous_until:
            return family.answer
        if is_previous and self.profile == "forking-grace" and now < family.previous_until:
            return self._issue(family, now, rotate=True)
        if is_previous and self.profile == "previous-only":
            family.live.clear()
            return self._issue(family, now, rotate=True)
        if self.profile in {"strict", "access-dies"}:
            self.revoke(family)
        return None

    def revoke(self, family: Family) -> None:
        """Nothing of this grant is good any more."""
        family.revoked = True
        family.live.clear()
        family.access.clear()

    def revoke_token(self, token: str) -> None:
        """RFC 7009: the grant of a refresh token, or one access token."""
        if (found := self._of_token.get(token)) is not None:
            self.revoke(found[0])
        for family in self.families.values():
            family.access.pop(token, None)

    def is_good(self, access: str, now: float) -> bool:
        """Whether a resource server would take this access token."""
        share = 0.5 if self.profile == "early-reject" else 1.0
        return any(now < family.access.get(access, 0.0) - self.lifetime_s * (1 - share) for family in self.families.values())

    def is_refreshable(self, refresh: str) -> bool:
        """Whether this refresh token would be taken as the current one."""
        found = self._of_token.get(refresh)
        return found is not None and refresh in found[0].live

    def _issue(self, family: Family, now: float, *, rotate: bool) -> dict[str, Any]:
        access = f"at-{family.name}-{next(self._numbers)}"
        family.access[access] = now + self.lifetime_s
        promised = int(self.lifetime_s) if self.lifetime_s == int(self.lifetime_s) else self.lifetime_s
        answer: dict[str, Any] = {
            "access_token": access,
            "token_type": BEARER,
            "expires_in": promised,
        }
        if rotate:
            family.newest += 1
            refresh = f"rt-{family.name}-{family.newest}"
            family.live[refresh] = family.newest
            self._of_token[refresh] = (family, family.newest)
        if self.profile != "keep-old" or (family.newest == 1 and rotate):
            answer["refresh_token"] = next(reversed(family.live))
        return answer
