"""D2 and D3: code that is watched does what it did, keeps what it had, and is the very same code afterwards."""

from __future__ import annotations

import asyncio
import bisect
import dis
import gc
import inspect
import sys
import threading
import time
import types
import weakref
from types import SimpleNamespace

import pytest

from netra_backend.kernel import debugging
from netra_backend.observability.debug.errors import BadLogpoint
from netra_backend.observability.debug.logpoints import places
from netra_backend.observability.debug.logpoints.engine import ARMED, WAITS, Engine
from netra_backend.observability.debug.logpoints.snapshot import Point, variables_of
from netra_backend.observability.debug.model import Logpoint
from netra_backend.observability.debug.picture import paint_all
from netra_backend.observability.debug.watch import Watched

from ..support import debugged
from ..support.debugged import hostile_objects

HERE = "netra_backend.tests.support.debugged"
FILE = "support/debugged.py"


class Quotas:
    """Nothing is used up."""

    def __init__(self):
        self.lost = {"error": 0}

    def admits(self, now):
        return True

    def spend(self, **_):
        pass


class Recorded:
    """A hub, as far as snapshots know of one."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self):
        self.records = []

    def record(self, lives, kind, data, trace_id):
        self.records.append(data)


class World:
    """An engine, and a session that has whatever is armed."""

    def __init__(self):
        self.engine = Engine()
        self.hub = Recorded()
        self.points = set()
        live = SimpleNamespace(
            captures={"snapshot"}, is_open=lambda now: True, quotas=Quotas(), session=SimpleNamespace(logpoints=self.points)
        )
        self.live = live
        self.watch = Watched(self.hub, "acme", "", {}, (live,), ())

    def arm(self, *places, where=""):
        self.points.clear()
        self.points.update(Logpoint(place, where) for place in places)
        self.engine.arm(1, set(self.points))
        return [self.engine.states[point] for point in self.points]

    def disarm(self):
        self.engine.arm(1, set())

    def run(self, function, *args, **options):
        with debugging.watching(self.watch):
            self.watch.is_open = True
            return function(*args, **options)

    @property
    def variables(self):
        return [record["variables"] for record in self.hub.records]


@pytest.fixture
def world():
    made = World()
    yield made
    made.disarm()


def codes():
    """Every code object of the module's functions, by identity."""
    return {id(function): function.__code__ for function in places.functions_of(debugged)}


def lines():
    found = set()
    for function in places.functions_of(debugged):
        for code in places._within(function.__code__):
            if not set(code.co_names) & {"locals", "vars"}:
                found |= {line for _, _, line in code.co_lines() if line}
    return sorted(found)


def test_a_snapshot_shows_arguments_and_variables_at_its_place(world):
    assert world.arm(f"{HERE}:Order.total") == [ARMED]
    assert world.run(debugged.Order(40).total, 3) == 46
    shown = world.variables[0]
    assert shown["factor"] == 3
    assert shown["self"] == {"<type>": f"{HERE}.Order", "number": 40, "customer": "Blue Chairs Ltd", "lines": [{"sku": "A-1", "count": 2}]}


def test_a_line_is_shown_with_what_is_known_there(world):
    line = inspect.getsourcelines(debugged.doubled)[1] + 2
    assert world.arm(f"{FILE}:{line}") == [ARMED]
    assert world.run(debugged.doubled, 21) == 42
    assert world.variables == [{"value": 21, "result": 42}]
    assert world.hub.records[0]["line"] == line


def test_a_line_of_a_loop_is_shown_each_time(world):
    line = inspect.getsourcelines(debugged.summed)[1] + 3
    world.arm(f"{FILE}:{line}")
    world.run(debugged.summed, [1, -2, 3])
    assert [(shown["value"], shown["total"]) for shown in world.variables] == [(1, 0), (-2, 1), (3, -1)]


def test_methods_properties_closures_and_wrapped_functions_are_found(world):
    names = ["Order.label", "Order.parse", "Order.make", "outer", "outer.inner", "cached", "opened", "awaited", "streamed", "counted"]
    assert set(world.arm(*(f"{HERE}:{name}" for name in names))) == {ARMED}
    debugged.cached.cache_clear()
    world.run(debugged.everything)
    seen = {record["at"].partition(":")[2] for record in world.hub.records}
    assert seen == set(names)


def test_only_work_that_is_watched_is_shown(world):
    world.arm(f"{HERE}:doubled")
    assert debugged.doubled(21) == 42
    with debugging.watching(None):
        debugged.doubled(21)
    thread = threading.Thread(target=debugged.doubled, args=(21,))
    world.run(lambda: (thread.start(), thread.join()))
    assert world.hub.records == []


def test_a_condition_chooses_by_variables_and_fields(world):
    world.arm(f"{HERE}:Order.total", where="self.number == 42 and factor > 1")
    for number in (41, 42):
        for factor in (1, 2):
            world.run(debugged.Order(number).total, factor)
    assert [(shown["self"]["number"], shown["factor"]) for shown in world.variables] == [(42, 2)]


def test_code_is_the_very_same_after_removal(world):
    before = codes()
    world.arm(*(f"{FILE}:{line}" for line in lines()), f"{HERE}:doubled")
    if sys.version_info < (3, 12):
        assert {key for key, code in codes().items() if code is not before[key]}
    world.run(debugged.everything)
    world.disarm()
    assert all(code is before[key] for key, code in codes().items())


def test_results_are_the_same_with_a_logpoint_on_every_line(world):
    debugged.cached.cache_clear()
    plain = debugged.everything()
    refused = [state for state in world.arm(*(f"{FILE}:{line}" for line in lines())) if state != ARMED]
    assert refused == []
    debugged.cached.cache_clear()
    assert world.run(debugged.everything) == plain
    assert len(world.hub.records) > 60
    world.disarm()
    debugged.cached.cache_clear()
    assert debugged.everything() == plain


def test_an_inner_function_made_while_it_is_armed_is_whole_again_afterwards(world):
    own = next(const for const in debugged.outer.__code__.co_consts if isinstance(const, types.CodeType))
    early = debugged.outer(1)
    world.arm(f"{HERE}:outer.inner")
    late = debugged.outer(10)
    assert world.run(lambda: (early(1), late(1))) == (2, 11)
    assert len(world.hub.records) == 2
    world.disarm()
    assert early.__code__ is own
    assert late.__code__ is own
    assert (early(1), late(1)) == (3, 12)


def test_a_frame_that_runs_goes_on_whatever_is_armed_meanwhile(world):
    generator = debugged.counted(4)
    assert next(generator) == 0
    world.arm(f"{HERE}:counted", *(f"{FILE}:{line}" for line in lines()))
    assert world.run(lambda: [next(generator), generator.send(5)]) == [1, -5]
    world.disarm()
    assert list(generator) == [2, 3]


def test_an_error_has_the_same_lines_in_its_traceback(world):
    def frames():
        with pytest.raises(TypeError) as caught:
            debugged.doubled(None)
        return [(entry.name, entry.lineno) for entry in caught.traceback]

    def run():
        return [(entry[0], entry[1]) for entry in frames()[1:]]

    plain = run()
    world.arm(*(f"{FILE}:{line}" for line in lines()))
    assert world.run(run) == plain


def test_what_a_snapshot_saw_lives_no_longer_for_that(world):
    def used():
        order = debugged.Order(1)
        gone = weakref.ref(order)
        debugged.doubled(1)
        variables_of(sys._getframe())
        del order
        return gone() is None

    assert used()
    assert world.run(used)


def test_a_variable_of_exec_stays_where_it_was():
    def run():
        exec("fresh = 41")
        variables_of(sys._getframe())
        return eval("fresh + 1") if sys.version_info < (3, 13) else 42

    assert run() == 42


@pytest.mark.parametrize("kind", hostile_objects())
def test_a_hostile_object_is_pictured_without_any_of_its_code_running(kind, world):
    value = hostile_objects()[kind]
    shown = paint_all({"it": value, "in": [value], "under": {"name": value}, "among": (value,)}, time.monotonic)
    assert set(shown) == {"it", "in", "under", "among"}
    world.arm(f"{HERE}:passed_on", where="not (value.x == 1 or value in [1] or value > 2)")
    assert world.run(debugged.passed_on, value) is value
    assert world.live.quotas.lost["error"] == 0


def test_a_hook_that_fails_never_reaches_the_program(world, monkeypatch):
    world.arm(f"{HERE}:doubled")
    monkeypatch.setattr(world.hub, "record", lambda *_: 1 / 0)
    assert world.run(debugged.doubled, 21) == 42
    assert world.live.quotas.lost["error"] == 1


def test_threads_pass_while_it_is_armed_and_disarmed(world):
    stop, wrong = threading.Event(), []

    def work():
        while not stop.is_set():
            if debugged.summed([1, -2, 3]) != 2 or debugged.divided(1, 0) != ("ZeroDivisionError", "finally"):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        world.arm(f"{HERE}:summed", f"{HERE}:divided")
        world.disarm()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tasks_that_interleave_are_shown_to_those_who_watch_them(world):
    world.arm(f"{HERE}:awaited")

    async def one(number, watch):
        with debugging.watching(watch):
            return await debugged.awaited(number)

    async def run():
        return await asyncio.gather(*(one(n, Watched(world.hub, "acme", "", {}, (world.live,), ()) if n % 2 else None) for n in range(20)))

    assert asyncio.run(run()) == [n + 1 for n in range(20)]
    assert sorted(shown["value"] for shown in world.variables) == [n for n in range(20) if n % 2]


@pytest.mark.parametrize("place", ["netra_backend.nowhere:f", "not/a/file/of_ours.py:3"])
def test_a_place_whose_module_is_not_imported_waits(place, world):
    assert world.arm(place) == [WAITS]


@pytest.mark.parametrize("place", [f"{HERE}:nothing", f"{HERE}:Order", f"{FILE}:1", f"{FILE}:99999"])
def test_a_place_that_is_not_there_says_so(place, world):
    assert "no place in the code" in world.arm(place)[0]


def test_a_place_that_cannot_be_watched_is_told_and_hinders_no_other(world):
    world.arm(f"{HERE}:doubled")

    class Broken:
        def settle(self, wanted):
            if any(point.logpoint.at.endswith("summed") for _, point in wanted):
                raise RuntimeError("no tool is free")
            own.settle(wanted)

    own, world.engine._means = world.engine._means, Broken()
    assert sorted(world.arm(f"{HERE}:doubled", f"{HERE}:summed")) == [ARMED, "it cannot be watched: no tool is free"]
    world.run(debugged.doubled, 1)
    assert len(world.hub.records) == 1


def keeps_its_locals(value):
    kept = locals()
    value += 1
    return kept, value


def test_a_function_that_keeps_its_locals_is_refused_where_a_look_would_change_them(world):
    if sys.version_info >= (3, 13):
        assert world.arm(f"{__name__}:keeps_its_locals") == [ARMED]
        return
    point = Logpoint(f"{__name__}:keeps_its_locals")
    sys.modules.setdefault(__name__, sys.modules[__name__])
    with pytest.raises(BadLogpoint, match="calls locals"):
        places.find(point)


def test_settrace_is_never_used(world):
    before = sys.gettrace(), threading.gettrace()
    world.arm(f"{HERE}:doubled")
    assert (sys.gettrace(), threading.gettrace()) == before


def stdlib_codes():
    import argparse
    import contextlib
    import json.decoder
    import tarfile
    import typing

    for module in (argparse, contextlib, json.decoder, tarfile, typing):
        for function in places.functions_of(module):
            yield from places._within(function.__code__)


def test_rewritten_code_differs_by_its_calls_only():
    """Instruction by instruction, with positions and exception tables, over hundreds of functions of the standard library."""
    if sys.version_info >= (3, 12):
        assert sys.monitoring.get_tool(4) in {None, "netra-debug"}
        return
    from netra_backend.observability.debug.logpoints import assembler

    def question():
        """Stands in the code."""

    def hook():
        """Stands behind it."""

    def without_calls(code):
        found, at = list(dis.get_instructions(code)), 0
        while at < len(found):
            after = at + 1 + (found[at + 1].opname == "EXTENDED_ARG") if at + 1 < len(found) else at
            if found[at].opname == "PUSH_NULL" and found[after].argval is question:
                over = next(place for place in range(at, len(found)) if found[place].opname == "NOP")
                (jump,) = [each for each in found[at:over] if each.opcode in dis.hasjrel]
                assert jump.argval == found[over].offset
                assert [each.argval for each in found[at:over] if each.opname == "LOAD_CONST"] == [question, hook]
                at = over + 1
                continue
            if found[at].opname != "EXTENDED_ARG":
                yield found[at]
            at += 1

    def targets(instructions):
        """How many instructions stand before each jump's target, calls not counted."""
        offsets = [each.offset for each in instructions]
        return [bisect.bisect_left(offsets, each.argval) for each in instructions if each.opcode in dis.hasjrel]

    checked = 0
    for code in stdlib_codes():
        calls = [(line, hook) for line in {line for _, _, line in code.co_lines() if line}]
        copy = assembler.with_calls(code, [*calls, (None, hook)], question)
        own = [each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"]
        left = list(without_calls(copy))
        assert [(each.opname, each.positions) for each in left] == [(each.opname, each.positions) for each in own], code
        assert targets(left) == targets(own), code
        assert len(list(assembler._exceptions(copy))) == len(list(assembler._exceptions(code)))
        checked += 1
    assert checked > 500


def test_a_function_of_frozen_memory_is_found(world):
    gc.freeze()
    try:
        world.arm(f"{HERE}:doubled")
        assert world.run(debugged.doubled, 1) == 2
        assert len(world.hub.records) == 1
        world.disarm()
        assert world.run(debugged.doubled, 1) == 2
        assert len(world.hub.records) == 1
    finally:
        gc.unfreeze()


def test_a_point_needs_no_more_than_its_names(world):
    point = Point(Logpoint("a:b", "order.id == 42 and not (x in [1] or y.z > 2)"))
    assert point._names == {"order", "x", "y"}
