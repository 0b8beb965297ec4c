"""Checks of the database and of the processes that share it. It is opened without migrating, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from ...errors import NetraError
from ...kernel.ids import to_text
from ...kernel.runtime import Runtime
from ...kernel.scope import SYSTEM_TENANT, Scope
from ...kernel.setting_types import mask_url
from ...kernel.settings import Settings
from ...storage import api_keys, nodes
from ...storage.database import Database
from ...storage.lock_holder import write_lock_holder
from ...storage.nodes import Node
from ...storage.postgres import Postgres
from ...storage.sqlite import Sqlite
from ...storage.sqlite_drivers import DriverName, has_wal_reset_bug, library_version
from ...storage.sqlite_restore import interrupted_restore
from ...storage.transaction import Tx
from ..session import operator
from . import audit
from .checks import Check, judged

BACKWARDS_US: Final = 2_000_000
"""A wall clock may stand this far behind what another process wrote: two reads of one clock are never exactly in order."""
LOOK_EVERY_S: Final = 0.2
OLDEST_POSTGRES: Final = 150_000
"""As `server_version_num` has it."""


async def look(settings: Settings, runtime: Runtime) -> list[Check]:
    """Everything about the database; one failed check where it cannot be opened."""
    if settings.engine == "postgresql":
        return await _look_at_postgres(settings, runtime)
    driver = settings.sqlite_driver or "apsw"
    checks = [_library(driver)]
    path, exists = _file(settings)
    if not exists:
        return [*checks, Check("database", "warning", f"there is none at {path} yet", "`netra serve` or `netra migrate` makes it.")]
    if interrupted := interrupted_restore(path.absolute()):
        checks.append(Check("restore", "warning", interrupted, "The database is the former one until a restore has ended."))
    database = Sqlite(path, runtime, driver=driver, blocked_after_s=settings.quiet_after_s, disk_reserve_bytes=0, migrate=False)

    async def more() -> list[Check]:
        return [await _writer(database, settings)]

    return [*checks, *await _opened(database, str(path), settings, runtime, more)]


async def _look_at_postgres(settings: Settings, runtime: Runtime) -> list[Check]:
    lock_dir = settings.data.absolute() / "locks"
    database = Postgres(settings.database_url, runtime, lock_dir=lock_dir, connections=3, idle_limit_s=settings.lease_ttl)

    async def more() -> list[Check]:
        version, most, used = await database.server_facts()
        good = version >= OLDEST_POSTGRES
        return [
            judged("PostgreSQL", f"version {version // 10000}", good=good, fix="Netra's tests run on 15 and later: upgrade the server."),
            judged(
                "connections",
                f"{used} of {most} in use",
                good=used < most * 0.9,
                fix="Raise the server's max_connections, or lower NETRA_POSTGRES_CONNECTIONS, or put a pooler between.",
                otherwise="warning",
            ),
        ]

    return await _opened(database, mask_url(settings.database_url), settings, runtime, more)


async def _opened(
    database: Database, name: str, settings: Settings, runtime: Runtime, more: Callable[[], Awaitable[list[Check]]]
) -> list[Check]:
    try:
        await database.open()
    except (NetraError, OSError) as error:
        return [Check("database", "failed", str(error), getattr(error, "fix", ""))]
    try:
        checks = [Check("database", "ok", f"{name} opens, its schema is this release's"), *await more()]
        return [*checks, *await _common(database, settings, runtime)]
    finally:
        await database.close()


def _file(settings: Settings) -> tuple[Path, bool]:
    path = Path(settings.database_url.removeprefix("sqlite:///"))
    return path, path.exists()


def _library(driver: DriverName) -> Check:
    version = library_version(driver)
    words = ".".join(map(str, version))
    return judged(
        "SQLite library",
        f"{driver} with SQLite {words}" + (", which can corrupt a log that several processes share" if has_wal_reset_bug(version) else ""),
        good=not has_wal_reset_bug(version),
        fix="Use SQLite 3.51.3 or later (NETRA_SQLITE_DRIVER=apsw brings its own); until then Netra lets one process checkpoint.",
        otherwise="warning",
    )


async def _common(database: Database, settings: Settings, runtime: Runtime) -> list[Check]:
    living: list[Node] = await database.read(nodes.living, scope=operator())
    checks = [await _nodes(database, living, settings, runtime), _clock(living, runtime), await audit.look(database, settings)]
    if settings.operator_key is None:
        has_key = await database.read(api_keys.has_operator_key, scope=Scope(SYSTEM_TENANT))
        advice = "`netra serve` makes one at its first start, `netra key create --operator` another."
        checks.append(judged("operator key", "there is one" if has_key else "there is none", good=has_key, fix=advice, otherwise="warning"))
    return checks


async def _writer(database: Sqlite, settings: Settings) -> Check:
    """Whether this process gets the write lock in the time after which others would report it as blocked."""
    try:
        async with asyncio.timeout(settings.quiet_after_s + 1):
            await database.write(_nothing, scope=operator())
    except (NetraError, TimeoutError) as error:
        holder = write_lock_holder(database.path, settings.proc_root)
        who = f"process {holder} holds it" if holder else "the kernel does not tell who holds it"
        return Check("write lock", "failed", f"not to be had ({who}): {error}", "Look at that process: stopped, or in a long transaction.")
    return Check("write lock", "ok", "it is free for other processes")


async def _nothing(tx: Tx) -> None:  # noqa: ARG001  (a transaction without a statement still takes the lock)
    return


async def _nodes(database: Database, living: Sequence[Node], settings: Settings, runtime: Runtime) -> Check:
    """Whether each process that counts as alive still beats: watched until it has, or for half a TTL."""
    silent = {node.id: node for node in living}
    ends = runtime.clock.monotonic() + settings.quiet_after_s
    while silent and runtime.clock.monotonic() < ends:
        await runtime.clock.sleep(LOOK_EVERY_S)
        now = {node.id: node.beat for node in await database.read(nodes.living, scope=operator())}
        silent = {id_: node for id_, node in silent.items() if now.get(id_) == node.beat}
    words = f"{len(living)} alive" + "".join(f", {_name(node)}" for node in living)
    if silent:
        words += f"; without a beat for {settings.quiet_after_s:g} s: " + ", ".join(map(_name, silent.values()))
    return judged(
        "processes", words, good=not silent, fix="A quiet process starts nothing: look whether it is stopped or starved of CPU or disk."
    )


def _name(node: Node) -> str:
    return f"{node.role} {to_text('node', node.id)} (pid {node.pid} on {node.host})"


def _clock(living: Sequence[Node], runtime: Runtime) -> Check:
    newest = max((node.started_us for node in living), default=0)
    behind_us = newest - runtime.clock.wall_us()
    return judged(
        "clock",
        "the wall clock is not behind what other processes wrote"
        if behind_us <= BACKWARDS_US
        else f"the wall clock is {behind_us / 1e6:.1f} s behind",
        good=behind_us <= BACKWARDS_US,
        fix="Set the clocks of all hosts by NTP: due times and signatures are wall time, although leases are not.",
    )
