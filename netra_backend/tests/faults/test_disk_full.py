"""A disk that fills up or fails: intake stops before it is full, nothing is acknowledged falsely, and it passes.

The full disk is a small tmpfs of its own where this process may mount one (root). Everywhere, also there, the same is
tried with a VFS that answers as a full disk does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

import apsw
import pytest

from netra_backend.errors import NetraError, OutcomeUnknown, Unavailable
from netra_backend.kernel.sizes import MIB
from netra_backend.storage import sqlite_housekeeping
from netra_backend.storage.errors import DiskFull

from ..support.disks import RealDisk, mounted
from ..support.faulty import FailingVfs
from ..support.members import living, member
from ..support.storage import ACME, SYSTEM, Q, eventually, everybody, new_database, opened, outcome_of, put, write_when_it_can

RESERVE = 16 * MIB


def _can_mount():
    with mounted(MIB) as folder:
        return folder is not None


class Usage(NamedTuple):
    """What `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


DISKS = ["vfs", "tmpfs"] if _can_mount() else ["vfs"]


class VfsDisk:
    """A disk that is full when told so."""

    def __init__(self, folder):
        self.folder, self._vfs = folder, FailingVfs("netra-disk-full")
        self.options = {"vfs": self._vfs.name}

    def fill(self):
        self._vfs.arm("xWrite", 0, apsw.SQLITE_FULL, for_good=True)

    def free(self):
        self._vfs.heal()

    def close(self):
        self._vfs.unregister()


@pytest.fixture(params=DISKS)
def disk(request, tmp_path):
    if request.param == "vfs":
        made = VfsDisk(tmp_path)
        yield made
        made.close()
        return
    with mounted(64 * MIB) as folder:
        yield RealDisk(folder)


def reserving(driver, folder, reserve=RESERVE, **options):
    database = new_database(driver, folder, **options)
    database._disk_reserve_bytes = reserve
    return database


async def table(tx):
    await tx.execute(Q.create_fact)


async def fill_until_refused(database, disk):
    """Write until a write fails; who was acknowledged, and how the others ended."""
    acknowledged, failed = [], {}
    for number in range(200):
        outcome = await outcome_of(database.write(put, f"n{number}", (1, 2), "x" * 20_000, scope=ACME))
        if isinstance(outcome, NetraError):
            failed[f"n{number}"] = outcome
            if len(failed) == 3:
                break
        else:
            acknowledged.append(outcome)
        if number == 5:
            disk.fill()
    return acknowledged, failed


async def test_on_a_full_disk_nothing_is_acknowledged_falsely_reads_go_on_and_it_passes(disk):
    async with opened("apsw", disk.folder, **disk.options) as database:
        acknowledged, failed = await fill_until_refused(database, disk)
        assert len(acknowledged) >= 6 and failed
        assert all(isinstance(error, (Unavailable, OutcomeUnknown)) for error in failed.values())
        rows = await database.read(everybody, scope=SYSTEM)
        assert {name: rows.get(name) for name in acknowledged} == dict.fromkeys(acknowledged, 2)
        assert set(rows) - set(acknowledged) <= {name for name, error in failed.items() if isinstance(error, OutcomeUnknown)}
        disk.free()
        await write_when_it_can(database, put, "after")
        database.check_intake()
    async with opened("apsw", disk.folder, **disk.options) as database:
        assert (await database.read(everybody, scope=SYSTEM))["after"] == 2


@pytest.mark.parametrize("disk", DISKS[:1], indirect=True)
async def test_a_life_that_ended_on_a_full_disk_leaves_no_row_behind_once_there_is_room(disk):
    """What it held is due for others then: nobody waits until it is declared dead."""
    async with opened("apsw", disk.folder, **disk.options) as database, member(database) as node:
        first, lives = node.id, set()
        disk.fill()
        node._doubt.set()
        for _ in range(3):
            with pytest.raises(NetraError):
                await node._beat_once()
            lives.add(node.id)
        assert len(lives) == 3
        disk.free()
        await eventually(lambda: _beats(node))
        assert set(await living(database)) == {node.id}
        assert node.id not in {first, *lives}


async def _beats(node):
    with suppress(NetraError):
        await node._beat_once()
        return True


async def test_below_the_reserve_intake_is_refused_the_ballast_given_up_and_other_work_goes_on(engine, tmp_path, monkeypatch):
    free = [10 * RESERVE]
    monkeypatch.setattr(sqlite_housekeeping.shutil, "disk_usage", lambda _: Usage(100 * RESERVE, 0, free[0]))
    database = reserving(engine, tmp_path)
    ballast = database.lock_dir / "ballast"
    await database.open()
    try:
        await database.write(table, scope=SYSTEM)
        database.check_intake()
        assert ballast.stat().st_size == sqlite_housekeeping.BALLAST_BYTES
        free[0] = RESERVE - 1
        await eventually(lambda: _refused(database))
        assert not ballast.exists()
        assert await database.write(put, "acknowledgement", scope=ACME, lane="urgent") == "acknowledgement"
        assert await database.read(everybody, scope=SYSTEM) == {"acknowledgement": 2}
        free[0] = RESERVE + 1
        database._housekeeping._look_at_disk()
        assert _refused(database), "a byte above the reserve must not let intake flutter"
        free[0] = 10 * RESERVE
        await eventually(lambda: not _refused(database) and ballast.exists())
    finally:
        await database.close()


def _refused(database):
    try:
        database.check_intake()
    except DiskFull as error:
        return error.status == 503
    return False


async def test_a_start_on_a_disk_below_the_reserve_refuses_intake_at_once(engine, tmp_path):
    database = reserving(engine, tmp_path, reserve=2**62)
    await database.open()
    try:
        assert _refused(database)
        assert not (database.lock_dir / "ballast").exists()
    finally:
        await database.close()


@pytest.mark.parametrize("disk", DISKS[-1:], indirect=True)
async def test_another_program_that_fills_a_real_disk_is_met_before_it_is_full(engine, disk):
    """Where nothing can be mounted, the machine's own disk with a reserve that it cannot meet any more stands in."""
    database = reserving(engine, disk.folder)
    await database.open()
    try:
        await database.write(table, scope=SYSTEM)
        database.check_intake()
        if isinstance(disk, RealDisk):
            disk.fill(leave=RESERVE - MIB)
        else:
            database._housekeeping._reserve_bytes = 2**62
        await eventually(lambda: _refused(database))
        assert not (database.lock_dir / "ballast").exists()
        assert await database.write(put, "goes on", scope=ACME) == "goes on"
        if isinstance(disk, RealDisk):
            disk.free()
        else:
            database._housekeeping._reserve_bytes = RESERVE
        await eventually(lambda: not _refused(database))
        assert (database.lock_dir / "ballast").exists()
    finally:
        await database.close()


async def test_an_error_of_a_sync_at_the_commit_is_unknown_stops_intake_and_passes_without_a_restart(tmp_path):
    vfs = FailingVfs("netra-bad-sync")
    try:
        async with opened("apsw", tmp_path, vfs=vfs.name) as database:
            told = []
            database.on_unknown_outcome.append(lambda: told.append(True))
            await database.write(put, "before", scope=ACME)
            vfs.arm("xSync", 0, apsw.SQLITE_IOERR_FSYNC, for_good=True)
            outcomes = await asyncio.gather(*(outcome_of(database.write(put, f"n{n}", scope=ACME)) for n in range(3)))
            assert all(isinstance(outcome, (OutcomeUnknown, Unavailable)) for outcome in outcomes)
            assert isinstance(outcomes[0], OutcomeUnknown) and told
            failed_syncs = vfs.counts["xSync"]
            await eventually(lambda: vfs.counts["xSync"] > failed_syncs)  # a probe has met the disk
            with pytest.raises(Unavailable):
                database.check_intake()
            assert isinstance(await outcome_of(database.write(put, "refused", scope=ACME)), Unavailable)
            assert (await database.read(everybody, scope=SYSTEM))["before"] == 2
            vfs.heal()
            await write_when_it_can(database, put, "after")
            database.check_intake()
            rows = await database.read(everybody, scope=SYSTEM)
            assert rows["before"] == rows["after"] == 2 and "refused" not in rows
    finally:
        vfs.unregister()
