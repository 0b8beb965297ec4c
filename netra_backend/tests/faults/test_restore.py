"""A restore: refused beside anybody, refused for a bad file, and at any kill the old database or the new one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from netra_backend.errors import CannotStart
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.sizes import MIB
from netra_backend.storage.errors import Corrupt, DatabaseInUse, DiskFull, NotABackup, RestoreUnderWay, SchemaTooNew
from netra_backend.storage.sqlite_presence import alone
from netra_backend.storage.sqlite_restore import interrupted_restore, restore

from ..integration.cli.driving import environment
from ..support.backups import GARBAGE, backed_up, command, done, make, query, whose
from ..support.platform import WITHIN_S
from ..support.storage import new_database
from ..support.world import World
from ..support.zygote import ROOT, until
from .test_disk_full import mounted

EVERY = int(os.environ.get("NETRA_RESTORE_EVERY", "4"))
"""Of how many lines one is killed at. Each of the four cells begins with another one, so together they kill at all; a soak's cell at each."""

STRANGER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("select count(*) from netra_meta").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(engine, tmp_path):
    """A good backup, of a database that is `new`'s."""
    made = backed_up(make(tmp_path / "source", "new", engine), tmp_path / "backup.db", engine).file
    shutil.rmtree(tmp_path / "source")
    return made


def put(file, database, driver="apsw", **options):
    return restore(file, database, Runtime(), driver=driver, **options)


def formers(database):
    return sorted(each for each in database.parent.glob("netra.db.before-restore-*") if not each.name.endswith(("-wal", "-shm")))


def lay(folder, driver, kind):
    """The database of before, as a killed process leaves it, or damaged."""
    folder.mkdir()
    database = make(folder, "old", driver, log=True)
    if kind == "damaged":
        database.write_bytes(GARBAGE)
    return database


@pytest.mark.parametrize("kind", ["killed", "damaged"])
def test_a_restore_killed_before_any_of_its_lines_leaves_the_old_database_or_the_new_one(kind, engine, file, zygote, tmp_path):
    old = "garbage" if kind == "damaged" else "old"
    lay(tmp_path / "template", engine, kind)
    log = (tmp_path / "template" / "netra.db-wal").read_bytes()
    seen = set()
    first = 2 * (kind == "damaged") + (engine == "apsw")
    for line in range(1 + first % EVERY, 1000, EVERY):
        database = tmp_path / f"{line}" / "netra.db"
        shutil.copytree(tmp_path / "template", database.parent)
        spec = {"line": line, "database": str(database), "file": str(file), "driver": engine}
        ended = zygote.fork("restoring", spec, log=tmp_path / "log").died()
        interrupted = interrupted_restore(database)
        found = whose(database)
        seen.add((ended, found))
        assert old in {found, *map(whose, formers(database))}
        assert found == old or not interrupted
        assert found == "new" or ended
        put(file, database, engine)
        assert whose(database) == "new" and not interrupted_restore(database)
        assert old in set(map(whose, formers(database)))
        if kind == "damaged":
            assert log in [each.read_bytes() for each in database.parent.glob("*-wal")], "the log of a damaged database is evidence"
        if not ended:
            break
    assert line > 100
    assert seen == {(9, old), (9, "new"), (0, "new")}


def test_a_restore_command_that_is_killed_while_it_copies_leaves_the_old_database_and_says_what_to_do(tmp_path):
    file = backed_up(make(tmp_path / "source", "new", kilobytes=60_000), tmp_path / "backup.db").file
    database = make(tmp_path / "data", "old")
    staging = tmp_path / "data" / "netra.db.restoring"
    child = subprocess.Popen(command("restore", file, "--data", database.parent), cwd=ROOT, env=environment(), stderr=subprocess.PIPE)
    until(lambda: staging.exists() and staging.stat().st_size > MIB, "it copies")
    child.kill()
    assert child.wait(20) == -signal.SIGKILL
    child.stderr.close()
    started = done("tenant", "list", "--data", database.parent, env=environment())
    assert started.returncode == 0 and "repeat `netra restore FILE`" in started.stderr
    checked = done("doctor", "--data", database.parent, env=environment())
    assert "WARN restore: a restore of" in checked.stdout
    assert whose(database) == "old"
    again = done("restore", file, "--data", database.parent, env=environment())
    assert again.returncode == 0 and "had been interrupted" in again.stderr
    assert (whose(database), [whose(each) for each in formers(database)]) == ("new", ["old"])


def test_the_former_database_is_kept_and_restoring_it_is_the_way_back(engine, file, tmp_path):
    database = make(tmp_path / "data", "old", engine)
    database.chmod(0o640)
    first = put(file, database, engine)
    assert (whose(database), whose(first.former), first.has_checksum) == ("new", "old", True)
    assert database.stat().st_mode & 0o777 == 0o640
    second = put(first.former, database, engine)
    assert (whose(database), whose(second.former), second.has_checksum) == ("old", "new", False)
    assert len(formers(database)) == 2 and first.epoch != second.epoch
    assert dict(query(database, "select name, value from netra_meta"))["epoch"] == second.epoch


def test_without_a_database_a_restore_makes_one_and_ignores_no_log_that_lies_there(engine, file, tmp_path):
    left = lay(tmp_path / "data", engine, "killed")
    left.unlink()
    done_ = put(file, left, engine)
    assert (whose(left), done_.former) == ("new", None)
    fresh = tmp_path / "fresh" / "netra.db"
    assert put(file, fresh, engine).former is None
    assert whose(fresh) == "new" and fresh.stat().st_mode & 0o777 == 0o600


def test_nothing_of_the_past_life_holds_anything(engine, file, tmp_path):
    database = tmp_path / "netra.db"
    (tmp_path / "netra.db-locks" / "nodes").mkdir(parents=True)
    (tmp_path / "netra.db-locks" / "nodes" / "01.lock").touch()
    assert query(file, "select count(*) from netra_node") == [(1,)]
    put(file, database, engine)
    assert query(database, "select count(*) from netra_node") == [(0,)]
    assert query(database, "select count(*) from netra_meta where name in ('epoch', 'restored_us')") == [(2,)]
    assert query(database, "select count(*) from netra_meta where name = 'backup_sha256'") == [(0,)]
    assert not list((tmp_path / "netra.db-locks" / "nodes").iterdir())


def test_what_was_leased_when_the_backup_was_made_is_delivered_within_the_ttl_and_two_seconds(zygote, tmp_path):
    world = World(zygote, tmp_path, behaviours=("hang",), webhooks_timeout="60s")
    try:
        victim = world.start()
        victim.answer(world.send(victim, 8))
        until(lambda: world.states() == {"leased": 8}, "all are on their way")
        ended = done("backup", tmp_path / "backup.db", "--data", tmp_path, env=environment())
        assert ended.returncode == 0, ended.stderr
        world.kill(victim)
        later = world.start()
        later.answer(world.send(later, 2))  # after the backup: these the restored database does not know
        world.kill(later)
        ended = done("restore", tmp_path / "backup.db", "--data", tmp_path, env=environment())
        assert ended.returncode == 0, ended.stderr
        assert (world.states(), world.nodes()) == ({"leased": 8}, {})
        world.receiver.ask("heal")
        world.start()
        until(lambda: world.states() == {"delivered": 8}, "all are delivered", WITHIN_S)
    finally:
        world.close()


def refusal(file, tmp_path, engine):
    """Why the file is refused; the old database must not have noticed."""
    database = tmp_path / "data" / "netra.db"
    if not database.exists():
        make(database.parent, "old", engine)
    with pytest.raises((Corrupt, NotABackup, CannotStart)) as refused:
        put(file, database, engine)
    assert str(file) in refused.value.detail or isinstance(refused.value, CannotStart)
    assert whose(database) == "old" and not formers(database) and not interrupted_restore(database)
    return refused.value


def test_any_changed_byte_is_found(engine, file, tmp_path):
    whole = file.read_bytes()
    name = whole.index(b"backup_sha256")
    places = random.Random(1).sample([place for place in range(len(whole)) if not name <= place < name + 13], 60)
    for place in [*places, 0, 20, len(whole) - 1, name + 13, name + 76]:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        assert isinstance(refusal(file, tmp_path, engine), Corrupt)


@pytest.mark.parametrize("size", [0, 1, 512, 4096, 40_960, -4096, -1])
def test_a_truncated_file_is_refused(size, engine, file, tmp_path):
    with file.open("r+b") as cut:
        cut.truncate(size if size >= 0 else file.stat().st_size + size)
    refusal(file, tmp_path, engine)


def changed(file, sql):
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(sql)
    return file


OPEN = "delete from netra_meta where name = 'backup_sha256';"
"""What makes a backup a database like any other: only its structure can be checked."""

REFUSED = {
    "a newer schema": (
        OPEN + "insert into netra_migration (number, name, checksum, applied_us) values (9999, 'later', 'x', 1)",
        SchemaTooNew,
    ),
    "another's schema": (OPEN + "update netra_migration set checksum = 'x' where number = 2", CannotStart),
    "no database of ours": (OPEN + "drop table netra_migration", NotABackup),
    "a message of nobody": (
        OPEN
        + "insert into netra_message (tenant, id, event_type, payload, created_us, trace_id, span_id) values ('nobody', x'01', 't', '{}', 0, '', '')",
        Corrupt,
    ),
    "a schema that is no SQL": (
        OPEN + "pragma writable_schema = on; update sqlite_master set sql = 'create nothing' where name = 'netra_log'",
        Corrupt,
    ),
    "words that are no UTF-8": (OPEN + "update netra_migration set name = cast(x'ff' as text), checksum = cast(x'ff' as text)", Corrupt),
    "changed by hand": ("update netra_meta set value = 'changed' where name = 'who'", Corrupt),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_file_that_is_not_a_whole_backup_of_this_or_an_older_release_is_refused(how, engine, file, tmp_path):
    sql, why = REFUSED[how]
    assert isinstance(refusal(changed(file, sql), tmp_path, engine), why)


def test_a_file_with_a_log_beside_it_is_refused(engine, tmp_path):
    file = make(tmp_path / "copied", "new", engine, log=True)
    assert "netra.db-wal" in refusal(file, tmp_path, engine).detail


def test_a_backup_of_an_older_schema_is_restored_and_migrated_at_the_next_start(engine, file, tmp_path):
    changed(file, "delete from netra_migration where number > 1; delete from netra_meta where name = 'backup_sha256'")
    assert put(file, tmp_path / "netra.db", engine).found.schema == 1


def test_a_program_without_netra_that_has_the_file_open_is_named(engine, file, tmp_path):
    database = make(tmp_path / "data", "old", engine)
    with subprocess.Popen([sys.executable, "-c", STRANGER, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout.readline() == "open\n"
        with pytest.raises(DatabaseInUse, match=f"in process {stranger.pid}$") as refused:
            put(file, database, engine)
        assert refused.value.facts == {"pids": [stranger.pid]}
        with pytest.raises(DatabaseInUse, match="kernel does not name"):  # SQLite's own lock is asked last
            put(file, database, engine, proc_root=tmp_path)
        stranger.stdin.close()
        stranger.wait(20)
    assert whose(database) == "old" and not formers(database) and not interrupted_restore(database)
    put(file, database, engine)


async def test_beside_a_database_that_is_open_no_restore_begins_and_beside_a_restore_nobody_opens(engine, file, tmp_path):
    database = new_database(engine, tmp_path / "data")
    await database.open()
    try:
        with pytest.raises(DatabaseInUse):
            put(file, database.path, engine)
    finally:
        await database.close()
    with alone(database.path, tmp_path):
        with pytest.raises(RestoreUnderWay):
            await database.open()
        with pytest.raises(RestoreUnderWay):
            backed_up(database.path, tmp_path / "other.db", engine)
        with pytest.raises(DatabaseInUse):
            put(file, database.path, engine)
    await database.open()
    await database.close()


def test_a_full_disk_leaves_the_old_database_and_nothing_else(engine, file, tmp_path):
    """Where nothing can be mounted, the disk is large enough and the restore succeeds."""
    with mounted(4 * MIB) as folder:
        folder = folder or tmp_path / "small"
        folder.mkdir(exist_ok=True)
        database = make(folder, "old", engine)
        if not folder.is_mount():
            put(file, database, engine)
            return
        room = os.statvfs(folder)
        with (folder / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, (room.f_bavail - 10) * room.f_frsize)
        with pytest.raises(DiskFull, match=r"netra\.db"):
            put(file, database, engine)
        assert whose(database) == "old" and not formers(database) and not interrupted_restore(database)
