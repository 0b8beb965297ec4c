"""New ids: of their clock's millisecond, of RFC 9562's form, and of nobody else's bits."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from netra_backend.kernel.clock import SystemClock
from netra_backend.kernel.ids import Uuid7, least_of_time
from netra_backend.testing.clock import FakeClock

FORKED = """
import os
from netra_backend.kernel.clock import SystemClock
from netra_backend.kernel.ids import Uuid7
ids = Uuid7(SystemClock())
ids.new()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, b"".join(ids.new() for _ in range(50)))
    os._exit(0)
os.close(write)
mine = {ids.new()[6:] for _ in range(50)}
made = os.read(read, 1 << 16)
theirs = {made[at + 6 : at + 16] for at in range(0, len(made), 16)}
print(len(mine), len(theirs), len(mine & theirs))
"""


def test_an_id_carries_its_clocks_millisecond_its_version_and_its_variant():
    clock = FakeClock()
    made = [Uuid7(clock).new() for _ in range(1_000)]
    assert {each[:6] for each in made} == {least_of_time(clock.wall_us())[:6]}
    assert {each[6] >> 4 for each in made} == {7}
    assert {each[8] >> 6 for each in made} == {0b10}
    assert len({each[6] & 15 for each in made}) == 16
    assert len({each[8] & 63 for each in made}) == 64


def test_no_two_threads_get_one_id():
    ids = Uuid7(SystemClock())
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ids.new()[6:], range(20_000)))
    assert len(set(made)) == len(made)


def test_a_forked_child_does_not_repeat_its_parents_ids():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["50", "50", "0"]
