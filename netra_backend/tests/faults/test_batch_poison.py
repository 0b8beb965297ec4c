"""Items that kill whoever processes them, and memory that ends: one dead letter each, and nothing else is lost (B6, B7).

The memory of the processes under test is really limited: by a control group of their own where this process may make one (root, cgroup
v1 or v2), else, and there too, by RLIMIT_AS. `NETRA_FAT_BYTES` is the size of the one item that is too large.
"""

from __future__ import annotations

import os
import signal
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path

import pytest

from netra_backend.batch.errors import ExecutorLost
from netra_backend.batch.ladder import Ladder
from netra_backend.batch.model import Lease
from netra_backend.batch.quarantine import Quarantine
from netra_backend.batch.readers import Source
from netra_backend.batch.seam import DEATHS, TRIES
from netra_backend.kernel.runtime import Runtime

from ..support.batches import BatchWorld
from ..support.places import place_of
from ..support.zygote import until
from .test_batch_kills import evidence

MIB = 1 << 20
CAP = 160 * MIB
FAT_BYTES = int(os.environ.get("NETRA_FAT_BYTES", str(256 * MIB)))
ITEM_BYTES = 8 * MIB
ROOT = Path("/sys/fs/cgroup")
PATIENT = {"lease_ttl": "60s"}
"""Where somebody has died is seen at once, by his lock file; on a busy machine a beat may come late, and that is no death."""


def own_group():
    """The folder of this process's memory group, and the name of the file that limits one below it; nothing where there is none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
        if not controllers and (ROOT / "cgroup.controllers").exists() and "memory" in (ROOT / "cgroup.controllers").read_text():
            return ROOT / path.lstrip("/"), "memory.max"
    return None


@contextmanager
def group_of(limit):
    """A control group with that limit, or None where none may be made."""
    found = own_group()
    folder = found and found[0] / f"netra-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / found[1]).write_text(str(limit))
    except (OSError, AttributeError):
        yield None
        return
    try:
        yield folder
    finally:
        until(lambda: not (folder / "cgroup.procs").read_text(), "the group is empty")
        folder.rmdir()


def _can_make_a_group():
    with group_of(CAP) as folder:
        return folder is not None


CAPS = ["rlimit", "cgroup"] if _can_make_a_group() else ["rlimit"]


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, zygote, tmp_path):
    with closing(BatchWorld(zygote, tmp_path, place_of(request.param, request), **PATIENT)) as world:
        yield world


@pytest.fixture
def small_world(zygote, tmp_path):
    """One on SQLite: what is tried with it is the same on both engines."""
    with closing(BatchWorld(zygote, tmp_path, **PATIENT)) as world:
        yield world


@pytest.fixture(params=CAPS)
def capped(request, zygote, tmp_path):
    """A world on SQLite whose workers have about `CAP` bytes of memory of their own."""
    with group_of(CAP) as folder, closing(BatchWorld(zygote, tmp_path, **PATIENT)) as world:
        world.cap = {"group": str(folder)} if request.param == "cgroup" else {"more_bytes": CAP}
        world.group = folder if request.param == "cgroup" else None
        yield world


def test_an_item_that_kills_its_process_costs_one_dead_letter_and_three_processes_at_most(world):
    """The third process works on the chunk in quarantine, where only children die."""
    is_killed_by_one(world, "poisoned")


def test_an_item_that_kills_a_process_that_takes_many_at_once_is_found_by_halving(small_world):
    is_killed_by_one(small_world, "poisoned-whole")


def is_killed_by_one(world, job):
    n, poison = 200, [57]
    run = world.begin(n, job, partitions=2, job=job, poison=poison)
    status = world.nursed(run)
    assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", n - 1, 1)
    assert world.output(run) == [i for i in range(n) if i not in poison]
    assert [(cause, attempts) for _, cause, attempts in world.letters(run)] == [("crash", 2)]
    assert world.dead_letters(run) == [[57, True]]
    assert 1 <= world.died <= 2, "the third process lives"


def test_several_poison_items_of_one_chunk_cost_a_dead_letter_each(small_world):
    world, n, poison = small_world, 60, [0, 20, 21]
    run = world.begin(n, "several", partitions=1, job="poisoned", poison=poison)
    status = world.nursed(run)
    assert (status["done"], status["failed"]) == (n - len(poison), len(poison))
    assert world.output(run) == [i for i in range(n) if i not in poison]
    assert [offset for offset, _, _ in world.letters(run)] == poison


def test_a_pool_that_an_item_breaks_costs_one_dead_letter_and_no_worker(small_world):
    world, n, poison = small_world, 120, [7, 77]
    world.start()
    run = world.begin(n, "pool", partitions=2, job="poisoned-pool", poison=poison)
    status = world.ended(run)
    assert (status["done"], status["failed"], status["restarts"]) == (n - len(poison), len(poison), 0)
    assert world.output(run) == [i for i in range(n) if i not in poison]
    assert sorted(letter[0] for letter in world.dead_letters(run)) == poison
    assert {(cause, attempts) for _, cause, attempts in world.letters(run)} == {("crash", 2)}
    assert status["executor"].startswith("processes(2)")


def test_a_writer_that_kills_its_process_fails_the_run_with_the_reason_in_the_end(small_world):
    world = small_world
    run = world.begin(20, "writer", partitions=1, job="noted")

    def is_over():
        world.deaths()
        if not world.children:
            world.start("batch.rows_written_before_cursor=kill")
        return world.state(run) in {"failed", "completed"}

    until(is_over, "it fails", 120)
    status = world.status(run)
    assert (status["state"], status["done"]) == ("failed", 0)
    assert "5 processes have died while they wrote" in status["reason"]
    world.kill_all()
    world.start()
    assert world.decide(run, "resume") == "queued"
    assert (world.ended(run)["state"], world.output(run)) == ("completed", list(range(20)))


def test_owners_that_died_elsewhere_than_in_the_writer_fail_no_run_however_many(small_world):
    world = small_world
    run = world.begin(100, "storm", partitions=2, job="noted")
    victim = world.start("batch.processed_before_write=kill")
    assert victim.died() == 9, victim.last_words()
    world.children.remove(victim)
    world.place.change("update netra_job_partition set crashes = 1000")
    world.start()
    assert (world.ended(run)["state"], world.output(run)) == ("completed", list(range(100)))


def test_a_job_over_ten_times_its_memory_finishes_and_nothing_is_killed(capped):
    """B6."""
    n = 10 * CAP // ITEM_BYTES + 1
    killed = killed_in(capped.group)
    capped.start()
    run = capped.begin(n, "fat", partitions=1, job="fat", bytes=ITEM_BYTES, hunger=0)
    status = capped.ended(run)
    assert (status["state"], status["done"], status["restarts"]) == ("completed", n, 0)
    assert capped.output(run) == list(range(n))
    assert killed_in(capped.group) == killed
    assert [child.has_ended() for child in capped.children] == [False]


def test_an_item_for_which_memory_is_not_enough_is_a_dead_letter_and_all_others_are_there(capped):
    """Under a control group the kernel kills: twice the worker, then children in quarantine. Under RLIMIT_AS nobody dies."""
    n, hungry = 60, 33
    run = capped.begin(n, "hungry", partitions=1, job="fat", bytes=1000, hunger=FAT_BYTES, hungry=hungry)
    status = capped.nursed(run, 180)
    assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", n - 1, 1), status["reason"]
    assert capped.output(run) == [i for i in range(n) if i != hungry]
    assert [(offset, cause) for offset, cause, _ in capped.letters(run)] == [(hungry, "oom")]
    if capped.group is None:
        assert capped.died == 0
    evidence("rlimit" if capped.group is None else "cgroup", capped.died, n)


def killed_in(group):
    """How many processes the kernel has killed in the group."""
    if group is None:
        return 0
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            return int(dict(line.split() for line in (group / name).read_text().splitlines())["oom_kill"])
    return 0


def test_a_child_that_somebody_kills_once_costs_no_item(small_world):
    """It may have been an operator: an item is guilty when it kills twice, alone."""
    world, n = small_world, 2000
    world.start()
    run = world.begin(n, "innocent", partitions=1, job="poisoned-pool", poison=[])
    until(lambda: world.has_come(run, 1), "it has begun")
    until(lambda: kill_a_child_of(world.children[0].pid), "a child is killed")
    status = world.ended(run)
    assert (status["state"], status["done"], status["restarts"]) == ("completed", n, 0)
    assert world.output(run) == list(range(n))


STILLBORN = """
import multiprocessing, os, signal
from netra_backend import batch

def birth():
    if multiprocessing.parent_process() is None:
        return
    deaths = int(open({count!r}).read())
    if deaths:
        open({count!r}, "w").write(str(deaths - 1))
        os.kill(os.getpid(), signal.SIGKILL)

birth()
JOB = batch.job({name!r}, read=batch.iterate(lambda params, cursor: ((n + 1, n) for n in range(cursor or 0, 3))), process=str, write=print, chunk=1)
"""


@pytest.mark.parametrize(("deaths", "lost"), [(DEATHS, False), (TRIES, True)])
async def test_children_that_die_before_they_have_begun_are_no_items_failure(tmp_path, monkeypatch, deaths, lost):
    """What a killed child held may come back late, so that the next one is killed while it starts; and an import may kill."""
    name, count = f"stillborn_{deaths}", tmp_path / "count"
    (tmp_path / f"{name}.py").write_text(STILLBORN.format(name=name, count=str(count)))
    count.write_text(str(deaths))
    monkeypatch.syspath_prepend(str(tmp_path))
    job = import_module(name).JOB
    reader = job.reader({})
    lease = Lease("acme", bytes(16), 0, bytes(16), 1, None, None, 0, 1, 0)
    quarantine = Quarantine(job, [name], reader, Source({}, None, None), lease, Ladder(Runtime()))
    if lost:
        with pytest.raises(ExecutorLost, match=f"before it had begun, {TRIES} times"):
            await quarantine.next(lease)
    else:
        chunk = await quarantine.next(lease)
        assert (chunk.failures, chunk.values) == ({}, ["0"])
    assert count.read_text() == "0"


def kill_a_child_of(pid):
    """SIGKILL to one that works for it; whether there was one."""
    for child in children_of(pid):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return True
    return False


def children_of(pid):
    """Processes that it has spawned to work for it, as far as they still are."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for word in file.read_text().split():
            with suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{word}/cmdline").read_bytes():
                    found.append(int(word))
    return found
