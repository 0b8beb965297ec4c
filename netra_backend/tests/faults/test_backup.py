"""A backup beside writers that do not stop: consistent, complete, and under its name only when it is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import closing

import apsw
import pytest

from netra_backend.errors import Conflict
from netra_backend.kernel.sizes import MIB
from netra_backend.storage.errors import Corrupt, DiskFull
from netra_backend.storage.sqlite_drivers import connect
from netra_backend.storage.sqlite_inspect import inspect
from netra_backend.storage.sqlite_presence import present

from ..integration.cli.driving import environment
from ..support.backups import backed_up, command, done, make, query, whose
from ..support.faulty import FailingVfs
from ..support.ledgers import lines
from ..support.world import TENANT, World
from ..support.zygote import ROOT, until
from .test_disk_full import mounted

INCOMPLETE = """select count(*) from netra_message m
where (select count(*) from netra_delivery d where d.tenant = m.tenant and d.message_id = m.id) <> (select count(*) from netra_endpoint)"""
ORPHANS = """select count(*) from netra_delivery d
where not exists (select 1 from netra_message m where m.tenant = d.tenant and m.id = d.message_id)"""


def acknowledged(children):
    """Refs whose acknowledgement a producer has seen, from the durable ledgers."""
    return {line["acknowledged"] for child in children for line in lines(child.ledger) if "acknowledged" in line}


def names(folder):
    return [each.name for each in folder.iterdir()]


@pytest.fixture
def busy(zygote, tmp_path):
    """Two processes that deliver, and send without end."""
    world = World(zygote, tmp_path, behaviours=("ok", "slow"))
    children = [world.start(), world.start()]
    for number, child in enumerate(children):
        child.tell("produce", tenant=TENANT, prefix=f"p{number}")
    until(lambda: all(acknowledged([child]) for child in children), "both producers are heard")
    yield children
    world.close()


def test_a_backup_beside_writers_has_all_that_was_acknowledged_before_and_each_message_with_its_deliveries(engine, busy, tmp_path):
    """In this process: a command would take a second to start, within which a checkpoint may bring what a bad copy lacks."""
    children = busy
    file = tmp_path / "backup.db"
    for _ in range(5):
        before = acknowledged(children)
        backed_up(tmp_path / "netra.db", file, engine, replace=True)
        lost = before - {ref for (ref,) in query(file, "select event_id from netra_message")}
        assert not lost, f"{len(lost)} of {len(before)} acknowledged messages are not in it"
        assert query(file, INCOMPLETE) == query(file, ORPHANS) == [(0,)]
        assert query(file, "pragma integrity_check") == [("ok",)]
        until(lambda before=before: acknowledged(children) - before, "the writers go on")
    for child in children:
        child.ask("let_go")


def test_a_backup_is_of_one_moment_and_ends_however_often_others_write_meanwhile(engine, tmp_path):
    database = make(tmp_path, "mine", engine, kilobytes=20_000)
    left = []
    with present(database, engine), closing(connect(engine, str(database))) as writer:

        def write_between_two_steps(pages_left, _of):
            assert len(left) < 100, "it begins anew, again and again"
            left.append(pages_left)
            writer.run("insert into netra_stream (stream, last_seq) values (:name, 1)", {"name": str(len(left))})

        made = backed_up(database, tmp_path / "backup.db", engine, progress=write_between_two_steps)
        assert writer.run("select count(*) from netra_stream") == [(len(left),)]
    assert len(left) >= 4 and left == sorted(set(left), reverse=True)
    assert made.found.log == {}


def test_a_backup_killed_before_any_of_its_lines_leaves_a_whole_file_or_none(engine, zygote, tmp_path):
    database = make(tmp_path / "data", "new", engine)
    backed_up(make(tmp_path / "other", "old", engine), tmp_path / "old.db", engine)
    former = (tmp_path / "old.db").read_bytes()
    seen = set()
    for line in range(1, 1000):
        file = tmp_path / f"{line}" / "backup.db"
        file.parent.mkdir()
        if line % 2:
            file.write_bytes(former)
        spec = {"line": line, "database": str(database), "file": str(file), "driver": engine}
        ended = zygote.fork("backing_up", spec, log=tmp_path / "log").died()
        seen.add((ended, whose(file) if file.exists() else "nothing"))
        backed_up(database, file, engine, replace=True)
        assert whose(file) == "new" and names(file.parent) == [file.name]
        if not ended:
            break
    assert line > 80
    assert seen == {(9, "old"), (9, "nothing"), (9, "new"), (0, "new")}


def test_a_backup_command_that_is_killed_while_it_copies_leaves_no_file_under_the_name(tmp_path):
    make(tmp_path, "mine", kilobytes=60_000)
    file = tmp_path / "backup.db"
    draft = tmp_path / "backup.db.netra-partial"
    child = subprocess.Popen(command("backup", file, "--data", tmp_path), cwd=ROOT, env=environment(), stderr=subprocess.PIPE)
    until(lambda: draft.exists() and draft.stat().st_size > MIB, "it copies")
    child.kill()
    assert child.wait(20) == -signal.SIGKILL
    child.stderr.close()
    assert not file.exists() and draft.exists()
    assert done("backup", file, "--data", tmp_path, env=environment()).returncode == 0
    assert whose(file) == "mine" and not draft.exists()


@pytest.fixture(params=["vfs", "tmpfs"])
def full(request):
    """Where a backup meets a full disk: a folder, or None where it is the test's own, and the options of the backup."""
    if request.param == "tmpfs":
        with mounted(MIB) as folder:
            yield folder, {}
        return
    vfs = FailingVfs("netra-backup-full", ".netra-partial")
    vfs.arm("xWrite", 20, apsw.SQLITE_FULL, for_good=True)
    yield None, {"vfs": vfs.name}
    vfs.unregister()


def test_a_full_disk_is_told_and_leaves_the_former_backup_and_nothing_else(full, tmp_path):
    folder, options = full
    folder = folder or tmp_path / "target"  # where nothing can be mounted, the VFS of the other case stands in
    folder.mkdir(exist_ok=True)
    database = make(tmp_path / "data", "mine", kilobytes=3_000)
    if not options and not folder.is_mount():
        options = {"reserve_bytes": 2**62}
    (folder / "backup.db").write_bytes(b"former")
    with pytest.raises(DiskFull) as refused:
        backed_up(database, folder / "backup.db", replace=True, **options)
    assert "backup.db" in refused.value.detail or options
    assert "disk" in refused.value.fix
    assert names(folder) == ["backup.db"] and (folder / "backup.db").read_bytes() == b"former"


def test_a_backup_that_would_take_the_reserve_of_the_databases_disk_is_refused(tmp_path):
    database = make(tmp_path, "mine")
    with pytest.raises(DiskFull, match="reserve"):
        backed_up(database, tmp_path / "backup.db", reserve_bytes=2**62)


def test_a_damaged_database_gives_no_backup(engine, tmp_path):
    database = make(tmp_path, "mine", engine, kilobytes=1_000)
    data = bytearray(database.read_bytes())
    data[100 * 4096 : 104 * 4096] = os.urandom(4 * 4096)
    database.write_bytes(data)
    with pytest.raises(Corrupt, match=r"netra\.db"):
        backed_up(database, tmp_path / "backup.db", engine)
    assert not list(tmp_path.glob("backup*"))


def test_of_two_backups_to_one_file_the_second_is_refused(tmp_path):
    database = make(tmp_path, "mine", kilobytes=10_000)
    refused = []

    def begin_another(_left, _of):
        with pytest.raises(Conflict) as error:
            backed_up(database, tmp_path / "backup.db")
        refused.append(error.value.detail)

    backed_up(database, tmp_path / "backup.db", progress=begin_another)
    assert refused and "another backup" in refused[0]
    assert whose(tmp_path / "backup.db") == "mine"


def test_a_backup_is_one_file_for_its_owner_alone_that_either_library_reads(engine, tmp_path):
    database = make(tmp_path, "mine", engine)
    file = tmp_path / "backup.db"
    began = time.time()
    os.umask(umask := os.umask(0o077))
    os.umask(0)
    try:
        made = backed_up(database, file, engine)
    finally:
        os.umask(umask)
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, made.bytes)
    assert file.stat().st_mtime >= began - 1
    assert file.read_bytes()[18:20] == b"\1\1", "a file that wants a write-ahead log beside it is not one file"
    for driver in ("apsw", "sqlite3"):
        with closing(connect(driver, str(file))) as connection:
            assert inspect(connection, file) == made.found
