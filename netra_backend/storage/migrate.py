"""Forward-only migrations: numbered plain SQL, one folder per engine, each applied in a transaction of its own.

The checksum of an applied file is kept: one that changed after it was applied is refused, because two databases of the
same number would then differ. A process refuses a schema newer than it knows.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from ..errors import CannotStart
from .errors import SchemaTooNew, SchemaTooOld
from .sqlite_drivers import Connection

_TABLE: Final = """create table if not exists netra_migration (
  number integer primary key, name text not null, checksum text not null, applied_us integer not null) strict"""

Applied = Mapping[int, tuple[str, str]]
"""Name and checksum of each applied migration, by number."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(engine: str) -> list[Migration]:
    """Every migration of the engine, in order."""
    folder = resources.files(__package__).joinpath("migrations", engine)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(int(file.name[:4]), file.name[5:-4], file.read_text(encoding="utf-8")) for file in files]


def statements(sql: str) -> Iterator[str]:
    """Split a script at its statements; a trigger's body stays whole."""
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        # A pure function of the text: no file is opened, so no second SQLite library is in play.
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip() and not all(line.startswith("--") or not line.strip() for line in pending.splitlines()):
        raise ValueError(f"an unfinished statement ends the script: {pending.strip()[:80]!r}")


def migrate_sqlite(connection: Connection, now_us: int) -> list[Migration]:
    """Apply what is missing and return it. Safe beside another process that does the same.

    Where nothing is missing no write lock is asked for: a fleet at work may keep one that only polls for it waiting
    for longer than a start may take.
    """
    known = migrations("sqlite")
    if _has_table(connection) and not _missing(known, _applied(connection)):
        return []
    applied = []
    for migration in known:
        connection.run("begin immediate")
        try:
            connection.run(_TABLE)
            if is_missing(known, migration, _applied(connection)):
                for statement in statements(migration.sql):
                    connection.run(statement)
                connection.run(
                    "insert into netra_migration (number, name, checksum, applied_us) values (:number, :name, :checksum, :now_us)",
                    {"number": migration.number, "name": migration.name, "checksum": migration.checksum, "now_us": now_us},
                )
                applied.append(migration)
            connection.run("commit")
        except BaseException:
            if connection.in_transaction():
                connection.run("rollback")
            raise
    return applied


def check_sqlite(connection: Connection) -> None:
    """Raise where the schema is not the one that this release makes, for a process that may not migrate."""
    if not _has_table(connection):
        raise SchemaTooOld
    require_all(migrations("sqlite"), _applied(connection))


def require_all(known: Sequence[Migration], applied: Applied) -> None:
    """Raise unless exactly the known migrations are applied."""
    if missing := _missing(known, applied):
        raise SchemaTooOld(f"migration {missing[0].number} ({missing[0].name}) has not been applied")


def schema_of(connection: Connection) -> int:
    """The newest migration of a file that this release need not be able to run, but whose migrations it must all know."""
    known, applied = migrations("sqlite"), _applied(connection)
    return max((migration.number for migration in known if not is_missing(known, migration, applied)), default=0)


def is_missing(known: Sequence[Migration], migration: Migration, applied: Applied) -> bool:
    """Whether the migration is still to be applied; raises where the database is not one that this release may touch."""
    newest = max(applied, default=0)
    if newest > known[-1].number:
        raise SchemaTooNew(f"the database has migration {newest}, this release knows {known[-1].number}")
    found = applied.get(migration.number)
    if found is not None and found[1] != migration.checksum:
        raise CannotStart(
            f"migration {migration.number} ({found[0]}) was applied with another text",
            fix="Use the release that made this database, or restore a backup.",
        )
    return found is None


def _missing(known: Sequence[Migration], applied: Applied) -> list[Migration]:
    return [migration for migration in known if is_missing(known, migration, applied)]


def _has_table(connection: Connection) -> bool:
    return bool(connection.run("select 1 from sqlite_master where name = 'netra_migration'"))


def _applied(connection: Connection) -> Applied:
    rows = connection.run("select number, name, checksum from netra_migration")
    return {number: (name, checksum) for number, name, checksum in rows}
