"""`netra migrate`: bring the schema up to date, or print how.

On SQLite every process migrates by itself when it opens the file; the command exists for an operator who wants it done
at a time of their own. On PostgreSQL the owner migrates (NETRA_MIGRATE_URL), and nobody else can.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import UsageError
from .options import DATABASE, Place, command, single
from .session import new_netra

if TYPE_CHECKING:
    from ..kernel.settings import Settings
    from ..netra import Netra
    from ..storage.migrate import Migration

PASSWORD_BYTES: Final = 24

app = single()


@command(app, None, DATABASE)
async def migrate(
    place: Place,
    *,
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL of every migration and change nothing.")] = False,
    create_roles: Annotated[bool, typer.Option("--create-roles", help="PostgreSQL: make the roles first, print the URL to use.")] = False,
) -> None:
    """Bring the database's schema up to date."""
    netra = new_netra(place, workers=False, role="cli")
    owner = _owner(place, netra.settings)
    if create_roles and owner is None:
        raise UsageError("SQLite has no roles", fix="Leave --create-roles out: the file's mode is what guards a SQLite database.")
    if print_:
        _print(place, "sqlite" if owner is None else "postgres")
    elif owner is None:
        _tell(place, *await asyncio.to_thread(_migrate_sqlite, netra))
    else:
        await _migrate_postgres(place, netra, owner, create_roles=create_roles)


def _owner(place: Place, settings: Settings) -> str | None:
    """The owner's URL; None for SQLite.

    At a first set-up nobody has Netra's own URL yet, `--create-roles` prints it: the owner's alone says that it is PostgreSQL.
    Only a file that this very call names is not overruled by it.
    """
    if settings.engine == "postgresql":
        return settings.migrate_url or settings.database_url
    return None if place.database_url is not None else settings.migrate_url


def _migrate_sqlite(netra: Netra) -> tuple[str, list[Migration]]:
    from ..storage.sqlite import Sqlite
    from ..storage.sqlite_presence import present

    path = Path(netra.settings.database_url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    driver = netra.settings.sqlite_driver or "apsw"
    with present(path, driver):
        return str(path), Sqlite(path, netra.runtime, driver=driver, blocked_after_s=netra.settings.quiet_after_s).migrate()


async def _migrate_postgres(place: Place, netra: Netra, owner: str, *, create_roles: bool) -> None:
    from ..kernel.setting_types import mask_url
    from ..storage.postgres_schema import create_roles as make_roles
    from ..storage.postgres_schema import migrate_postgres

    runtime = netra.runtime
    facts: dict[str, Any] = {}
    words = ""
    if create_roles:
        url = await make_roles(owner, runtime.chance.token(PASSWORD_BYTES).hex())
        facts["url"] = url
        words = (
            f"; Netra's own URL, with its password printed this once: NETRA_DATABASE_URL={url}"
            if url is not None
            else "; the role netra_run was there already and keeps its password"
        )
    applied = await migrate_postgres(owner, runtime.clock.wall_us)
    _tell(place, mask_url(owner), applied, words, **facts)


def _tell(place: Place, database: str, applied: list[Migration], more: str = "", **facts: Any) -> None:
    names = [f"{each.number:04d}_{each.name}" for each in applied]
    words = f"applied {', '.join(names)}" if names else "the schema is up to date"
    place.output.document({"database": database, "applied": names, **facts}, words + more)


def _print(place: Place, engine: str) -> None:
    from ..storage.migrate import migrations
    from ..storage.postgres_schema import roles_sql

    found = migrations(engine)
    shown = [{"number": each.number, "name": each.name, "checksum": each.checksum, "sql": each.sql} for each in found]
    roles = {"roles": roles_sql()} if engine == "postgres" else {}
    head = f"-- roles (netra migrate --create-roles)\n{roles['roles']}\n" if roles else ""
    words = head + "\n".join(f"-- {each.number:04d} {each.name}\n{each.sql}" for each in found)
    place.output.document({"engine": engine, **roles, "migrations": shown}, words)
