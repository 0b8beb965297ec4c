"""Two processes, one database, two receivers that answer whatever comes to mind, and a model that keeps plain lists.

Everything is Netra's own (service, dispatcher, sender, breakers, SQLite) save the wire: a request waits until the machine
answers it. The model knows of a breaker only what the design says and what it saw itself: who answered what and when.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from netra_backend.kernel.ids import to_text
from netra_backend.kernel.scope import Scope
from netra_backend.resilience.addresses import Refusal
from netra_backend.resilience.egress import EgressDenied, EgressError, Reply
from netra_backend.storage import nodes
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks import health
from netra_backend.webhooks.model import WELL

from ..support.platform import add_endpoint, on_a_clock
from ..support.storage import SYSTEM, Q, query

S = 1_000_000
TIMEOUT_S = 5
ANSWERS = ("200", "404", "500", "503", "timeout", "denied", "503 after 7", "429 after 90", "500 after 40", "abort")
SICK = {"500", "503", "timeout", "503 after 7", "429 after 90", "500 after 40", "abort"}
AFTER_S = {"503 after 7": 7, "429 after 90": 90, "500 after 40": 40}
GATING = {"503 after 7", "429 after 90"}
PLACES = ("a", "b")


@dataclass(eq=False)
class Request:
    """One attempt on its way."""

    process: int
    life: bytes
    place: str
    message: str
    at_us: int
    answer: asyncio.Future[Any]


@dataclass
class Seen:
    """What the model knows of one endpoint."""

    gate_us: int = 0
    floors_us: dict[str, int] = field(default_factory=dict)
    burned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    in_a_row: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    failures_since: int = 0
    row: Any = WELL


class Wire:
    """What stands in for the egress client: requests wait to be answered, and each start is held against the model."""

    def __init__(self, machine: EndpointsBesideTheirModel, process: int) -> None:
        self.machine, self.process = machine, process

    async def request(self, _method, url, *, headers, **_):
        machine, place = self.machine, url.rpartition("/")[2]
        message = dict(headers)["webhook-id"]
        life = machine.netras[self.process].membership.id
        one = Request(self.process, life, place, message, machine.clock.wall_us(), asyncio.get_running_loop().create_future())
        machine.may_start(one)
        machine.flying.append(one)
        return await one.answer


class TwoProcesses:
    """Started once for all examples; each of them has a tenant of its own and leaves nothing unfinished."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.netras: list[Any] = []
        self.numbers = itertools.count()
        self._stack = AsyncExitStack()
        self.runner.run(self._begin(folder))

    async def _begin(self, folder: Path) -> None:
        for _ in range(2):
            options = {"webhooks_timeout": f"{TIMEOUT_S}s", "webhooks_schedule": "1s,5s,20s,60s,60s"}
            netra = await self._stack.enter_async_context(on_a_clock(folder, self.clock, **options))
            beside = [rounds._task for rounds in netra.webhooks.dispatcher._beside]
            for task in [netra.webhooks.dispatcher._scanning, *beside, *netra.membership._tasks]:
                task.cancel()
            self.netras.append(netra)

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()


STARTED: list[TwoProcesses] = []
SETTINGS = settings(
    max_examples=100,
    stateful_step_count=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # to explain a failure takes longer than a test may
)


@pytest.fixture(autouse=True, scope="module")
def _two_processes(tmp_path_factory):
    STARTED.append(TwoProcesses(tmp_path_factory.mktemp("model")))
    yield
    STARTED.pop().close()


class EndpointsBesideTheirModel(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self):
        super().__init__()
        two = STARTED[0]
        self.runner, self.clock, self.netras = two.runner, two.clock, two.netras
        self.scope = Scope(f"tenant-{next(two.numbers)}", "tester")
        self.flying: list[Request] = []
        self.seen = {place: Seen() for place in PLACES}
        self.wrong: list[str] = []
        self.sent = 0
        self.runner.run(self.begin())

    async def begin(self):
        for process, netra in enumerate(self.netras):
            netra.webhooks.sender._egress = Wire(self, process)
        tenant = self.scope.tenant
        self.endpoints = {
            place: await add_endpoint(self.netras[0], f"http://127.0.0.1/{place}", tenant=tenant, event_types=(place,)) for place in PLACES
        }
        await self.observe()
        for place in PLACES:
            await self.send_(place, 0, 1)
        await self.look()

    def teardown(self):
        self.runner.run(self.finish())

    async def finish(self):
        """Everybody is well from now on: nothing may be left over."""
        for turn in range(60):
            while self.flying:
                await self.answer(self.flying[0], "200")
            if {state for _, _, state, _ in await self.deliveries()} <= {"delivered", "dead"}:
                break
            await self.pass_time(3 if turn < 8 else 100)
            for process in (0, 1):
                await self.work(process)
        left = [each for each in await self.deliveries() if each[2] not in {"delivered", "dead"}]
        assert not left, f"never finished: {left}"
        assert self.wrong == []

    async def deliveries(self):
        return await self.netras[0].database.read(partial(query, statement=Q.deliveries_of_tenant), scope=self.scope)

    # the rules

    @rule(place=st.sampled_from(PLACES), process=st.integers(0, 1), count=st.sampled_from([1, 3, 12]))
    def send(self, place, process, count):
        self.runner.run(self.send_(place, process, count))

    @rule(seconds=st.sampled_from([0.5, 2, 8, 26, 37, 95, 700]))
    def time_passes(self, seconds):
        self.runner.run(self.pass_time(seconds))

    @rule(process=st.integers(0, 1))
    def somebody_looks_for_work(self, process):
        self.runner.run(self.work(process))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 99), answer=st.sampled_from(ANSWERS))
    def one_is_answered(self, which, answer):
        self.runner.run(self.answer(self.flying[which % len(self.flying)], answer))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 99), answer=st.sampled_from(sorted(AFTER_S)))
    def one_asks_for_time(self, which, answer):
        self.runner.run(self.answer(self.flying[which % len(self.flying)], answer))

    @precondition(lambda self: self.flying)
    @rule(answer=st.sampled_from(["200", "500", "timeout"]), process=st.integers(0, 1))
    def twelve_are_answered_alike(self, answer, process):
        self.runner.run(self.answer_many(answer, process))

    @rule(process=st.integers(0, 1))
    def a_life_ends(self, process):
        self.runner.run(self.end_life(process))

    # what they do

    async def send_(self, place, process, count):
        for _ in range(count):
            self.sent += 1
            webhooks = self.netras[process].webhooks
            await webhooks.accept(self.scope, [webhooks.new_message(self.scope.tenant, place, {"n": self.sent})])
        await self.settle()

    async def pass_time(self, seconds):
        """Beyond the time-out of the request nobody waits for an answer."""
        self.clock._move_to(self.clock._now_us + round(seconds * S))
        for netra in self.netras:
            await netra.membership._beat_once()
        for request in [each for each in self.flying if self.clock.wall_us() - each.at_us >= TIMEOUT_S * S]:
            await self.answer(request, "timeout")
        await self.look()

    async def look(self):
        for netra in self.netras:
            await netra.webhooks.sender.breakers.look()
        await self.see()

    async def see(self):
        """The model looks at the table; the processes do not."""
        lanes = {(endpoint.tenant, endpoint.id): place for place, endpoint in self.endpoints.items()}
        rows = await self.netras[0].database.read(health.health_of, lanes, scope=SYSTEM)
        for lane, place in lanes.items():
            self.seen[place].row = rows.get(lane, WELL)

    async def observe(self):
        for netra in self.netras:
            await netra.membership._observe_once()

    async def work(self, process):
        await self.look()
        netra = self.netras[process]
        await netra.webhooks.dispatcher.sweep()
        await self.see()  # a dead prober's probe is given up, and the scan that follows may take the next one at once
        await netra.webhooks.dispatcher.scan()
        netra.webhooks.sender.pump()
        await self.settle()

    async def answer_many(self, answer, process):
        for _ in range(12):
            if self.flying:
                await self.answer(self.flying[0], answer)
            await self.work(process)

    async def end_life(self, process):
        """The others declare it dead; it finds out, drops what it holds, and what it has on its way will be late."""
        netra = self.netras[process]
        await netra.database.write(nodes.remove, netra.membership.id, scope=SYSTEM)
        await netra.membership._beat_once()
        await self.observe()

    async def answer(self, request, answer):
        self.flying.remove(request)
        late = request.life != self.netras[request.process].membership.id
        before = self.seen[request.place].row
        if answer == "timeout":
            request.answer.set_exception(EgressError("timeout", sent=True))
        elif answer == "denied":
            request.answer.set_exception(EgressDenied(Refusal("private", "allow it")))
        else:
            request.answer.set_result(_reply(answer))
        if not late:
            self.note(request, answer)
        await self.settle()
        await self.look()
        self.judge(request, answer, before, late=late)

    async def settle(self):
        """Every task that nobody has to answer first has come to its end."""
        for process, netra in enumerate(self.netras):
            tasks = netra.webhooks.sender._tasks
            while len(tasks) > sum(each.process == process for each in self.flying):
                await asyncio.sleep(0.0002)

    # the model

    def note(self, request, answer):
        seen, now_us = self.seen[request.place], self.clock.wall_us()
        if answer != "denied":
            seen.burned[request.message] += 1
        if answer in AFTER_S:
            seen.floors_us[request.message] = now_us + AFTER_S[answer] * S
        if answer in GATING:
            seen.gate_us = max(seen.gate_us, now_us + AFTER_S[answer] * S)

    def may_start(self, request):
        """Called as a request leaves: the rules that no attempt may break."""
        seen, now_us = self.seen[request.place], request.at_us
        breaker = seen.row.breaker
        others = [each for each in self.flying if each.place == request.place]
        if now_us < seen.gate_us:
            self.wrong.append(f"sent {(seen.gate_us - now_us) / S} s before the gate opens")
        if now_us < seen.floors_us.get(request.message, 0):
            self.wrong.append("a Retry-After is undercut")
        if breaker.phase != "closed" and now_us < breaker.until_us:
            self.wrong.append(f"sent while the breaker is {breaker.phase}")
        if breaker.phase != "closed" and any(each.at_us >= breaker.until_us for each in others):
            self.wrong.append("two probes")
        fresh = [each for each in others if each.at_us >= breaker.since_us]
        if breaker.phase == "closed" and breaker.limit and len(fresh) >= breaker.limit:
            self.wrong.append(f"{len(fresh) + 1} on their way in a slow start of {breaker.limit}")
        living = [each for each in others if each.life in {netra.membership.id for netra in self.netras}]
        if len(living) >= 10:
            self.wrong.append("eleven on their way to one endpoint")

    def judge(self, request, answer, before, *, late):
        """The breaker has moved as the design says, if it moved. Who lost its lease still learns, and changes nothing itself."""
        seen = self.seen[request.place]
        was, now = before.breaker, seen.row.breaker
        if was.phase != "closed" or request.at_us < was.since_us:
            seen.in_a_row.clear()
            seen.failures_since = 0
        elif answer in SICK:
            seen.in_a_row[request.process] += 1
            seen.failures_since += 1
        elif answer == "200":
            seen.in_a_row[request.process] = 0
        if late:
            if was != now:
                self.wrong.append("the outcome of an expired owner moved the breaker")
            return
        if was.phase == "closed" and now.phase == "closed" and seen.in_a_row[request.process] >= 10:
            self.wrong.append("ten failures in a row, and the breaker is closed")
        if was.phase == "closed" and now.phase == "open" and (answer not in SICK or seen.failures_since < 10):
            self.wrong.append(f"opened by {answer} after {seen.failures_since} failures")
        if now.phase == "open" and was != now and answer in SICK:
            nominal_s = min(30 * 2 ** (now.openings - 1), 1800)
            if now.openings != was.openings + 1 or not 0.8 * nominal_s * S <= now.until_us - now.since_us <= 1.2 * nominal_s * S:
                self.wrong.append(f"opened for {(now.until_us - now.since_us) / S} s at the {now.openings}. time")
        if (
            was.phase == "half_open"
            and request.at_us >= was.since_us
            and now.phase != {True: "open"}.get(answer in SICK | {"denied"}, "closed")
        ):
            self.wrong.append(f"the probe was answered {answer}, and the breaker is {now.phase}")
        if now.phase != "closed":
            seen.in_a_row.clear()
            seen.failures_since = 0

    @invariant()
    def no_rule_was_broken(self):
        assert self.wrong == []

    @invariant()
    def nothing_waits_in_memory_for_an_endpoint_that_may_be_sent_nothing(self):
        for netra in self.netras:
            lanes = netra.webhooks.sender.lanes
            for lane, state in lanes._lanes.items():
                assert not state.waiting or netra.webhooks.sender.breakers.allowance(lane) or lane in lanes._blocked

    @invariant()
    def numbers_are_the_attempts_that_burned_one(self):
        """W5: what was parked, refused by our own rules or released has burned nothing."""
        for message, endpoint, state, number in self.runner.run(self.deliveries()):
            place = next(place for place, each in self.endpoints.items() if each.id == endpoint)
            burned = self.seen[place].burned[to_text("msg", message)]
            assert number == burned, f"{number} burned where {burned} were answered ({state})"


def _reply(answer):
    headers = [("retry-after", str(AFTER_S[answer]))] if answer in AFTER_S else []
    if answer == "abort":
        headers.append(("webhook-delivery", "abort-message"))
    return Reply(500 if answer == "abort" else int(answer[:3]), tuple(headers), b"", truncated=False, peer="", duration_s=0.0)


def test_two_processes_keep_to_the_model_of_breaker_retry_and_gates():
    run_state_machine_as_test(EndpointsBesideTheirModel, settings=SETTINGS)
