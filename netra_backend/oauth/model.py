"""Records of the vault: frozen, as they stand in rows; and what an answer of a token endpoint comes to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

US: Final = 1_000_000
OWN_RIGHT: Final = "client_credentials"
JWT_BEARER: Final = "jwt_bearer"
API_KEY: Final = "api_key"
LONGEST_RETRY_AFTER_S: Final = 3600.0
"""What a provider may ask for with `Retry-After`; our own pauses are shorter."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a client signs to be given a token (RFC 7523 section 2.1). `audience` is None for the endpoint that is asked.

    An empty `subject` leaves the claim out, although the standard asks for it: Google reads one as a user to act for.
    """

    key: str = field(repr=False)
    issuer: str
    subject: str
    audience: str | None
    lifetime_s: int
    claims: Mapping[str, Any]
    key_id: str | None

    def facts(self) -> dict[str, Any]:
        """All of it but the key."""
        return {
            "issuer": self.issuer,
            "subject": self.subject,
            "audience": self.audience,
            "lifetime_s": self.lifetime_s,
            "claims": dict(self.claims),
            "key_id": self.key_id,
        }


@dataclass(frozen=True, slots=True)
class Client:
    """A client registration. `secrets` are A and B: when the provider refuses one, the other is tried and becomes the first."""

    id: bytes
    name: str
    issuer: str | None
    token_endpoints: tuple[str, ...]
    authorize_endpoint: str | None
    revoke_endpoint: str | None
    client_id: str
    auth: str
    secrets: tuple[str, ...] = field(repr=False)
    first_secret: int = 0
    scopes: tuple[str, ...] = ()
    replay_window_s: int | None = None
    default_lifetime_s: int | None = None
    provider: str | None = None
    device_endpoint: str | None = None
    idle_s: int | None = None
    assertion: Assertion | None = None

    @property
    def is_strict(self) -> bool:
        """Whether the provider is known to revoke a grant whose refresh token comes twice."""
        return self.replay_window_s == 0

    def credentials(self) -> Sequence[tuple[int, str]]:
        """Secrets with their numbers, the preferred one first; one without text where the client has none."""
        numbered = list(enumerate(self.secrets or ("",)))
        first = self.first_secret % len(numbered)
        return [*numbered[first:], *numbered[:first]]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token endpoint gave. Times are wall-clock microseconds; `refresh` is None where it gave no new refresh token.

    `access` is None where a refresh token is all that somebody has, or a right that was not asked for yet.
    """

    access: str | None = field(repr=False)
    refresh: str | None = field(repr=False)
    issued_us: int
    expires_us: int | None
    refresh_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A stored connection, with its tokens opened.

    `kind` is None for a user's grant. `client_credentials` is the client's own right, `jwt_bearer` the one that it signs for: `refresh` is
    then a name of our own making, which is never sent and stands for the lineage alone. `api_key` is kept as it is.
    """

    tenant: str
    id: bytes
    name: str
    client: bytes
    state: str
    reason: str | None
    generation: int
    access: str | None = field(repr=False)
    refresh: str | None = field(repr=False)
    rt_fp: str | None
    issued_us: int | None
    expires_us: int | None
    due_us: int | None
    retry_us: int | None
    holder: bytes | None
    fence: int
    attempt_fp: str | None
    attempt_us: int | None
    attempt_at: int
    attempts: int
    failures: int
    audit_id: bytes | None
    kind: str | None = None

    @property
    def has_open_intent(self) -> bool:
        """Whether the current refresh token may have been sent, and nobody knows the answer."""
        return self.attempt_fp is not None and self.attempt_fp == self.rt_fp

    @property
    def ends_by_refusal(self) -> bool:
        """Whether `invalid_grant` is the provider's last word: on a user's grant, and on what an assertion says (RFC 7523 section 3.1)."""
        return self.kind in {None, JWT_BEARER}

    def is_paused(self, now_us: int) -> bool:
        """Whether it is not to be renewed yet, after a failure.

        No pause but of a grant in doubt is longer than `LONGEST_RETRY_AFTER_S`: one that seems to be began before the wall clock was set
        back, and is over.
        """
        if self.retry_us is None or now_us >= self.retry_us:
            return False
        return self.state == "at_risk" or self.retry_us - now_us <= LONGEST_RETRY_AFTER_S * US

    def lives(self, now_us: int, least_s: float = 0) -> bool:
        """Whether the access token is there and lives for more than `least_s`; one without an expiry does."""
        if self.access is None:
            return False
        return self.expires_us is None or self.expires_us > now_us + least_s * US


@dataclass(frozen=True, slots=True)
class Token:
    """A usable access token. `stale`: it could not be renewed in time and is served until its very end."""

    access_token: str = field(repr=False)
    expires_at: float | None
    generation: int
    stale: bool = False


class Due(NamedTuple):
    """A connection that is to be renewed, and since when."""

    due_us: int
    tenant: str
    id: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to refresh one connection, and all that the request needs. `replayed`: this token may have been sent before."""

    connection: Connection
    client: Client
    holder: bytes
    fence: int
    replayed: bool
    spool_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ready:
    """Nothing is to be sent: this is how the connection stands."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else holds the lease."""

    connection: Connection
    holder: bytes
    fence: int


Step = Ready | Busy | Lease
"""What the beginning of a refresh comes to."""


def is_costly(connection: Connection, client: Client) -> bool:
    """Whether a second request may cost the grant: nothing is spent where the client asks by its own right."""
    return client.is_strict and connection.kind is None


def fingerprint(refresh: str) -> str:
    """What stands for a refresh token in keys and conditions: 128 bits of its hash, which opens nothing."""
    return hashlib.sha256(b"netra refresh token\0" + refresh.encode(errors="surrogatepass")).hexdigest()[:32]


def due_us(grant: Grant, connection: bytes, generation: int, idle_s: int | None = None) -> int | None:
    """When to refresh before anybody needs it: at the end less a fifth of the lifetime, 300 s at most, spread, never before 0.6 of it.

    The spread is drawn from connection and generation, so that all processes agree and no two connections fall together.
    A grant that its provider ends after `idle_s` without a use is kept alive: it is used at half of that time at the latest, whatever
    its access token's life.
    """
    renewal = _renewal_us(grant, connection, generation)
    if idle_s is None:
        return renewal
    kept_alive = grant.issued_us + max(idle_s * US // 2, LEAST_INTERVAL_US)
    return kept_alive if renewal is None else min(renewal, kept_alive)


def _renewal_us(grant: Grant, connection: bytes, generation: int) -> int | None:
    if grant.expires_us is None:
        return None
    lifetime = grant.expires_us - grant.issued_us
    if lifetime <= 0:
        return grant.issued_us + LEAST_INTERVAL_US
    earliest = grant.issued_us + max(lifetime * 6 // 10, LEAST_INTERVAL_US)
    if grant.refresh_in_s is not None:
        return max(grant.issued_us + int(min(grant.refresh_in_s, lifetime / US) * US), earliest)
    spread = int.from_bytes(hashlib.sha256(connection + generation.to_bytes(8, "big")).digest()[:4], "big") / 2**32
    ahead = min(lifetime / 5, 300 * US) * (1 + spread)
    return max(int(grant.expires_us - ahead), earliest)


LEAST_INTERVAL_US: Final = US
"""Between two refreshes of one connection, for tokens that live for no time at all."""


def status_of(connection: Connection, client: str, now_us: int) -> Mapping[str, Any]:
    """The JSON of a connection: no token is in it."""
    return {
        "name": connection.name,
        "client": client,
        "kind": connection.kind or "grant",
        "state": connection.state,
        "reason": connection.reason,
        "generation": connection.generation,
        "expires_at": connection.expires_us / US if connection.expires_us is not None else None,
        "stale": not connection.lives(now_us) or connection.state != "active",
        "refreshable": connection.refresh is not None,
    }
