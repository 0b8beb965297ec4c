"""Whether a file is a whole Netra database that this release knows, and what is in it.

The file may come from anywhere: its schema is not trusted to call functions, and its cells are checked while they are
read (SQLite, "Defense Against The Dark Arts"). Only Netra's own tables are judged beyond the structure of the file:
a user's tables may stand in it too, and whether their references hold is not our business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import Corrupt, DatabaseError, NotABackup
from .migrate import schema_of
from .sqlite_drivers import Connection

_TABLES: Final = "select name from sqlite_master where type = 'table'"
_BROKEN: Final = r"""select m.name, f.parent from sqlite_master m, pragma_foreign_key_check(m.name) f
where m.type = 'table' and m.name like 'netra\_%' escape '\' limit 1"""
_LOG: Final = "select stream, last_seq from netra_stream order by stream"
_ROOTS: Final = "select distinct root_id from netra_data_key order by root_id"
_COUNTS: Final[Mapping[str, str]] = {
    "netra_tenant": "select count(*) from netra_tenant",
    "netra_api_key": "select count(*) from netra_api_key",
    "netra_endpoint": "select count(*) from netra_endpoint",
    "netra_message": "select count(*) from netra_message",
    "netra_delivery": "select count(*) from netra_delivery",
    "netra_attempt": "select count(*) from netra_attempt",
    "netra_audit_entry": "select count(*) from netra_audit_entry",
    "netra_job_run": "select count(*) from netra_job_run",
}
"""What an operator recognises an installation by. A part that brings such a table adds it."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a good file holds."""

    schema: int
    rows: Mapping[str, int]
    log: Mapping[str, int]
    root_keys: Sequence[str]


def inspect(connection: Connection, file: Path) -> Inspection:
    """Read all of the file; `Corrupt`, `NotABackup` or `SchemaTooNew` where it is none. The caller holds `damage_of`."""
    connection.run("pragma trusted_schema = off")
    connection.run("pragma cell_size_check = on")
    tables = {str(name) for (name,) in connection.run(_TABLES)}
    if not {"netra_migration", "netra_meta"} <= tables:
        raise NotABackup(f"{file} is no Netra database")
    schema = schema_of(connection)
    _check(connection)
    return Inspection(
        schema,
        rows={name: int(connection.run(sql)[0][0]) for name, sql in _COUNTS.items() if name in tables},
        log={str(stream): int(last) for stream, last in connection.run(_LOG)},
        root_keys=[str(root) for (root,) in connection.run(_ROOTS)],
    )


def _check(connection: Connection) -> None:
    found = connection.run("pragma integrity_check(1)")
    if found != [("ok",)]:
        raise Corrupt(str(found[0][0]))
    for child, parent in connection.run(_BROKEN):
        raise Corrupt(f"a row of {child} names one of {parent} that is not there")


@contextmanager
def damage_of(file: Path) -> Iterator[None]:
    """Tell in the name of `file` what the database found wrong with it."""
    try:
        yield
    except Corrupt as error:
        raise Corrupt(f"{file} is damaged: {error.detail}") from error
    except (DatabaseError, UnicodeDecodeError) as error:
        raise Corrupt(f"{file} cannot be read: {error}") from error
