"""The clock that tests turn by hand."""

from __future__ import annotations

import asyncio

from netra_backend.testing.clock import FakeClock, SeededChance


async def test_sleepers_wake_in_the_order_of_their_due_times_then_of_their_calls():
    clock, woken = FakeClock(), []

    async def sleeper(name, seconds):
        await clock.sleep(seconds)
        woken.append((name, round(clock.monotonic() - 1000, 6)))

    tasks = [asyncio.create_task(sleeper(*who)) for who in [("late", 3), ("first", 1), ("second", 1), ("never", 9)]]
    await clock.advance(5)
    assert woken == [("first", 1), ("second", 1), ("late", 3)]
    assert clock.sleeping == 1 and clock.next_wake_s == 4
    await clock.advance(4)
    await asyncio.gather(*tasks)
    assert clock.next_wake_s is None


async def test_a_task_that_sleeps_again_is_woken_again_within_one_advance():
    clock, ticks = FakeClock(), []

    async def ticking():
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticking())
    await clock.advance(3.5)
    assert ticks == [1001, 1002, 1003]
    assert clock.monotonic() == 1003.5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleeping == 0


async def test_a_thousand_small_advances_add_up_exactly():
    clock = FakeClock(wall_us=0, monotonic_s=0)
    for _ in range(1000):
        await clock.advance(0.1)
    assert clock.monotonic() == 100
    assert clock.wall_us() == 100_000_000


async def test_a_step_of_the_wall_clock_wakes_nobody():
    clock = FakeClock(wall_us=1_000_000)
    task = asyncio.create_task(clock.sleep(10))
    await clock.advance(0)
    clock.step_wall(-3600)
    await clock.advance(1)
    assert clock.wall_us() == 1_000_000 - 3_600_000_000 + 1_000_000
    assert clock.monotonic() == 1001
    assert not task.done()
    await clock.advance(9)
    await task


async def test_a_cancelled_sleeper_is_forgotten():
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.advance(0)
    task.cancel()
    await clock.advance(2)
    assert task.cancelled() and clock.next_wake_s is None


def test_equal_seeds_draw_equal_chances():
    one, same, other = SeededChance(1), SeededChance(1), SeededChance(2)
    draws = [(c.uniform(0, 1), c.token(16), c.token(16)) for c in (one, same, other)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0][1] != draws[0][2] and len(draws[0][1]) == 16


async def test_a_jump_wakes_whoever_fell_due_once_and_late():
    clock, woken = FakeClock(), []

    async def every_second():
        while True:
            await clock.sleep(1)
            woken.append(clock.monotonic())

    task = asyncio.create_task(every_second())
    began = clock.monotonic()
    await clock.jump(3600)
    assert woken == [began + 3600]
    await clock.advance(1)
    assert woken == [began + 3600, began + 3601]
    task.cancel()
