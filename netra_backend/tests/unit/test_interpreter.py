"""The process's switch interval: short while a writer has work, and afterwards as it was."""

from __future__ import annotations

import sys
import threading

import pytest

from netra_backend.storage.interpreter import HURRY_S, Hurry
from netra_backend.tests.support.storage import SYSTEM, Gate, eventually, opened


@pytest.fixture(autouse=True)
def former_s():
    former = sys.getswitchinterval()
    yield former
    sys.setswitchinterval(former)


def test_the_first_shortens_the_interval_and_the_last_puts_it_back(former_s):
    hurry = Hurry()
    for who in "ab":
        hurry.begin(who)
        assert sys.getswitchinterval() == pytest.approx(HURRY_S)
    hurry.end("a")
    assert sys.getswitchinterval() == pytest.approx(HURRY_S)
    hurry.end("b")
    assert sys.getswitchinterval() == former_s


def test_beginning_and_ending_twice_is_once(former_s):
    hurry = Hurry()
    hurry.begin("a")
    hurry.begin("a")
    hurry.end("a")
    hurry.end("a")
    assert sys.getswitchinterval() == former_s


@pytest.mark.parametrize("microseconds", [1, 99, 100, 101, 300, 4999, 5001])
def test_no_interval_drifts_and_none_becomes_longer(microseconds):
    sys.setswitchinterval((microseconds + 0.5) / 1e6)
    set_s = sys.getswitchinterval()
    hurry = Hurry()
    for _ in range(1000):
        hurry.begin("a")
        assert sys.getswitchinterval() <= set_s
        hurry.end("a")
    assert sys.getswitchinterval() == set_s


def test_an_interval_that_somebody_set_meanwhile_is_kept():
    hurry = Hurry()
    hurry.begin("a")
    sys.setswitchinterval(0.003)
    hurry.end("a")
    assert sys.getswitchinterval() == pytest.approx(0.003)


def test_many_threads_leave_it_as_it_was(former_s):
    hurry = Hurry()

    def work(who):
        for _ in range(200):
            hurry.begin(who)
            hurry.end(who)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.getswitchinterval() == former_s


async def test_a_writer_hurries_while_it_has_work_and_only_then(tmp_path, former_s):
    gate = Gate()
    async with opened("apsw", tmp_path) as database:
        await eventually(lambda: sys.getswitchinterval() == former_s)
        async with gate.closed(database):
            assert sys.getswitchinterval() == pytest.approx(HURRY_S)
        await eventually(lambda: sys.getswitchinterval() == former_s)
        await database.write(gate.hold, scope=SYSTEM)
    assert sys.getswitchinterval() == former_s
