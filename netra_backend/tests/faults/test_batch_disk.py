"""A disk that is really full while a batch runs: nothing is lost, doubled or given up, and with room the run goes on at once."""

from __future__ import annotations

from contextlib import closing

import pytest

from netra_backend.kernel.sizes import MIB

from ..support.batches import BatchWorld
from ..support.disks import RealDisk, mounted
from ..support.zygote import until

ITEMS = 4_000
LEASE = "600s"
"""Nobody may have to wait for it."""
LINE = "The disk that holds the database is full"


@pytest.fixture
def disk():
    with mounted(64 * MIB) as folder:
        assert folder is not None, "this test fills a small file system of its own, which only root may mount"
        yield RealDisk(folder)


def test_a_run_on_a_full_disk_loses_and_doubles_nothing_and_goes_on_when_there_is_room(zygote, disk, tmp_path):
    with closing(BatchWorld(zygote, disk.folder, logs=tmp_path, lease_ttl=LEASE)) as world:
        for _ in range(2):
            world.start()
        run = world.begin(ITEMS, "full disk")
        until(lambda: world.has_come(run, 100), "it has begun")
        disk.fill()
        until(lambda: any(LINE in (tmp_path / f"batch-{number}.log").read_text() for number in (1, 2)), "somebody has met it")
        assert world.state(run) == "running"
        disk.free()
        world.verify(run, ITEMS)
        assert [child.has_ended() for child in world.children] == [False, False]
