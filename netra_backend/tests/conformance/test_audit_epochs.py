"""A5: a database that was put back never gives one size two roots. The memory outside it tells, and a new epoch says so.

A backup is simulated by two databases that begin as copies of each other: what one has published, the other does not know.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from netra_backend.observability.audit import note, store
from netra_backend.observability.audit.memory import Memory, epoch_of
from netra_backend.observability.audit.verifying import verify

from ..support import audit_verifier
from ..support.audits import SEALER, Trail
from ..support.storage import ENGINES, SYSTEM, copy_database, drop_postgres, opened

ENTRIES = {"before": 3, "published": 4, "other": 4}


class History:
    """Every checkpoint that was ever seen, as a stranger would keep them."""

    def __init__(self):
        self.seen = {}

    def publish(self, log):
        found = note.read_note(log.checkpoint)
        standing = self.seen.setdefault((found.origin, found.size), found.root)
        assert standing == found.root, "two roots for one size"


@pytest.fixture
async def installation(engine, request, tmp_path):
    """A folder with a database that has published, and its backup from before the last publication."""
    folder = tmp_path / "live"
    folder.mkdir()
    if engine in ENGINES:
        shutil.copy(request.getfixturevalue("templates")[engine], folder)
    history = History()
    async with opened(engine, folder) as database:
        trail = await Trail.over(database, tmp_path / "memory")
        await trail.write(ENTRIES["before"])
        await trail.settle()
        history.publish(await trail.log_of())
    backup = copy_database(folder, tmp_path / "backup")
    async with opened(engine, folder) as database:
        trail = await Trail.over(database, tmp_path / "memory")
        await trail.write(ENTRIES["published"])
        await trail.settle()
        history.publish(await trail.log_of())
    yield backup, history
    for each in (folder, backup):
        drop_postgres(each)


async def restored(engine, backup, memory, history, count, export: Path):
    """What a database that was put back publishes."""
    async with opened(engine, backup) as database:
        trail = await Trail.over(database, memory)
        await trail.write(count, action="thing.other")
        await trail.settle()
        await trail.settle()  # the entry that tells of the epoch
        found = await trail.log_of()
        history.publish(found)
        await trail.export(export)
        verdict = verify(export)
        assert verdict.ok
        assert audit_verifier.judge(export) is None
        return found, [orjson.loads(line) for line in (export / "entries.ndjson").read_bytes().splitlines()]


@pytest.mark.parametrize("count", [1, 4, 9])
async def test_behind_what_is_remembered_a_new_origin_opens_and_an_entry_says_so(engine, installation, count, tmp_path, caplog):
    backup, history = installation
    found, entries = await restored(engine, backup, tmp_path / "memory", history, count, tmp_path / "export")
    assert found.epoch == 2 == epoch_of(found.origin)
    told = [each for each in entries if each["action"] == store.EPOCH]
    assert [each["before"]["size"] for each in told] == [ENTRIES["before"] + ENTRIES["published"]]
    assert told[0]["after"]["origin"] == found.origin
    assert "does not continue" in caplog.text
    assert len({origin for origin, _ in history.seen}) == 2


async def test_put_back_twice_it_opens_a_third_origin(engine, installation, tmp_path):
    backup, history = installation
    again = copy_database(backup, tmp_path / "again")
    first, _ = await restored(engine, backup, tmp_path / "memory", history, 4, tmp_path / "one")
    second, _ = await restored(engine, again, tmp_path / "memory", history, 4, tmp_path / "two")
    assert (first.epoch, second.epoch) == (2, 3)
    drop_postgres(again)
    assert first.origin != second.origin


@pytest.mark.parametrize("how", ["missing", "damaged", "another's"])
async def test_without_what_was_remembered_a_new_origin_opens_too(engine, installation, how, tmp_path):
    backup, history = installation
    memory = tmp_path / "memory"
    file = Memory(memory)._file("acme")
    if how == "missing":
        shutil.rmtree(memory)
    else:
        file.write_bytes(b"\xff" if how == "damaged" else b"some text\n")
    found, entries = await restored(engine, backup, memory, history, 4, tmp_path / "export")
    assert found.epoch == 2
    assert store.EPOCH in {each["action"] for each in entries}


async def test_a_log_that_continues_what_is_remembered_keeps_its_origin(engine, installation, tmp_path):
    """Nothing was published after the backup: the memory is as old as it is."""
    backup, _ = installation
    async with opened(engine, backup) as database:
        trail = await Trail.over(database, tmp_path / "other-memory")
        shutil.rmtree(tmp_path / "other-memory", ignore_errors=True)
        log = await trail.log_of()
        (tmp_path / "other-memory").mkdir()
        trail.memory._file("acme").write_text(log.checkpoint)
        await trail.write(2)
        await trail.settle()
        after = await trail.log_of()
        assert (after.origin, after.epoch, after.signed_size) == (log.origin, 1, log.size + 2)


async def test_an_epoch_that_another_host_has_opened_is_newer_than_what_this_one_remembers(engine, installation, tmp_path):
    """Two hosts with a memory each, on one database: each opens one epoch at most, and neither goes back to an older origin."""
    backup, history = installation
    for turn, memory in enumerate(["host-b", "host-a", "host-b", "host-a"]):
        async with opened(engine, backup) as database:
            trail = await Trail.over(database, tmp_path / memory)
            await trail.write(2)
            await trail.settle()
            await trail.settle()
            found = await trail.log_of()
            history.publish(found)
            assert found.epoch == min(turn + 2, 3)
    assert found.signed_size == found.size


async def test_what_was_remembered_and_never_came_into_the_database_is_taken_up_again(engine, installation, tmp_path):
    """Killed between the memory and the database, also with the first checkpoint of all, no epoch opens."""
    backup, _ = installation
    async with opened(engine, backup) as database:
        trail = await Trail.over(database, tmp_path / "fresh")
        await trail.write(2, "globex")
        await trail.move()
        await database.write(store.take, *_take(trail), scope=SYSTEM)
        prepared = await trail.sequencer._prepare("globex")
        assert trail.sequencer._remember([prepared])
        remembered = trail.memory.recall("globex").checkpoint
        await trail.settle()
        log = await trail.log_of("globex")
        assert (log.origin, log.epoch, log.signed_size) == (remembered.origin, 1, 2)


async def test_of_two_that_remember_at_once_the_second_decides_anew(engine, installation, tmp_path):
    backup, _ = installation
    async with opened(engine, backup) as database:
        trail = await Trail.over(database, tmp_path / "fresh")
        await trail.write(2, "globex")
        await trail.move()
        await database.write(store.take, *_take(trail), scope=SYSTEM)
        one, two = [await trail.sequencer._prepare("globex") for _ in range(2)]
        assert len(trail.sequencer._remember([one])) == 1
        assert trail.sequencer._remember([two]) == []


def _take(trail):
    return SEALER, trail.node


def test_a_name_of_any_tenant_is_a_file_of_its_own(tmp_path):
    memory = Memory(tmp_path / "memory")
    names = [".", "..", "*", "a/b", "a" * 256, "a" * 255 + "b", "acme", "Acme"]
    files = {memory._file(name) for name in names}
    assert len(files) == len(names)
    assert {file.parent for file in files} == {tmp_path / "memory"}
    assert all(len(file.name) < 128 and file.name[0] not in "*/" for file in files)
