"""Small databases that say which one they are, in two places that must agree."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from ...kernel.runtime import Runtime
from ...storage.sqlite import Sqlite
from ...storage.sqlite_backup import Backup, backup
from .zygote import ROOT

GARBAGE = b"no database at all " * 400


def make(folder: Path, who: str, driver: str = "apsw", *, kilobytes: int = 0, log: bool = False) -> Path:
    """A migrated database that is `who`'s. With `log`, half of what says so stands only in the write-ahead log."""
    folder.mkdir(parents=True, exist_ok=True)
    living = folder / "making" / "netra.db" if log else folder / "netra.db"
    living.parent.mkdir(exist_ok=True)
    database = Sqlite(living, Runtime(), driver=driver, disk_reserve_bytes=0)
    database.migrate()
    with closing(database._connect()) as connection:
        connection.run("insert into netra_cursor (name, stream, seq) values (:who, 'events', 1)", {"who": who})
        for _ in range(kilobytes // 100):
            connection.run("insert into netra_outbox (stream, tenant, items, at_us) values ('x', 't', hex(randomblob(51200)), 0)")
        connection.run("pragma wal_checkpoint(truncate)")
        connection.run("insert into netra_node (id, beat, host, pid, role, started_us) values (x'01', 1, 'h', 1, 'test', 0)")
        connection.run("insert into netra_meta (name, value) values ('who', :who)", {"who": who})
        if log:
            for each in living.parent.glob("netra.db*"):
                if each.is_file():
                    shutil.copy(each, folder)
    shutil.rmtree(folder / "making", ignore_errors=True)
    return folder / "netra.db"


def whose(database: Path) -> str:
    """Whose database it is; fails where it is neither one whole nor the other."""
    if database.read_bytes().startswith(GARBAGE):
        return "garbage"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(
            "select value from netra_meta where name = 'who' union all select name from netra_cursor where name <> 'audit'"
        ).fetchall()
    assert len(rows) == 2 and rows[0] == rows[1], f"{database} is of both: {rows}"
    return rows[0][0]


def backed_up(database: Path, file: Path, driver: str = "apsw", **options: Any) -> Backup:
    return backup(database, file, Runtime(), driver=driver, **options)


def query(file: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def command(*words: Any) -> list[str]:
    """`netra WORDS` as a process of its own, from the repository's root."""
    return [sys.executable, "-m", "netra_backend.cli.main", *map(str, words)]


def done(*words: Any, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
