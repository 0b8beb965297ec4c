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
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from .backoff import WEBHOOKS, Schedule
from .durations import format_duration
from .setting_types import (
    IN_BYTES,
    IN_SECONDS,
    IS_KEY,
    IS_URL,
    Delays,
    Duration,
    Modules,
    Rejected,
    Size,
    Weights,
    mask_url,
)
from .settings_installation import InstallationSettings
from .sizes import GIB, MIB, format_size

DATABASE_FILE: Final = "netra.db"
ROOT_KEYS_FILE: Final = "root.keys"
AUDIT_MEMORY: Final = "audit-memory"
MASK: Final = "****"
_HOUR_S: Final = 3600.0


class Settings(InstallationSettings):
    """One value per setting, checked and frozen. Build it with `settings.load`, whose errors are `CannotStart`."""

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
    oauth_breaker_failures: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Consecutive failures after which a tenant's provider is not asked any more by this process. Low values leave "
        "tokens stale after a short disturbance; high ones keep asking a provider that is down, each request for a whole time-out.",
    )
    oauth_breaker_open: Duration = Field(
        30.0,
        ge=0.05,
        le=0.5 * _HOUR_S,
        description="How long it is not asked at first; that doubles with each failed probe, to 30 minutes. Longer than the last part "
        "of an access token's life, and a short outage leaves callers without one.",
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
    sso_return: Duration = Field(
        120.0,
        ge=0.1,
        le=24 * _HOUR_S,
        description="Time over which a sign-on provider that was down must answer before logins go back to it, and the length of each step "
        "of that: a tenth of them, half, all. Shorter sends people to one that is not well yet.",
    )
    sso_idle: Duration = Field(
        1800.0,
        ge=1,
        le=24 * _HOUR_S,
        description="How long a login session of the pages lasts without a request. Longer leaves a forgotten browser open to "
        "whoever sits down.",
    )
    sso_life: Duration = Field(
        12 * _HOUR_S,
        ge=1,
        le=30 * 24 * _HOUR_S,
        description="How long a login session lasts at most. Longer delays what the identity provider decides about somebody.",
    )
    sso_backup_life: Duration = Field(
        _HOUR_S,
        ge=1,
        le=24 * _HOUR_S,
        description="The same for a session by a backup provider, which knows less of the person.",
    )

    # Batches

    batch_jobs: Modules = Field(
        (),
        description="Modules that a worker imports to know its jobs, comma-separated; those in the folder that the command is given in are "
        "found. Importing runs their code; a run whose job no worker knows stays queued.",
    )
    batch_slots: int = Field(
        4,
        ge=1,
        le=256,
        description="Partitions that this process works on at once. Their transactions still take turns; more helps where reading "
        "or processing waits for something else.",
    )

    batch_weights: Weights = Field(
        (),
        description="Shares of tenants in this process's partitions where several want them, `acme=4,globex=2`; whoever is not named "
        "has 1. A large one makes the others wait.",
    )
    batch_keep: Duration = Field(
        30 * 24 * _HOUR_S,
        ge=_HOUR_S,
        le=3650 * 24 * _HOUR_S,
        description="How long finished runs stay, with their dead letters; then they are deleted. A start with the same job and "
        "parameters is the same run only until then: shorter, what a program repeats later than this is run again.",
    )

    # KPIs

    kpis: Path | None = Field(
        None,
        description="TOML file of business KPIs, a table [kpi.NAME] each (docs/kpis.md). Changing how a KPI judges events counts it anew "
        "from then on. Left out, KPIs are what programs declare.",
    )

    # Logs

    log_format: Literal["text", "json"] = Field(
        "text",
        description="How `netra serve` and `netra worker` write their log to stderr: readable, or one JSON object a line with tenant and "
        "trace. What looks like a secret is hidden in both.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning",
        description="The least that is logged. `debug` tells much of each delivery and costs time.",
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
    cache_l2_error_ratio_most: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of questions to the shared tier without an answer over 10 s above which the cache is reported as degraded. At 1 "
        "never. Whatever this says, the tier is passed by from a fifth on.",
    )
    cache_l2_most: Duration = Field(
        0.0,
        ge=0,
        le=600,
        description="Time of an answer of the shared tier, as the 99th percentile over 10 s, above which the cache is reported as "
        "degraded. At 0 never. Whatever this says, a tier that is slower than loading is passed by.",
    )

    # Debug sessions

    debug_keep: Duration = Field(
        7 * 24 * _HOUR_S,
        ge=_HOUR_S,
        le=365 * 24 * _HOUR_S,
        description="How long what a debug session has captured stays after its end; then it is deleted. Longer keeps a customer's data "
        "where nobody needs it any more; shorter loses what a bug report was to show.",
    )

    # Audit trail

    audit_memory: Path = Field(
        Path(),
        description="Folder that remembers the last signed checkpoint of each audit log. Never restore it with the database, and keep it "
        "on storage that survives the host: without it, or behind what it remembers, a log goes on under a new origin, which an entry "
        "tells. Several hosts should share one. Left out, audit-memory in the data folder.",
    )
    audit_origin: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*$")] | None = Field(
        None,
        description="What the names of audit logs begin with, such as hooks.example.com/audit: a URL of yours without its scheme. Logs "
        "that exist keep their names. Left out, netra.invalid and the installation's id.",
    )
    audit_keep: Duration = Field(
        0.0,
        le=100 * 365 * 24 * _HOUR_S,
        description="How long audit entries are kept; their hashes stay for ever. Entries that a row still refers to are kept with it. "
        "At 0 they are never given away. What is given away can be neither shown nor exported any more.",
    )

    @model_validator(mode="before")
    @classmethod
    def _place_files_in_the_data_folder(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        data = Path(values.get("data") or cls.model_fields["data"].default)
        places = {
            "database_url": f"sqlite:///{data / DATABASE_FILE}",
            "root_keys": data / ROOT_KEYS_FILE,
            "audit_memory": data / AUDIT_MEMORY,
        }
        return {**places, **values}

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
