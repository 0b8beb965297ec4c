"""All settings: what each means, what goes wrong when it is set badly, its default and its range.

Keyword arguments win over `NETRA_*` variables, which win over `netra.toml`. They are read once, checked once, together,
and frozen: nothing in Netra reads the environment later. The reference page and `netra doctor` print this module, so a
setting that is not described here does not exist.

Not built on pydantic-settings: that reads the process's own environment when the class is called, and its errors no
longer know which source held the bad value. `settings.load` is handed the sources, and an error names its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .backoff import WEBHOOKS, Schedule
from .durations import format_duration
from .setting_types import (
    IN_BYTES,
    IN_SECONDS,
    IS_KEY,
    IS_URL,
    CacheUrl,
    DatabaseUrl,
    Delays,
    Duration,
    Modules,
    Networks,
    OperatorKey,
    Ports,
    PostgresUrl,
    Rejected,
    Size,
    mask_url,
)
from .sizes import GIB, KIB, MIB, format_size

DATABASE_FILE: Final = "netra.db"
ROOT_KEYS_FILE: Final = "root.keys"
MASK: Final = "****"
_HOUR_S: Final = 3600.0


class Settings(BaseModel):
    """One value per setting, checked and frozen. Build it with `settings.load`, whose errors are `CannotStart`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Where things are

    data: Path = Field(
        Path("netra-data"),
        description="Folder of this installation's files: database, root keys, node locks. Two installations must never share "
        "one. It must be on a local disk: SQLite's locks do not hold on network file systems, and a shared one "
        "corrupts the database.",
    )
    database_url: DatabaseUrl = Field(
        "",
        description="The database, sqlite:////abs.db or postgresql://. Left out, it is the file netra.db in the data folder. "
        "SQLite serves the processes of one host; PostgreSQL serves any number of hosts.",
    )
    migrate_url: PostgresUrl | None = Field(
        None,
        description="PostgreSQL as the owner of the tables, used by `netra migrate` only. Left out, `database_url` is used, "
        "which then has more rights at run time than it needs.",
    )
    cache_url: CacheUrl | None = Field(
        None,
        description="Valkey or Redis for the shared cache tier and quick wake-ups. It holds hints only: losing all of it costs "
        "latency, never data. Left out, caches live in each process.",
    )

    public_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")] | None = Field(
        None,
        description="The server's address as others reach it, such as https://hooks.example.com: what links into its pages begin with. "
        "Left out, they begin as the request that asked for the link did, which is wrong behind a proxy that does not pass the host on.",
    )

    # Keys

    operator_key: OperatorKey | None = Field(
        None,
        description="The operator's API key, 32 to 128 of A-Z, a-z, 0-9, '_' and '-'. Whoever has it may read and change every "
        "tenant. Left out, `netra serve` makes one at the first start and prints it once.",
    )
    root_keys: Path = Field(
        Path(),
        description="File of `id:base64` lines; the first key seals new secrets, the others open old ones. Whoever reads it can "
        "open every stored secret, and without it no secret can be opened: back it up apart from the database. Left "
        "out, root.keys in the data folder, made with mode 0600.",
    )

    # Substrate

    sqlite_driver: Literal["apsw", "sqlite3"] | None = Field(
        None,
        description="Which SQLite library opens the database. Two libraries in one process drop each other's locks and corrupt "
        "the file, so `apsw` inside your own program promises that nothing else there opens it. Left out: apsw for "
        "`netra serve|worker` and the command line, sqlite3 for `Netra(url)`.",
    )
    postgres_connections: int = Field(
        10,
        ge=3,
        le=500,
        description="Connections to PostgreSQL for this process's work, besides two of its own for heartbeats and wake-ups. All processes "
        "together must stay below the server's max_connections.",
    )
    postgres_statement_cache: int = Field(
        512,
        ge=0,
        le=10_000,
        description="Prepared statements kept per PostgreSQL connection. Set 0 behind a pooler in transaction mode that does not follow "
        "prepared statements (PgBouncer before 1.21): every statement is then parsed anew.",
    )
    lease_ttl: Duration = Field(
        10.0,
        ge=0.2,
        le=600,
        description="How long a silent process keeps its work before others take it. Heartbeat = TTL/5; a process whose last "
        "beat is older than TTL/2 starts nothing new. Shorter recovers sooner and declares busy processes dead; all "
        "processes of an installation must agree on it.",
    )
    transaction_timeout: Duration = Field(
        5.0,
        ge=0.05,
        le=300,
        description="How long `netra.transaction()` may stay open before it is rolled back. On SQLite it holds the only writer: "
        "everybody else waits that long.",
    )
    tenants: Literal["auto", "strict"] = Field(
        "auto",
        description="`auto` makes a tenant on its first use by the library; `strict` refuses unknown ones, so that a typing "
        "error does not become a customer. REST always answers 404 for an unknown tenant.",
    )
    disk_reserve_bytes: Size = Field(
        64 * MIB,
        le=1024 * GIB,
        description="Intake answers 503 while the data folder's disk has less free space than this. Deliveries and "
        "acknowledgements still need room to be recorded: at 0 a full disk stops those too.",
    )
    memory_limit: Size | None = Field(
        None,
        ge=16 * MIB,
        description="Memory that this process may use, in place of what the cgroup or the machine says. Above the real limit, "
        "the kernel kills the process before Netra reacts.",
    )
    proc_root: Path = Field(
        Path("/proc"),
        description="Where process information is mounted; another place in some containers. A wrong one hides memory pressure.",
    )
    cgroup_root: Path = Field(
        Path("/sys/fs/cgroup"),
        description="Where control groups are mounted. A wrong one hides the container's memory limit.",
    )

    # Intake

    payload_max_bytes: Size = Field(
        1 * MIB,
        ge=1 * KIB,
        le=64 * MIB,
        description="The largest payload of one message; larger ones get 413. Every attempt sends it and every receiver must take it.",
    )
    body_max_bytes: Size = Field(
        16 * MIB,
        ge=1 * KIB,
        le=256 * MIB,
        description="The largest request body, that of a batch of messages. Each request in progress may hold this much memory.",
    )
    event_types: Literal["auto", "strict"] = Field(
        "auto",
        description="`auto` takes messages of any event type; `strict` answers 422 for one that the operator has not defined.",
    )
    svix_strict: bool = Field(
        default=False,
        description="Answer 409 for a known `eventId`, as Svix does, in place of the original answer. A producer that repeats "
        "after a lost answer then cannot tell success from conflict.",
    )
    svix_headers: bool = Field(
        default=True,
        description="Send `svix-id`, `svix-timestamp` and `svix-signature` beside the same headers of Standard Webhooks. Off, "
        "receivers that were written for Svix and read those names refuse what comes.",
    )

    # Outgoing requests

    egress_allow: Networks = Field(
        (),
        description="Networks (CIDR) that outgoing requests may reach although they are private or reserved. Each opens that "
        "network to every tenant who can create an endpoint.",
    )
    egress_ports: Ports = Field(
        (80, 443),
        description="Ports that outgoing requests may reach, from 1 to 65535, in place of the default: `443` closes 80. An added port "
        "lets tenants speak to what listens there.",
    )

    # Webhooks

    webhooks_schedule: Delays = Field(
        WEBHOOKS.delays_s,
        description="Delays after each failed attempt, `5s,30s,2m`, or `netra` (this default), `svix`, `standard`, or `none`; one attempt "
        "more than delays, at most 100. Event types, endpoints and messages may have their own. After the last the delivery is "
        "a dead letter: too short a list turns a receiver's bad hour into manual work.",
    )
    webhooks_jitter: float = Field(
        WEBHOOKS.jitter,
        ge=0,
        lt=1,
        description="Fraction by which each delay is spread to both sides. At 0, all that failed together is sent again together.",
    )
    webhooks_timeout: Duration = Field(
        15.0,
        ge=0.05,
        le=120,
        description="One deadline over look-up, connection, TLS, headers and body of an attempt. Longer lets slow receivers "
        "hold their ten slots; shorter repeats work that they had nearly done.",
    )
    webhooks_connect_timeout: Duration = Field(
        5.0,
        ge=0.05,
        le=60,
        description="The part of it that connecting and TLS may take; the shorter of the two holds.",
    )
    webhooks_deadline: Duration = Field(
        96 * _HOUR_S,
        ge=1,
        le=30 * 24 * _HOUR_S,
        description="Age at which an undelivered message is a dead letter, also while its endpoint is parked. Shorter than the "
        "schedule, it cuts the last attempts off.",
    )
    webhooks_keep: Duration = Field(
        90 * 24 * _HOUR_S,
        ge=24 * _HOUR_S,
        le=3650 * 24 * _HOUR_S,
        description="How long messages that are over stay, with their attempts and their keys; then they are deleted. Shorter, what a "
        "producer repeats later than this is a new message. It must be longer than `webhooks_deadline`.",
    )
    webhooks_in_flight: int = Field(
        10,
        ge=1,
        le=1_000,
        description="Attempts in progress per endpoint in this process. More speeds a fast receiver up and overruns a weak one.",
    )
    webhooks_in_flight_total: int = Field(
        1_000,
        ge=1,
        le=20_000,
        description="Attempts in progress in this process, each a socket: stay below its limit of open files.",
    )
    webhooks_breaker_failures: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Consecutive failures after which an endpoint is parked. Low values park healthy endpoints during a deployment.",
    )
    webhooks_breaker_open: Duration = Field(
        30.0,
        ge=0.05,
        le=0.5 * _HOUR_S,
        description="How long the first parking lasts; it doubles with each failed probe, to 30 minutes.",
    )

    webhooks_quota_rate: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Messages per second that one tenant may put in, in each process that takes messages; a second's worth at once. "
        "The rest is answered 429 with Retry-After. Off unless set; too low, a tenant's ordinary peak is refused, and a "
        "producer that does not repeat loses it.",
    )
    webhooks_quota_queue: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Deliveries of one tenant that may wait, due now or later; with as many its messages are answered 429. Counted once a "
        "second, so it may be passed by what comes within that. Off unless set; too low, one endpoint that is parked keeps all of "
        "a tenant's messages out.",
    )
    webhooks_failing_warnings: Delays = Field(
        (_HOUR_S, 24 * _HOUR_S, 96 * _HOUR_S),
        description="After how much failing without a success the operator is warned of an endpoint, by the operational event "
        "`message.attempt.failing`: `1h,1d,4d`. A warning later than `webhooks_disable_after` never comes; `none` gives none.",
    )
    webhooks_disable_after: Duration = Field(
        5 * 24 * _HOUR_S,
        le=365 * 24 * _HOUR_S,
        description="After how much failing without a success an endpoint is disabled, with an audit entry and the operational event "
        "`endpoint.disabled`; what it misses from then on is recorded as skipped. Short, an outage at a weekend cuts a customer off until "
        "somebody enables it again; at 0 an endpoint is never disabled, and a receiver that is gone costs attempts for ever.",
    )
    webhooks_disable_attempts: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="How many attempts must have failed as well before an endpoint is disabled. With few, one message is enough.",
    )

    # OAuth and single sign-on

    oauth_http_timeout: Duration = Field(
        10.0,
        ge=0.05,
        le=60,
        description="Deadline of one request to an identity provider. It must stay below `oauth_lease_ttl`.",
    )
    oauth_lease_ttl: Duration = Field(
        30.0,
        ge=0.2,
        le=600,
        description="How long one process alone may refresh a connection. It must outlast a request, or two refreshes meet and "
        "a provider that rotates strictly revokes the grant.",
    )
    sso_dwell: Duration = Field(
        300.0,
        ge=0.1,
        le=24 * _HOUR_S,
        description="Least time on one sign-on provider before another flip. Shorter lets a flapping provider move every user to and fro.",
    )
    sso_window: Duration = Field(
        30.0,
        ge=0.1,
        le=_HOUR_S,
        description="Span over which a sign-on provider's failures are counted. Shorter reacts sooner, and to noise.",
    )

    # Batches

    batch_jobs: Modules = Field(
        (),
        description="Modules that a worker imports to know its jobs, comma-separated. Importing runs their code; a run whose "
        "job no worker knows stays queued.",
    )
    batch_slots: int = Field(
        4,
        ge=1,
        le=256,
        description="Partitions that this process works on at once. Their transactions still take turns; more helps where reading "
        "or processing waits for something else.",
    )

    # Cache

    cache_lease: Duration = Field(
        1.0,
        ge=0.05,
        le=60,
        description="The bound on staleness in other processes. Shorter polls more often and, at a pause, passes caches by sooner.",
    )
    cache_max_bytes: Size = Field(
        64 * MIB,
        ge=1 * MIB,
        le=1024 * GIB,
        description="Memory that this process's cache tier may hold by its own accounting; the process needs about half as much again.",
    )

    cache_loads: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Loads of cached values in progress in this process; more wait. It keeps a lost cache tier from becoming a "
        "stampede on the database: stay below what that takes.",
    )
    cache_hit_ratio_least: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Hit ratio of this process's tier, over 10 s with at least 100 questions, below which the cache is reported as "
        "degraded. At 0 never: a ratio that is bad for one program is good for another.",
    )
    cache_error_ratio_most: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of failed loads over 10 s above which the cache is reported as degraded. At 1 never.",
    )
    cache_load_most: Duration = Field(
        0.0,
        ge=0,
        le=600,
        description="Time of a load, as the 99th percentile over 10 s, above which the cache is reported as degraded. At 0 never.",
    )

    @model_validator(mode="before")
    @classmethod
    def _place_files_in_the_data_folder(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        data = Path(values.get("data") or cls.model_fields["data"].default)
        return {"database_url": f"sqlite:///{data / DATABASE_FILE}", "root_keys": data / ROOT_KEYS_FILE, **values}

    @model_validator(mode="after")
    def _agree_with_each_other(self) -> Settings:
        _below(self, "payload_max_bytes", "body_max_bytes", "a payload arrives inside a body")
        _below(self, "webhooks_in_flight", "webhooks_in_flight_total", "one endpoint's attempts count among all")
        if self.webhooks_deadline >= self.webhooks_keep:
            raise Rejected(
                "webhooks_keep is not longer than webhooks_deadline",
                "A message is not deleted before it is over: raise NETRA_WEBHOOKS_KEEP, or lower NETRA_WEBHOOKS_DEADLINE.",
            )
        if self.oauth_http_timeout >= self.oauth_lease_ttl:
            raise Rejected(
                "oauth_http_timeout is not below oauth_lease_ttl",
                "A lease must outlast the request made under it: raise NETRA_OAUTH_LEASE_TTL, to three times the time-out if you can.",
            )
        return self

    @property
    def heartbeat_s(self) -> float:
        """Seconds between two beats of this process's node row."""
        return self.lease_ttl / 5

    @property
    def quiet_after_s(self) -> float:
        """Age of the last committed beat, in seconds, from which on this process starts nothing new."""
        return self.lease_ttl / 2

    @property
    def release_check_s(self) -> float:
        """Seconds between two searches for rows that this process owns in the table and not in memory."""
        return self.lease_ttl / 2

    @property
    def schedule(self) -> Schedule:
        """The retry schedule of deliveries."""
        return Schedule(self.webhooks_schedule, self.webhooks_jitter)

    @property
    def engine(self) -> Literal["sqlite", "postgresql"]:
        """Which engine `database_url` names."""
        return "sqlite" if self.database_url.startswith("sqlite:") else "postgresql"

    def masked(self) -> dict[str, Any]:
        """Every setting as it may be printed and logged: JSON types, durations as written, no key and no password."""
        return {name: printable(name, getattr(self, name)) for name in type(self).model_fields}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr` and tracebacks show: the masked form."""
        yield from self.masked().items()


def printable(name: str, value: Any) -> Any:
    """`value` of the setting `name` as `Settings.masked` shows it; also for values that were refused."""
    marks = field_marks(name)
    if value is None or isinstance(value, bool):
        return value
    if IS_KEY in marks:
        return MASK
    if IS_URL in marks:
        return mask_url(str(value))
    if isinstance(value, list | tuple):
        return [printable(name, item) for item in value]
    if IN_SECONDS in marks and isinstance(value, float):
        return format_duration(value)
    if IN_BYTES in marks and isinstance(value, int):
        return format_size(value)
    return value if isinstance(value, int | float) else str(value)


def field_marks(name: str) -> frozenset[str]:
    """The marks of `setting_types` on this setting, also those under an optional type."""
    field = Settings.model_fields[name]
    inner = [mark for option in getattr(field.annotation, "__args__", ()) for mark in getattr(option, "__metadata__", ())]
    return frozenset(mark for mark in [*field.metadata, *inner] if isinstance(mark, str))


def _below(settings: Settings, small: str, large: str, why: str) -> None:
    if getattr(settings, small) > getattr(settings, large):
        raise Rejected(f"{small} is above {large}", f"Lower {small} or raise {large}: {why}.")
