"""`netra backup`: one file with everything, made beside running processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import DATABASE, Place, command, single
from .session import new_netra

if TYPE_CHECKING:
    from ..kernel.runtime import Runtime
    from ..kernel.settings import Settings
    from ..storage.sqlite_backup import Progress
    from ..storage.sqlite_inspect import Inspection

app = single()
TELL_EVERY_S = 5.0


@command(app, None, DATABASE)
def backup(
    place: Place,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make, best on another disk.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists, once the new one is whole.")] = False,
) -> None:
    """Copy the database to one file, while everything goes on.

    The file is consistent, checked and durable when it gets its name; a killed backup leaves none. It holds secrets only
    sealed, and not the root keys that open them: keep those apart. Exit 1 if FILE exists or the database is damaged.
    """
    from ..storage import sqlite_backup

    settings, runtime = installation(place, "pg_dump")
    started = runtime.clock.monotonic()
    made = sqlite_backup.backup(
        database_of(settings),
        file,
        runtime,
        driver=settings.sqlite_driver or "apsw",
        replace=force,
        reserve_bytes=settings.disk_reserve_bytes,
        progress=_telling(place, runtime),
    )
    seconds = round(runtime.clock.monotonic() - started, 3)
    document = {"file": str(made.file), "database": str(database_of(settings)), "bytes": made.bytes, "seconds": seconds}
    place.output.document(document | described(made.found), f"{made.file}: {made.bytes} bytes in {seconds} s, {in_words(made.found)}")
    place.output.note(f"The root keys are not in it, and without them its secrets stay sealed: keep {settings.root_keys} apart from it.")


def installation(place: Place, tool: str) -> tuple[Settings, Runtime]:
    """Settings and runtime of the place; a usage error that names PostgreSQL's own tool where its database is one."""
    netra = new_netra(place, workers=False, role="cli")
    if netra.settings.engine != "sqlite":
        raise UsageError(
            f"this command is for SQLite; PostgreSQL has {tool}", fix="docs/backup.md tells with which options and as which role."
        )
    return netra.settings, netra.runtime


def database_of(settings: Settings) -> Path:
    """The SQLite file."""
    return Path(settings.database_url.removeprefix("sqlite:///")).absolute()


def described(found: Inspection) -> dict[str, Any]:
    """What is in a file, for `--json`."""
    return {"schema": found.schema, "rows": dict(found.rows), "log": dict(found.log), "root_keys": list(found.root_keys)}


def in_words(found: Inspection) -> str:
    """What is in a file, for people."""
    rows = ", ".join(f"{count} {name.removeprefix('netra_')}" for name, count in found.rows.items())
    log = ", ".join(f"{stream} {last}" for stream, last in found.log.items()) or "empty"
    return f"checked\nschema {found.schema:04d}; rows: {rows}; log: {log}"


def _telling(place: Place, runtime: Runtime) -> Progress:
    told_at = runtime.clock.monotonic()

    def tell(left: int, of: int) -> None:
        nonlocal told_at
        now = runtime.clock.monotonic()
        if now - told_at >= TELL_EVERY_S:
            told_at = now
            place.output.note(f"{100 * (of - left) // of} % are copied.")

    return tell
