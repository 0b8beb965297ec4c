"""Checkpoints: by one process, beside the writer, and the log does not stay as large as it ever was."""

from __future__ import annotations

import errno
import os

import pytest

from netra_backend.errors import CannotStart
from netra_backend.kernel.sizes import MIB
from netra_backend.storage import sqlite, sqlite_housekeeping

from ..support.faulty import FaultyConnection, Plan
from ..support.storage import ACME, SYSTEM, eventually, everybody, new_database, opened, put


async def grow(database, count, start=0):
    for number in range(start, start + count):
        await database.write(put, f"n{number}", (1,), "x" * 500_000, scope=ACME)


def size(path):
    return path.stat().st_size if path.exists() else 0


async def test_a_log_that_has_grown_is_checkpointed_without_a_commit_paying_for_it(engine, tmp_path):
    async with opened(engine, tmp_path) as database:
        await grow(database, 10)
        await eventually(lambda: size(database.path) > 4 * MIB)
        assert len(await database.read(everybody, scope=SYSTEM)) == 10


async def test_of_two_processes_one_checkpoints_and_the_other_takes_over_when_it_ends(engine, tmp_path):
    async with opened(engine, tmp_path) as second:
        async with opened(engine, tmp_path) as first:
            assert first._housekeeping._is_checkpointer()
            assert not second._housekeeping._is_checkpointer()
        assert second._housekeeping._is_checkpointer()


async def test_a_log_that_once_was_large_shrinks_when_it_begins_anew(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_housekeeping, "CHECKPOINT_BYTES", 2**62)  # nobody else's checkpoint: the test does its own
    async with opened(engine, tmp_path) as database:
        wal = database.path.with_name("netra.db-wal")
        connection = database._connect(block_s=5.0)
        limit = connection.run("pragma journal_size_limit")[0][0]
        assert limit < sqlite_housekeeping.RESTART_BYTES, "or every look would be a restart for ever"
        await grow(database, limit // 500_000 + 4)
        assert size(wal) > limit
        connection.run("pragma wal_checkpoint(restart)")
        connection.close()
        await database.write(put, "anew", scope=ACME)
        assert size(wal) <= limit


async def test_a_ballast_that_cannot_be_loaded_is_tried_again(engine, tmp_path, monkeypatch):
    database = new_database(engine, tmp_path)
    database._disk_reserve_bytes = MIB
    allocate, failing = os.posix_fallocate, [True]

    def fails_once(*arguments):
        if failing:
            failing.pop()
            raise OSError(errno.ENOSPC, "full")
        allocate(*arguments)

    monkeypatch.setattr(sqlite_housekeeping.os, "posix_fallocate", fails_once)
    await database.open()
    try:
        await eventually(lambda: size(database.lock_dir / "ballast") == MIB)
    finally:
        await database.close()


async def test_a_file_that_cannot_have_a_write_ahead_log_is_refused(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "connect", _without_wal(sqlite.connect))
    with pytest.raises(CannotStart, match="write-ahead log"):
        await new_database(engine, tmp_path).open()


def _without_wal(connect):
    """Connections to a file system without shared memory, where SQLite keeps the journal that it had."""

    class Stubborn(FaultyConnection):
        def run(self, sql, params=None):
            return [("delete",)] if sql == "pragma journal_mode = wal" else self.inner.run(sql, params or {})

    return lambda *args: Stubborn(connect(*args), Plan())
