"""D7: what a session may cost a process, with a clock that stands still while it is spent."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from netra_backend.kernel.runtime import Runtime
from netra_backend.observability.debug.live import Live
from netra_backend.observability.debug.model import Record, Session
from netra_backend.observability.debug.quotas import Quotas
from netra_backend.observability.debug.settings import DebugSettings
from netra_backend.testing.clock import FakeClock

LIMITS = DebugSettings(hits=10, bytes=1000, cpu=0.01, burst_s=2, ring=4)
RATES = {"hits": 10.0, "bytes": 1000.0, "cpu": 0.01}
LARGEST = {"hits": 1, "bytes": 300, "cpu": 0.005}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 300), st.floats(0, 0.005)), min_size=1, max_size=200))
def test_a_session_costs_no_more_than_its_rates_and_one_burst(steps):
    """Over any stretch of time: the rate times that, one burst, and the one record that found the bucket not quite empty."""
    quotas, now, spent = Quotas(LIMITS, 0.0), 0.0, Counter()
    spends = []
    for pause, size, cpu in steps:
        now += pause
        if quotas.admits(now):
            quotas.spend(1, size, cpu)
            spends.append((now, {"hits": 1, "bytes": size, "cpu": cpu}))
    for first in range(len(spends)):
        spent = Counter()
        for at, cost in spends[first:]:
            spent.update(cost)
            for name, rate in RATES.items():
                most = rate * (at - spends[first][0]) + rate * LIMITS.burst_s + LARGEST[name]
                assert spent[name] <= most + 1e-6, name


def test_a_paused_session_says_what_it_missed_and_goes_on_by_itself():
    quotas = Quotas(LIMITS, 0.0)
    admitted = 0
    for _ in range(50):
        if quotas.admits(0.0):
            quotas.spend(hits=1)
            admitted += 1
    assert admitted == 20
    assert quotas.lost == {"hits": 30}
    assert quotas.admits(0.2)
    quotas.spend(cpu_s=0.07)  # a long look: 0.05 s too much, which five seconds of one per cent pay back
    assert not quotas.admits(4.9)
    assert quotas.lost["cpu"] == 1
    assert quotas.admits(5.3)


def live(**changed):
    clock = FakeClock()
    runtime = Runtime(clock=clock)
    at = clock.wall_us()
    session = Session("acme", b"s" * 16, "active", "r", "a", {}, ("log",), (), 10_000_000, at, at + 10_000_000, **changed)
    return Live(session, runtime.clock, LIMITS)


def test_the_ring_drops_its_oldest_and_counts_them():
    one = live()
    for n in range(10):
        one.keep(Record("log", n, "", b"{}"))
    assert [record.at_us for record in one.take(100)] == [6, 7, 8, 9]
    count, (told,) = one.take_losses(99)
    assert (count, told.kind, told.data) == (6, "dropped", b'{"count":6,"why":{"ring":6}}')
    assert not one.has_records
    one.keep(Record("log", 11, "", b"{}"))
    assert [record.at_us for record in one.take(100)] == [11]
    assert one.take_losses(99) == (0, [])
