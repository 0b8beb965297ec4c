"""One execution for all who ask at the same time."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from netra_backend.errors import Unavailable, UsageError
from netra_backend.resilience.single_flight import FlightOfItself, SingleFlight
from netra_backend.testing.clock import settle


class Work:
    """Counts its runs and answers when told."""

    def __init__(self, error=None):
        self.runs, self.error, self.gate = 0, error, asyncio.Event()

    async def __call__(self):
        self.runs += 1
        await self.gate.wait()
        if self.error:
            raise self.error
        return object()


async def test_ten_thousand_waiters_share_one_execution():
    flights, work = SingleFlight(), Work()
    tasks = [asyncio.create_task(flights.run("k", work)) for _ in range(10_000)]
    await settle()
    work.gate.set()
    results = await asyncio.gather(*tasks)
    assert work.runs == 1 and len({id(result) for result in results}) == 1
    assert len(flights) == 0


async def test_keys_do_not_wait_for_each_other():
    flights, stuck = SingleFlight(), Work()
    waiting = asyncio.create_task(flights.run("stuck", stuck))
    await settle()

    async def quick():
        return 7

    assert await flights.run("quick", quick) == 7
    stuck.gate.set()
    await waiting


async def test_cancelling_every_caller_changes_nothing_for_the_flight():
    flights, work = SingleFlight(), Work()
    callers = [asyncio.create_task(flights.run("k", work)) for _ in range(3)]
    await settle()
    for caller in callers:
        caller.cancel()
    assert all(isinstance(result, asyncio.CancelledError) for result in await asyncio.gather(*callers, return_exceptions=True))
    late = asyncio.create_task(flights.run("k", work))
    await settle()
    assert work.runs == 1 and len(flights) == 1
    work.gate.set()
    assert await late is not None


async def test_an_error_reaches_all_and_is_not_kept():
    flights, work = SingleFlight(), Work(OSError("down"))
    callers = [asyncio.create_task(flights.run("k", work)) for _ in range(3)]
    await settle()
    work.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(result) for result in results] == ["down"] * 3
    work.error = None
    assert await flights.run("k", work) is not None
    assert work.runs == 2


async def test_an_error_that_nobody_waits_for_disturbs_nobody():
    flights, work, noise = SingleFlight(), Work(OSError("down")), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    caller = asyncio.create_task(flights.run("k", work))
    await settle()
    caller.cancel()
    await settle()
    work.gate.set()
    await settle()
    assert len(flights) == 0 and noise == []


async def test_a_call_after_the_landing_starts_anew():
    flights, work = SingleFlight(), Work()
    work.gate.set()
    first = await flights.run("k", work)
    assert await flights.run("k", work) is not first
    assert work.runs == 2


async def test_the_work_does_not_see_the_context_of_the_caller_who_came_first():
    tenant = contextvars.ContextVar("tenant", default="nobody's")
    tenant.set("acme")

    async def look():
        return tenant.get()

    assert await SingleFlight().run("k", look) == "nobody's"


async def test_work_that_asks_for_its_own_key_is_refused_also_through_another_flight():
    flights, others = SingleFlight(), SingleFlight()

    async def itself():
        return await flights.run("k", itself)

    async def detour():
        return await others.run("k", lambda: flights.run("k", detour))

    for work in (itself, detour):
        with pytest.raises(FlightOfItself):
            await flights.run("k", work)
    assert len(flights) == len(others) == 0


async def test_threads_and_the_loop_share_one_execution():
    flights, work = SingleFlight(), Work()
    ours = asyncio.create_task(flights.run("k", work))
    await settle()

    def never():
        raise AssertionError("a second execution")

    with ThreadPoolExecutor(4) as pool:
        theirs = [asyncio.wrap_future(pool.submit(flights.run_blocking, "k", never)) for _ in range(4)]
        work.gate.set()
        results = await asyncio.gather(ours, *theirs)
    assert len({id(result) for result in results}) == 1


async def test_the_loop_waits_for_an_execution_that_a_thread_began():
    flights, inside, go = SingleFlight(), threading.Event(), threading.Event()

    def work():
        inside.set()
        assert go.wait(10)
        return 7

    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(flights.run_blocking, "k", work)
        assert inside.wait(10)
        ours = asyncio.create_task(flights.run("k", Work()))
        await settle()
        assert not ours.done()
        go.set()
        assert await ours == 7 == thread.result()


def test_many_threads_run_it_once_and_an_error_frees_the_key():
    flights, entered, gate, runs = SingleFlight(), threading.Barrier(8), threading.Event(), []

    def work():
        runs.append(1)
        assert gate.wait(10)
        raise OSError("down")

    def caller():
        entered.wait(10)
        with pytest.raises(OSError, match="down"):
            flights.run_blocking("k", work)

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(caller) for _ in range(8)]
        threading.Timer(0.05, gate.set).start()
        for future in callers:
            future.result(10)
    assert len(flights) == 0
    assert 1 <= len(runs) <= 8  # a thread that came after the landing starts anew
    assert flights.run_blocking("k", lambda: 1) == 1


def test_an_interrupt_of_the_one_that_runs_it_is_unavailable_to_the_others():
    flights, waiting = SingleFlight(), []

    def interrupted():
        waiting.append(flights._flights["k"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flights.run_blocking("k", interrupted)
    assert isinstance(waiting[0].exception(0), Unavailable)
    assert len(flights) == 0


def test_a_flight_whose_loop_ends_answers_the_other_threads():
    flights, inside = SingleFlight(), threading.Event()

    async def for_ever():
        inside.set()
        await asyncio.Event().wait()

    async def begin_and_leave():
        task = asyncio.create_task(flights.run("k", for_ever))
        await settle()
        task.cancel()

    with ThreadPoolExecutor(1) as pool:
        waiting = None

        async def main():
            nonlocal waiting
            await begin_and_leave()
            assert inside.is_set()
            waiting = pool.submit(flights.run_blocking, "k", lambda: 1)
            while not waiting.running():
                await asyncio.sleep(0)
            flight = flights._flights["k"]
            while not flight._condition._waiters:  # the thread really waits
                await asyncio.sleep(0)

        asyncio.run(main())
        with pytest.raises(Unavailable):
            waiting.result(10)
    assert len(flights) == 0


async def test_blocking_the_event_loop_is_refused():
    with pytest.raises(UsageError, match="block"):
        SingleFlight().run_blocking("k", lambda: 1)
