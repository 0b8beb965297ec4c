"""The settings of the installation itself: where things are, keys, the substrate, what comes in and what goes out.

`settings_model.Settings` adds those of the five parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .setting_types import CacheUrl, DatabaseUrl, Duration, Networks, OperatorKey, Ports, PostgresUrl, Size
from .sizes import GIB, KIB, MIB


class InstallationSettings(BaseModel):
    """See the module's docstring; built as `Settings` only."""

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

    trusted_proxies: Networks = Field(
        (),
        description="Networks (CIDR) of proxies in front of the server, whose X-Forwarded-Proto is believed. Whoever can reach the server "
        "from one of them, past the proxy, can pretend that his plain http was TLS.",
    )
    tls_certificate: Path | None = Field(
        None,
        description="File of the server's certificate and its chain, in PEM. With it `netra serve` speaks TLS only. Read at start: "
        "restart to renew.",
    )
    tls_key: Path | None = Field(
        None,
        description="File of the certificate's private key, in PEM. Left out, the certificate's file holds it too. Whoever reads it "
        "can pretend to be this server.",
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
