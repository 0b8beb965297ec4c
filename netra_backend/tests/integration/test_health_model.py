"""Endpoints that fail, are disabled, enabled and disabled by Netra, beside a model of plain numbers; and a process that loses its memory.

Everything is Netra's own (service, dispatcher, sender, breakers, SQLite or PostgreSQL) save the wire, where a request waits until the machine answers
it. A crash may come between any two steps: all that the process held in memory is gone, requests on their way with it, its node is
declared dead, and a new process begins with the file. The model knows only what it was told: who answered what and when, who was
disabled by whom. After each step the rows are held against it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from netra_backend.kernel.backoff import Schedule
from netra_backend.kernel.ids import from_text
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.resilience.egress import Reply
from netra_backend.testing.clock import FakeClock, SeededChance
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.model import Endpoint
from netra_backend.webhooks.sender import Sender
from netra_backend.webhooks.service import Webhooks
from netra_backend.webhooks.settings import WebhookSettings
from netra_backend.webhooks.snapshots import Snapshots
from netra_backend.webhooks.worker import Dispatcher

from ..support.storage import SYSTEM, Q, drop_postgres, eventually, opened, query, take_outbox, with_its_server
from ..support.webhooks import SEALER, endpoint_of, live_node, reap

S = 1_000_000
HOUR_S = 3600
GAP_US = 30 * HOUR_S * S
OPTIONS = WebhookSettings(
    schedule=Schedule((1.0, 5.0, 20.0, 60.0, 60.0), jitter=0.0),
    breaker_failures=3,
    breaker_open_s=30.0,
    failing_warnings_s=(HOUR_S,),
    disable_after_s=36.0 * HOUR_S,
    disable_attempts=4,
)
STATUS = {"200": 200, "404": 404, "410": 410, "500": 500, "503 after 90": 503, "500 after 40": 500}
AFTER_S = {"503 after 90": 90, "500 after 40": 40}
PLACES = ("a", "b")
OVER = {"delivered", "dead", "skipped"}


@dataclass(eq=False)
class Request:
    """One attempt on its way."""

    place: str
    message: str
    manual: bool
    answer: asyncio.Future[Any]


@dataclass
class Told:
    """What the model knows of one endpoint: of its failing as a spreadsheet would keep it."""

    disabled: bool = False
    since_us: int | None = None
    failed_us: int = 0
    spent_us: int = 0
    failures: int = 0
    warned: bool = False
    warnings: int = 0
    recoveries: int = 0
    disablings: int = 0
    gate_us: int = 0
    floors_us: dict[str, int] = field(default_factory=dict)
    burned: dict[str, int] = field(default_factory=dict)
    delivered: set[str] = field(default_factory=set)
    unwanted: set[str] = field(default_factory=set)
    was_disabled: set[str] = field(default_factory=set)

    def forget(self) -> None:
        self.since_us, self.failed_us, self.spent_us, self.failures, self.warned = None, 0, 0, 0, False

    def disable(self) -> None:
        """By whomever: it begins anew, and what waits for it may be skipped."""
        if self.disabled:
            return
        self.disabled = True
        self.disablings += 1
        self.gate_us = 0
        self.was_disabled |= self.burned.keys()
        self.forget()

    def fail(self, now_us: int) -> None:
        if self.since_us is None:
            self.since_us = now_us
        elif now_us > self.failed_us:
            self.spent_us += min(now_us - self.failed_us, GAP_US)
        self.failed_us = now_us
        self.failures += 1
        if self.spent_us >= 36 * HOUR_S * S and self.failures >= 4:
            self.disable()
        elif self.spent_us >= HOUR_S * S and not self.warned:
            self.warned = True
            self.warnings += 1

    def succeed(self) -> None:
        self.recoveries += self.warned
        self.forget()


class Wire:
    """What stands in for the egress client: requests wait to be answered, and each start is held against the model."""

    def __init__(self, machine: HealthBesideItsModel) -> None:
        self.machine = machine

    async def request(self, _method, url, *, headers, **_):
        place, message = url.rpartition("/")[2], dict(headers)["webhook-id"]
        request = Request(place, message, False, asyncio.get_running_loop().create_future())
        self.machine.leaves(request)
        return await request.answer


class Process:
    """One life: all that a process knows. Its loops do not run; the machine turns them."""

    def __init__(self, world: World, node: bytes) -> None:
        self.node = node
        membership = SimpleNamespace(id=node, quiet=False, senders={node: 0}, on_new_life=[], on_reaped=[])
        snapshots = Snapshots(world.database, SEALER)
        self.sender = Sender(world.database, world.runtime, OPTIONS, membership, snapshots, None)
        self.dispatcher = Dispatcher(world.database, world.runtime, OPTIONS, membership, snapshots, self.sender)
        self.snapshots = snapshots
        self.webhooks = Webhooks(world.database, world.runtime, OPTIONS, SEALER, membership, snapshots, self.dispatcher)
        self.sender.running = True

    async def die(self) -> None:
        """Nothing that it holds is written any more."""
        self.sender.running = False
        tasks = [*self.sender._tasks, *self.sender._rests.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class World:
    """One example's database, clock and loop. `template` is the file to be copied, or none: an empty database on the server."""

    def __init__(self, template: Path | None) -> None:
        self.folder = TemporaryDirectory()
        if template is not None:
            shutil.copy(template, self.folder.name)
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.runtime = Runtime(clock=self.clock, chance=SeededChance())
        self.opened = opened("apsw" if template is not None else "postgres", Path(self.folder.name), self.runtime)
        self.database = self.runner.run(self.opened.__aenter__())

    def close(self) -> None:
        self.runner.run(self.opened.__aexit__(None, None, None))
        self.runner.close()
        drop_postgres(Path(self.folder.name))
        self.folder.cleanup()


class HealthBesideItsModel(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self, template: Path | None):
        super().__init__()
        self.world = World(template)
        self.clock, self.database = self.world.clock, self.world.database
        self.tenant = "acme"
        self.scope = Scope(self.tenant, "tester")
        self.flying: list[Request] = []
        self.told = {place: Told() for place in PLACES}
        self.wrong: list[str] = []
        self.reported: list[dict[str, Any]] = []
        self.sent = 0
        self.run(self.begin())

    def run(self, work):
        self.world.runner.run(work)

    async def begin(self):
        self.endpoints: dict[str, Endpoint] = {
            place: await endpoint_of(self.database, self.tenant, url=f"http://127.0.0.1/{place}", event_types=(place,)) for place in PLACES
        }
        await self.take_reports()
        await self.new_process()

    async def new_process(self):
        self.process = Process(self.world, await live_node(self.database))
        self.process.sender._egress = Wire(self)
        await self.process.sender.breakers.look()

    def teardown(self):
        try:
            self.run(self.finish())
        finally:
            self.world.close()

    async def finish(self):
        """Everybody is well and enabled from now on: nothing may be left over."""
        for place in PLACES:
            await self.change_(place, disabled=False)
        for turn in range(130):
            while self.flying:
                await self.answer_(self.flying[0], "200")
            if all(row[2] in OVER for row in await self.rows()):
                break
            await self.clock.jump(3 if turn < 8 else 100 if turn < 40 else 5 * HOUR_S)  # a clock that stepped back takes as long again
            await self.work()
        left = [row for row in await self.rows() if row[2] not in OVER]
        assert not left, f"never finished: {left}"
        await self.process.die()
        await reap(self.database, self.process.node)
        await self.check()

    # the rules

    @rule(place=st.sampled_from(PLACES), count=st.sampled_from([1, 1, 3]))
    def send(self, place, count):
        self.run(self.send_(place, count))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 99), answer=st.sampled_from(sorted(STATUS)))
    def one_is_answered(self, which, answer):
        self.run(self.step(self.answer_, self.flying[which % len(self.flying)], answer))

    @rule(answer=st.sampled_from(["500", "404"]), hours=st.sampled_from([1, 20, 100]))
    def it_fails_for_hours(self, answer, hours):
        """Whatever is on its way fails, again and again."""
        self.run(self.step(self.fail_for, answer, hours))

    @rule(place=st.sampled_from(PLACES), disabled=st.booleans())
    def somebody_changes_it(self, place, disabled):
        self.run(self.step(self.change_, place, disabled=disabled))

    @rule(seconds=st.sampled_from([1, 6, 31, 95, HOUR_S, 30 * HOUR_S]))
    def time_passes(self, seconds):
        self.run(self.step(self.clock.jump, seconds))

    @rule(seconds=st.sampled_from([-40 * HOUR_S, -60, 60, 400 * HOUR_S]))
    def the_clock_steps(self, seconds):
        for told in self.told.values():  # instants are the wall clock's: what is due by it is due
            told.gate_us, told.floors_us = 0, {}
        self.clock.step_wall(seconds)
        self.run(self.step(self.work))

    @rule(after_an_answer=st.booleans())
    def it_crashes(self, after_an_answer):
        self.run(self.step(self.crash, after_an_answer))

    # what they do

    async def step(self, work, *args, **options):
        await work(*args, **options)
        await self.work()
        await self.check()

    async def work(self):
        """The process looks around and does what there is to do."""
        for each in (self.process.snapshots, self.process.sender.breakers, self.process.dispatcher):
            each._version = -1  # as if a node had beaten meanwhile, and as if the server had been watched for long enough
        await self.process.snapshots.look()
        await self.process.sender.breakers.look()
        await self.process.dispatcher.sweep()
        await self.process.dispatcher.scan()
        self.process.sender.pump()
        await self.settle()

    async def settle(self):
        """Every task that nobody has to answer first has come to its end."""
        await eventually(lambda: len(self.process.sender._tasks) <= len(self.flying))

    async def send_(self, place, count):
        news = []
        for _ in range(count):
            self.sent += 1
            news.append(self.process.webhooks.new_message(self.tenant, place, {"n": self.sent}))
        told = self.told[place]
        for answer in await self.process.webhooks.accept(self.scope, news):
            message = answer.message.text_id
            told.burned[message] = 0
            if told.disabled:
                told.was_disabled.add(message)
        await self.settle()
        await self.work()
        await self.check()

    async def answer_(self, request, answer):
        self.flying.remove(request)
        told, now_us = self.told[request.place], self.clock.wall_us()
        told.burned[request.message] += 1
        if answer == "200":
            told.delivered.add(request.message)
            told.succeed()
        elif answer == "410":
            told.unwanted.add(request.message)
            told.disable()
        else:
            told.fail(now_us)
        if answer in AFTER_S:
            told.floors_us[request.message] = now_us + AFTER_S[answer] * S
        if answer == "503 after 90" and not told.disabled:
            told.gate_us = now_us + 90 * S
        request.answer.set_result(_reply(answer))
        await self.settle()

    async def fail_for(self, answer, hours):
        for _ in range(4):
            while self.flying:
                await self.answer_(self.flying[0], answer)
            await self.clock.jump(hours * HOUR_S / 4)
            await self.work()

    async def change_(self, place, *, disabled):
        told = self.told[place]
        await self.database.write(endpoints.update, self.endpoints[place].text_id, {"disabled": disabled}, scope=self.scope)
        if disabled:
            told.disable()
        elif told.disabled:
            told.disabled, told.gate_us = False, 0
            told.forget()

    async def crash(self, after_an_answer):
        """With `after_an_answer` a receiver has answered, and the process dies before it can write that down."""
        if after_an_answer and self.flying:
            self.flying[0].answer.set_result(_reply("200"))
        self.flying.clear()
        await self.process.die()
        await reap(self.database, self.process.node)
        await self.new_process()

    # the model

    def leaves(self, request):
        """Called as a request leaves: the rules that no attempt may break."""
        told, now_us = self.told[request.place], self.clock.wall_us()
        if told.disabled:
            self.wrong.append("sent to an endpoint that is disabled")
        if now_us < told.gate_us:
            self.wrong.append("sent before the gate opens")
        if now_us < told.floors_us.get(request.message, 0):
            self.wrong.append("a Retry-After is undercut")
        if request.message in told.delivered | told.unwanted:
            self.wrong.append("sent again after its end")
        if any(each.message == request.message for each in self.flying):
            self.wrong.append("sent twice at once")
        self.flying.append(request)

    async def rows(self):
        return await self.database.read(partial(query, statement=Q.standing_of_tenant), scope=self.scope)

    async def take_reports(self):
        taken = await self.database.write(take_outbox, scope=SYSTEM)
        items = [pair for row in sorted(taken) if row[1] == "operational" for pair in json.loads(row[3])]
        self.reported += [item for tenant, item in items if tenant == self.tenant]

    async def check(self):
        """Every row says what the model says."""
        assert self.wrong == []
        await self.take_reports()
        shown = {row[0]: row for row in await self.database.read(partial(query, statement=Q.health_rows), scope=self.scope)}
        standing = {(endpoint, message): (state, number, owner) for endpoint, message, state, number, owner in await self.rows()}
        for place, told in self.told.items():
            endpoint = self.endpoints[place]
            found = await self.database.read(endpoints.get, endpoint.text_id, scope=self.scope)
            assert found.disabled == told.disabled, place
            row = shown.get(endpoint.id, (endpoint.id, None, None, None))
            assert row[1:] == ((told.since_us, told.spent_us, told.failures) if told.since_us is not None else (None, None, None)), place
            reports = [item["type"] for item in self.reported if item["endpoint"] == endpoint.id.hex()]
            assert reports.count("message.attempt.failing") == told.warnings
            assert reports.count("message.attempt.recovered") == told.recoveries
            assert reports.count("endpoint.disabled") == told.disablings
            self.check_deliveries(told, {key[1]: value for key, value in standing.items() if key[0] == endpoint.id}, reports)

    def check_deliveries(self, told, standing, reports):
        assert len(standing) == len(told.burned), "a message is lost"
        dead = 0
        for message, number in told.burned.items():
            state, burned, owner = standing[from_text("msg", message)]
            assert burned == number, message
            assert (state == "delivered") == (message in told.delivered), message
            assert owner in {None, self.process.node}, "leased to a process that is dead"
            if state == "skipped":
                assert message in told.was_disabled | told.unwanted
            dead += state == "dead"
        assert reports.count("message.attempt.exhausted") == dead


def _reply(answer):
    headers = (("retry-after", str(AFTER_S[answer])),) if answer in AFTER_S else ()
    return Reply(STATUS[answer], headers, b"", truncated=False, peer="", duration_s=0.0)


@pytest.fixture(params=("apsw", "postgres"))
def template(request, templates):
    """What an example's database is a copy of; none: the server makes it."""
    return templates.get(with_its_server(request))


def test_endpoints_and_deliveries_stand_as_the_model_says_whatever_is_lost_in_between(template):
    run_state_machine_as_test(
        partial(HealthBesideItsModel, template),
        settings=settings(
            max_examples=100,
            stateful_step_count=10,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        ),
    )
