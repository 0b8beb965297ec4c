"""S7: two SQLite libraries never share a process and a file unnoticed; one library may be used twice.

What is refused is shown to be worth refusing: in a process of its own, with the refusal taken out, the mixed pair loses
commits that both sides were told of.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from netra_backend.errors import TwoSqliteLibraries
from netra_backend.storage.sqlite_drivers import driver_of

from ..support.storage import ACME, SYSTEM, Q, everybody, new_database, opened, put

COMMITS = int(os.environ.get("NETRA_TWO_LIB_COMMITS", "300"))
ATTEMPTS = 3
ROOT = Path(__file__).parents[3]

SPELLINGS = {
    "as it is": str,
    "path object": Path,
    "bytes": os.fsencode,
    "relative": lambda path: os.path.relpath(path),
    "uri": lambda path: f"file:{path}",
    "uri with options": lambda path: f"file:{path}?mode=ro",
    "uri with an empty authority": lambda path: f"file://{path}",
    "uri with an authority": lambda path: f"file://localhost{path}",
    "uri with escapes": lambda path: "file:" + quote(str(path)).replace("netra", "%6e%65tra"),
    "symlink": lambda path: _linked(path, "symbolic", os.symlink),
    "hard link": lambda path: _linked(path, "hard", os.link),
    "symlinked folder": lambda path: _linked(path.parent, "folder", os.symlink) / path.name,
}

OTHER_PROCESS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
for number, line in enumerate(sys.stdin):
    connection.execute("begin immediate")
    connection.execute("insert into fact (who, part, body) values ('theirs', ?, '')", (number,))
    connection.execute("commit")
    print(number, flush=True)
"""

MIXED_PAIR = """
import asyncio, json, sqlite3, subprocess, sys
from pathlib import Path
from netra_backend.storage import sqlite_drivers
from netra_backend.tests.support.storage import ACME, Q, opened

if sys.argv[3] == "taken out":
    sqlite_drivers._refuse_second_library = lambda event, arguments: None

async def main(folder, rounds):
    async with opened("apsw", folder, transaction_timeout_s=30.0) as database:
        path = str(database.path)
        other = subprocess.Popen([sys.executable, "-c", sys.argv[2], path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        told = {"ours": 0, "theirs": 0}
        for number in range(rounds):
            async with database.transaction(ACME) as tx:
                await tx.execute(Q.insert_fact, who="ours", part=number, body="")
                guest = sqlite3.connect(path)  # closing it drops this process's locks, also apsw's
                guest.execute("select 1 from fact limit 1").fetchall()
                guest.close()
                other.stdin.write(b"go\\n")
                other.stdin.flush()
                other.stdout.readline()
                told["theirs"] += 1
            told["ours"] += 1
        other.kill()
        other.wait()
        print(json.dumps(told), flush=True)

asyncio.run(main(Path(sys.argv[1]), 20))
"""


def _linked(path, name, link):
    target = path.parent / name
    link(path, target)
    return target


@contextlib.contextmanager
def users_connection(target, **options):
    connection = sqlite3.connect(target, isolation_level=None, **options)
    try:
        yield connection
    finally:
        connection.close()


def descriptors_of(path):
    status, count = path.stat(), 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            other = descriptor.stat()
            count += (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino)
    return count


# Refused, in each order


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_the_interpreters_sqlite3_is_refused_while_apsw_has_the_file_open(tmp_path, spelling):
    async with opened("apsw", tmp_path / "data") as database:
        before = descriptors_of(database.path)
        target = SPELLINGS[spelling](database.path)
        with pytest.raises(TwoSqliteLibraries) as caught, users_connection(target, uri=spelling.startswith("uri")):
            pass
        assert 'sqlite_driver="sqlite3"' in caught.value.fix
        assert descriptors_of(database.path) == before, "the file was opened and closed: the locks are gone"
        assert await database.write(put, "still", scope=ACME) == "still"


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if "link" in name or name == "as it is"])
async def test_apsw_is_refused_while_the_interpreters_sqlite3_has_the_file_open(tmp_path, spelling):
    path = tmp_path / "data" / "netra.db"
    path.parent.mkdir()
    with users_connection(path) as connection:
        connection.execute("create table users (id integer primary key)")
        through = Path(SPELLINGS[spelling](path))
        database = new_database("apsw", through.parent)
        database.path = through
        with pytest.raises(TwoSqliteLibraries):
            await database.open()
        assert driver_of(path) is None
        connection.execute("insert into users values (1)")
    async with opened("apsw", path.parent) as database:
        assert await database.write(put, "now", scope=ACME) == "now"


@pytest.mark.parametrize(("first", "second"), [("apsw", "sqlite3"), ("sqlite3", "apsw")])
async def test_two_engines_of_one_file_must_use_one_library(tmp_path, first, second):
    async with opened(first, tmp_path) as database:
        with pytest.raises(TwoSqliteLibraries):
            await new_database(second, tmp_path).open()
        async with opened(first, tmp_path) as another:
            assert await another.write(put, "another", scope=ACME) == "another"
        with pytest.raises(TwoSqliteLibraries):
            await new_database(second, tmp_path).open()
        assert await database.read(everybody, scope=SYSTEM) == {"another": 2}
    async with opened(second, tmp_path) as database:
        assert await database.read(everybody, scope=SYSTEM) == {"another": 2}


async def test_a_file_that_apsw_has_closed_and_every_other_file_are_free(tmp_path):
    async with opened("apsw", tmp_path / "data"):
        with users_connection(tmp_path / "other.db") as connection, users_connection(":memory:"):
            connection.execute("create table t (i)")
        with users_connection(""):
            pass
    with users_connection(tmp_path / "data" / "netra.db") as connection:
        assert connection.execute("select count(*) from fact").fetchall() == [(0,)]


async def test_a_start_that_failed_leaves_no_claim(tmp_path):
    path = tmp_path / "netra.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(Exception, match="not a database"):
        await new_database("apsw", tmp_path).open()
    assert driver_of(path) is None
    with users_connection(path):
        pass


# One library, used twice


async def test_an_own_writer_and_a_users_connection_commit_side_by_side_and_lose_nothing(tmp_path):
    async with opened("sqlite3", tmp_path, blocked_after_s=60.0) as database:
        failures = []

        def user():
            try:
                for number in range(COMMITS):
                    if number % 50 == 0:  # connections come and go, as in a web application
                        connection = sqlite3.connect(database.path, isolation_level=None, timeout=60)
                    connection.execute("begin immediate")
                    connection.execute("insert into fact (who, part, body) values ('user', ?, '')", (number,))
                    connection.execute("commit")
                    if number % 50 == 49 or number == COMMITS - 1:
                        connection.close()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=user)
        thread.start()
        for number in range(COMMITS):
            await database.write(_one, number, scope=ACME)
        await asyncio.to_thread(thread.join)
        assert failures == []
        assert await database.read(everybody, scope=SYSTEM) == {"ours": COMMITS, "user": COMMITS}
    with users_connection(tmp_path / "netra.db") as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert dict(connection.execute("select who, count(*) from fact group by who").fetchall()) == {"ours": COMMITS, "user": COMMITS}


async def _one(tx, number):
    await tx.execute(Q.insert_fact, who="ours", part=number, body="")


# What the refusal is for


def mixed_pair(folder, refusal):
    folder.mkdir()
    command = [sys.executable, "-c", MIXED_PAIR, str(folder), OTHER_PROCESS, refusal]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60)


def damage(path, told):
    """How many acknowledged rows are gone; all of them where the file cannot be read any more."""
    try:
        with users_connection(path) as connection:
            rows = dict(connection.execute("select who, count(*) from fact group by who").fetchall())
            intact = connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    except sqlite3.Error:
        return sum(told.values())
    return sum(max(0, count - rows.get(who, 0)) for who, count in told.items()) or int(not intact)


def test_with_the_refusal_taken_out_the_mixed_pair_loses_acknowledged_rows(tmp_path):
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        done = mixed_pair(folder, "taken out")
        assert done.stdout, done.stderr.decode()
        lost = damage(folder / "netra.db", json.loads(done.stdout))
        if lost:
            return
    raise AssertionError("the mixed pair did no damage: the recipe has gone stale")


def test_with_the_refusal_in_place_the_same_program_is_stopped_before_any_harm(tmp_path):
    done = mixed_pair(tmp_path / "data", "in place")
    assert done.returncode and b"TwoSqliteLibraries" in done.stderr
    assert damage(tmp_path / "data" / "netra.db", {"ours": 0, "theirs": 0}) == 0
