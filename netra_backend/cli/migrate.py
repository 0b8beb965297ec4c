"""`netra migrate`: bring the schema up to date, or print how.

On SQLite every process migrates by itself when it opens the file; the command exists for an operator who wants it done
at a time of their own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CannotStart, UsageError
from .options import DATABASE, Place, command, single
from .session import new_netra

if TYPE_CHECKING:
    from ..storage.migrate import Migration
    from ..storage.sqlite import Sqlite

app = single()


@command(app, None, DATABASE)
async def migrate(
    place: Place,
    *,
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL of every migration and change nothing.")] = False,
    create_roles: Annotated[bool, typer.Option("--create-roles", help="PostgreSQL: make the roles first, as the owner.")] = False,
) -> None:
    """Bring the database's schema up to date."""
    database = sqlite_of(place)
    if create_roles:
        raise UsageError("SQLite has no roles", fix="Leave --create-roles out: the file's mode is what guards a SQLite database.")
    if print_:
        _print(place)
        return
    applied = await asyncio.to_thread(_apply, database)
    names = [f"{each.number:04d}_{each.name}" for each in applied]
    words = f"applied {', '.join(names)}" if names else "the schema is up to date"
    place.output.document({"database": str(database.path), "applied": names}, words)


def sqlite_of(place: Place) -> Sqlite:
    """The place's database, which nothing has opened yet and which opening does not migrate."""
    from ..storage.sqlite import Sqlite

    netra = new_netra(place, workers=False, role="cli")
    settings = netra.settings
    if settings.engine != "sqlite":
        raise CannotStart("PostgreSQL is not supported by this release yet", fix="Use a sqlite:/// URL.")
    return Sqlite(
        Path(settings.database_url.removeprefix("sqlite:///")),
        netra.runtime,
        driver=settings.sqlite_driver or "apsw",
        blocked_after_s=settings.quiet_after_s,
        disk_reserve_bytes=0,
        migrate=False,
    )


def _apply(database: Sqlite) -> list[Migration]:
    from ..storage.sqlite_presence import present

    database.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with present(database.path, database.driver):
        return database.migrate()


def _print(place: Place) -> None:
    from ..storage.migrate import migrations

    found = migrations("sqlite")
    shown = [{"number": each.number, "name": each.name, "checksum": each.checksum, "sql": each.sql} for each in found]
    words = "\n".join(f"-- {each.number:04d} {each.name}\n{each.sql}" for each in found)
    place.output.document({"engine": "sqlite", "migrations": shown}, words)
