"""What runs again and again: no error ends it, no commit is passed over, and an end may wait for the work."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest

from netra_backend.errors import NetraError
from netra_backend.kernel.rounds import Rounds, attempt
from netra_backend.kernel.runtime import Runtime
from netra_backend.testing.clock import FakeClock, settle

EVERY_S = 2.0


class Work:
    """Counts its rounds; what stands in `then` happens in the next one."""

    def __init__(self):
        self.done = 0
        self.then = []

    async def __call__(self):
        if self.then and (result := self.then.pop(0)()) is not None:
            await result
        self.done += 1


class World:
    """Rounds on a clock that is turned by hand, and a number that any commit changes."""

    def __init__(self, **options):
        self.clock = FakeClock()
        self.work = Work()
        self.version = 1
        self.rounds = Rounds(Runtime(clock=self.clock), self.work, "nothing was done", EVERY_S, **options)

    async def begin(self):
        self.rounds.start()
        await settle()

    async def pass_rounds(self, count):
        before = self.work.done
        for _ in range(count):
            await self.clock.advance(EVERY_S)
        return self.work.done - before


def fail(error):
    def raising():
        raise error

    return raising


@pytest.mark.parametrize(("at_once", "first"), [(True, 1), (False, 0)])
async def test_the_first_round_is_at_once_or_after_a_while_and_then_one_follows_the_other(at_once, first):
    world = World(at_once=at_once)
    await world.begin()
    assert world.work.done == first
    assert await world.pass_rounds(3) == 3
    await world.rounds.stop()
    assert await world.pass_rounds(3) == 0


@pytest.mark.parametrize(("error", "level"), [(NetraError("not now"), logging.WARNING), (ZeroDivisionError("never"), logging.ERROR)])
async def test_no_error_ends_it_and_each_is_told(error, level, caplog):
    world = World()
    world.work.then = [fail(error)]
    await world.begin()
    (record,) = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (level, level == logging.ERROR)
    assert record.getMessage().startswith("nothing was done")
    assert await world.pass_rounds(1) == 1
    await world.rounds.stop()


async def test_without_news_a_round_is_passed_over_for_so_long_at_most():
    world = World(anyway_s=3 * EVERY_S)
    world.rounds._changes = lambda: world.version
    await world.begin()
    assert [await world.pass_rounds(1) for _ in range(6)] == [0, 0, 1, 0, 0, 1]
    world.version += 1
    assert [await world.pass_rounds(1) for _ in range(2)] == [1, 0]
    await world.rounds.stop()


async def test_a_commit_during_the_work_and_a_failed_round_are_news():
    world = World()
    world.rounds._changes = lambda: world.version

    def commit():
        world.version += 1

    world.work.then = [commit, fail(NetraError("not now"))]
    await world.begin()
    assert world.work.done == 1
    assert [await world.pass_rounds(1) for _ in range(3)] == [0, 1, 0]  # the commit's, which failed; once more; nothing new
    await world.rounds.stop()


async def test_whoever_asks_for_another_round_meanwhile_gets_one():
    world = World()
    world.rounds._changes = lambda: world.version
    world.work.then = [world.rounds.again]
    await world.begin()
    assert world.work.done == 2  # without any time passing
    world.rounds.wake()
    await settle()
    assert world.work.done == 2  # nobody has said that there is news
    world.version += 1
    world.rounds.wake()
    await settle()
    assert world.work.done == 3
    await world.rounds.stop()


@pytest.mark.parametrize(("end", "done"), [("stop", 0), ("finish", 1)])
async def test_stop_cuts_the_work_off_and_finish_waits_for_it(end, done):
    world = World()
    gate = asyncio.Event()
    world.work.then = [gate.wait]
    await world.begin()
    ending = asyncio.ensure_future(getattr(world.rounds, end)())
    await settle()
    assert ending.done() == (end == "stop")
    gate.set()
    await ending
    assert world.work.done == done
    assert await world.pass_rounds(2) == 0


async def test_it_belongs_to_nobodys_request_and_can_be_started_again():
    held = contextvars.ContextVar("held", default="nobody")
    seen = []
    world = World()
    world.work.then = [lambda: seen.append(held.get())]
    held.set("somebody")
    await world.begin()
    await world.rounds.finish()
    assert seen == ["nobody"]
    await world.begin()
    assert world.work.done == 2
    await world.rounds.stop()


async def test_an_attempt_says_whether_it_came_to_its_end(caplog):
    work = Work()
    log = logging.getLogger("netra")
    assert await attempt(log, "nothing was done", work())
    work.then = [fail(NetraError("not now"))]
    assert not await attempt(log, "nothing was done", work())
    with pytest.raises(asyncio.CancelledError):
        work.then = [fail(asyncio.CancelledError())]
        await attempt(log, "nothing was done", work())
