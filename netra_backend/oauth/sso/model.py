"""Records of single sign-on: frozen, as they stand in rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..keys import ALGORITHMS
from .errors import BadProvider
from .rotation import Candidate
from .states import ROLES

US: Final = 1_000_000
MOST_VALUES: Final = 100
MOST_TEXT: Final = 512
OPTIONS: Final = frozenset({"algorithms", "role_claim", "roles", "default_role", "audiences"})


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as it stands, with what its registration says of the issuer.

    `roles` maps a role to the values of `role_claim` that give it; who has none gets `default_role`, and without one is let in nowhere.
    `audiences` are those whose access tokens may be traded at our token endpoint; none where there are none.
    """

    id: bytes
    name: str
    rank: int
    enabled: bool
    client: str
    issuer: str
    client_id: str
    authorize_endpoint: str
    algorithms: tuple[str, ...] = ("RS256",)
    role_claim: str | None = None
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_role: str | None = None
    audiences: tuple[str, ...] = ()

    @property
    def candidate(self) -> Candidate:
        """As the rotation sees it."""
        return Candidate(self.name, self.issuer)

    def role_of(self, claims: Mapping[str, Any]) -> str | None:
        """The role that somebody with these claims has by this provider; None where he has none."""
        value = claims.get(self.role_claim) if self.role_claim else None
        values = value if isinstance(value, list) else [value]
        held = {each for each in values if isinstance(each, str)}
        for role in reversed(ROLES):
            if held & set(self.roles.get(role, ())):
                return role
        return self.default_role


@dataclass(frozen=True, slots=True)
class Offered:
    """A provider as somebody wants it: `client` is a registration's name, `options` are checked."""

    name: str
    client: str
    rank: int
    enabled: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """A person at an issuer. `linked` is the identity that it stands for, where it is a backup's."""

    id: bytes
    issuer: str
    subject: str
    linked: bytes | None
    role: str | None


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's options with their defaults; `BadProvider` for what cannot be."""
    if strange := set(given) - OPTIONS:
        raise BadProvider(f"a provider has no member {min(strange)!r}", fix=f"It may have {', '.join(sorted(OPTIONS))}.")
    algorithms = _texts(given.get("algorithms") or ["RS256"], "algorithms")
    if not set(algorithms) <= set(ALGORITHMS) or any(each.startswith("HS") for each in algorithms):
        raise BadProvider("these algorithms cannot sign a login", fix="Name public-key algorithms, such as RS256, ES256 or Ed25519.")
    roles = given.get("roles") or {}
    if not isinstance(roles, Mapping) or not set(roles) <= set(ROLES):
        raise BadProvider("roles maps each role to values of the claim", fix=f"The roles are {' and '.join(ROLES)}.")
    default = given.get("default_role")
    if default is not None and default not in ROLES:
        raise BadProvider(f"default_role {default!r}", fix=f"It is {' or '.join(ROLES)}, or left out.")
    claim = given.get("role_claim")
    if claim is not None and not _is_text(claim):
        raise BadProvider("role_claim is not the name of a claim")
    if bool(roles) != bool(claim):
        raise BadProvider("roles and role_claim belong together", fix="Give both, or `default_role` alone.")
    return {
        "algorithms": algorithms,
        "role_claim": claim,
        "roles": {role: _texts(values, f"roles.{role}") for role, values in roles.items()},
        "default_role": default,
        "audiences": _texts(given.get("audiences") or [], "audiences"),
    }


def _texts(value: Any, what: str) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > MOST_VALUES or not all(map(_is_text, value)):
        raise BadProvider(f"{what} is not a list of texts")
    return list(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_TEXT and value.isprintable()


def is_subject(value: Any) -> bool:
    """Whether it can be a subject (OpenID Connect Core 2: at most 255 ASCII characters)."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable()
