"""S8: a power cut loses no acknowledged commit.

The real engine runs over a VFS that writes down every write and sync. From the log are made the disks that a cut at any
moment may leave; each is opened, and everything acknowledged by then must be in it, whole. `NETRA_CRASH_IMAGES` says
how many (the soak runs 2,000).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass

import apsw
import orjson
import pytest

from netra_backend.errors import NetraError

from ..support.recording_vfs import Acknowledged, Delete, Disk, RecordingVfs, Sync, Truncate, Write, images
from ..support.storage import ACME, SYSTEM, make_tables, new_database, opened, put

IMAGES = int(os.environ.get("NETRA_CRASH_IMAGES", "200"))
REOPEN_EVERY = 40
_names = itertools.count()


@dataclass
class Tally:
    """What the images showed."""

    images: int = 0
    lost: int = 0
    corrupt: int = 0
    halves: int = 0
    missing_pending: int = 0
    reopened: int = 0


async def workload(database, log, rounds):
    """Groups of writes, lists, a transaction held open, one rolled back, and every kind of checkpoint in between."""
    numbers = itertools.count()

    async def write(who):
        await database.write(put, who, (1, 2), "x" * (700 * (next(numbers) % 12)), scope=ACME)
        log.append(Acknowledged(who))

    async def hold(who, *, undo):
        async with database.transaction(ACME) as tx:
            await put(tx, who)
            if undo:
                raise NetraError("undone")
        log.append(Acknowledged(who))

    await database.write(make_tables, scope=SYSTEM)
    log.append(Acknowledged("nobody"))
    for number in rounds:
        await asyncio.gather(*(write(f"{number}.{which}") for which in range(4)))
        await hold(f"{number}.held", undo=False)
        with pytest.raises(NetraError):
            await hold(f"{number}.undone", undo=True)
        checkpoint(database, ("passive", "restart", "truncate", "full")[number % 4])


def checkpoint(database, kind):
    connection = database._connect(block_s=1.0)
    connection.run(f"pragma wal_checkpoint({kind})")
    connection.close()


def record(folder, **options):
    """The log of a whole life: created, migrated, used, closed, opened again and used again."""
    vfs = RecordingVfs(f"netra-recording-{next(_names)}")

    async def live():
        for rounds in (range(6), range(6, 10)):
            database = new_database("apsw", folder, vfs=vfs.name, **options)
            await database.open()
            await workload(database, vfs.log, rounds)
            await database.close()

    try:
        asyncio.run(live())
    finally:
        vfs.unregister()
    return vfs.log


def judge(log, folder, count, seed=1):
    """Open every image and count what is wrong with it."""
    tally, rng = Tally(), random.Random(seed)
    everything = {entry.who for entry in log if isinstance(entry, Acknowledged)}
    for files, acknowledged in images(log, count, rng):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        tally.images += 1
        present = look(folder / "netra.db", tally)
        tally.lost += not acknowledged <= present
        tally.missing_pending += len(present) < len(everything)
        if tally.images % REOPEN_EVERY == 0:
            asyncio.run(go_on(folder))
            tally.reopened += 1
    return tally


def look(path, tally):
    """Who is in the image; `nobody` stands for the tables themselves."""
    connection = apsw.Connection(str(path))
    try:
        if connection.execute("pragma integrity_check").fetchall() != [("ok",)]:
            tally.corrupt += 1
        if not connection.execute("select 1 from sqlite_master where name = 'tally'").fetchall():
            return set()
        rows = dict(connection.execute("select who, count(*) from fact group by who").fetchall())
        items = [orjson.loads(text) for (text,) in connection.execute("select items from netra_outbox").fetchall()]
        emitted = Counter(item["who"] for group in items for _, item in group)
        tally.halves += rows != dict.fromkeys(emitted, 2) or set(emitted.values()) > {1}
        return {*rows, "nobody"}
    except apsw.Error:
        tally.corrupt += 1
        return set()
    finally:
        connection.close()


async def go_on(folder):
    """The engine itself opens the image, migrates what is missing, and writes."""
    async with opened("apsw", folder) as database:
        assert await database.write(put, "after the cut", scope=ACME) == "after the cut"


def test_a_power_cut_loses_no_acknowledged_commit(tmp_path):
    tally = judge(record(tmp_path / "life"), tmp_path / "image", IMAGES)
    print(tally)
    assert (tally.lost, tally.corrupt, tally.halves) == (0, 0, 0), tally
    assert tally.images == IMAGES
    assert tally.missing_pending > IMAGES / 2, "the cuts spared nearly everything: nothing was tried"
    assert tally.reopened == IMAGES // REOPEN_EVERY


def test_the_images_show_what_a_commit_without_a_sync_would_lose(tmp_path):
    tally = judge(record(tmp_path / "life", synchronous="normal"), tmp_path / "image", 180)
    assert tally.lost > 5, tally
    assert (tally.corrupt, tally.halves) == (0, 0), tally


# The model itself


def test_what_was_synced_survives_and_what_was_not_may_not():
    disk = Disk()
    for entry in (Write("a", 0, b"old"), Sync("a"), Write("a", 0, b"new"), Write("b", 0, b"never synced")):
        disk.add(entry)
    seen = [disk.after_a_cut(random.Random(seed)) for seed in range(50)]
    assert {bytes(files["a"]) for files in seen} == {b"old", b"new"}
    assert {"b" in files for files in seen} == {True, False}


def test_a_write_is_torn_at_sectors_and_an_unlink_lasts_once_anything_was_synced():
    torn = list(Write("a", 500, b"x" * 1100).sectors())
    assert [(piece.offset, len(piece.data)) for piece in torn] == [(500, 12), (512, 512), (1024, 512), (1536, 64)]
    disk = Disk()
    for entry in (Write("j", 0, b"1"), Sync("j"), Delete("j"), Write("a", 0, b"12"), Truncate("a", 1), Sync("a")):
        disk.add(entry)
    for seed in range(20):
        assert disk.after_a_cut(random.Random(seed)) == {"a": bytearray(b"1")}
