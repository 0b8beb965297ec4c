"""Debug sessions end to end, on every engine: what they hear, and above all what they do not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import statistics
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from netra_backend.integrations.asgi import NetraMiddleware
from netra_backend.kernel import debugging
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.observability.debug import hub as hub_module
from netra_backend.observability.debug import logs
from netra_backend.storage import tenants
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ..support import debugged
from ..support.looking import RECEIVER, look, of_kind, opened, seen
from ..support.platform import add_endpoint
from ..support.storage import eventually

LOG = logging.getLogger("shop")
WORKS = int(os.environ.get("NETRA_DEBUG_WORKS", "1000"))
"""Pieces of work of a thousand tenants; `make soak PART=debug` asks for more."""

PLACE = "netra_backend.tests.support.debugged:doubled"


@pytest.fixture
async def netra(engine, prepared):
    async with opened(prepared) as netra:
        for tenant in ("acme", "globex"):
            await netra.tenant(tenant)
        yield netra


def messages(records):
    return [data["message"] for data in of_kind(records, "log")]


async def test_logs_below_the_programs_level_are_heard_from_watched_work_only(netra, caplog):
    caplog.set_level(logging.WARNING, "shop")
    session = await look(netra)
    LOG.debug("before")
    with netra.scope("acme", "alice"):
        LOG.debug("of %s, %d", "acme", 7)
        with netra.scope("globex"):
            LOG.debug("of globex")
        LOG.debug("of acme again")
    LOG.debug("after")
    assert messages(await seen(netra, session)) == ["of acme, 7", "of acme again"]
    assert caplog.records == []
    await netra.debug.end(session, tenant="acme")
    assert logging.Logger.isEnabledFor is logs._enabled_of_python
    assert not LOG.isEnabledFor(logging.DEBUG)


async def test_a_record_names_its_session_tenant_and_trace(netra):
    session = await look(netra)
    trace = netra.trace()
    with netra.scope("acme", trace=trace):
        LOG.error("it failed: %s", ValueError("token=hunter2"), exc_info=ValueError("password is hunter2"))
    (record,) = await seen(netra, session)
    assert (record["session"], record["tenant"], record["kind"], record["trace_id"]) == (session, "acme", "log", trace.trace_id)
    assert "hunter2" not in str(record)
    assert record["data"]["error"]["type"] == "ValueError"


@pytest.mark.parametrize(
    ("asked", "heard"),
    [({"user": "alice"}, ["1"]), ({"route": "GET /orders/*"}, ["1", "2"]), ({"route": "/orders/7"}, ["1"]), ({"trace": "a" * 32}, ["2"]),
     ({"user": "alice", "route": "/carts*"}, []), ({"endpoint": "ep_x"}, []), ({"job": "load"}, [])],
)  # fmt: skip
async def test_predicates_choose_and_all_must_hold(netra, asked, heard):
    session = await look(netra, **asked)
    with netra.context("acme", "alice", "", "GET /orders/7"):
        LOG.debug("1")
    with netra.context("acme", "bob", f"00-{'a' * 32}-{'b' * 16}-01", "GET /orders/8"):
        LOG.debug("2")
    assert messages(await seen(netra, session)) == heard


async def test_a_tenant_that_is_named_later_is_watched_from_then_on(netra):
    session = await look(netra, route="GET /orders/*")
    with netra.context(None, "alice", "", "GET /orders/7"):
        LOG.debug("nobody's")
        with netra.scope("globex"):
            LOG.debug("globex's")
        with netra.scope("acme"):
            LOG.debug("acme's")
    assert messages(await seen(netra, session)) == ["acme's"]


async def test_a_tenant_is_watched_under_each_of_its_references(netra):
    async def rename(tx):
        return (await tenants.update(tx, "acme", {"uid": "acme-new"})).app_id

    session = await look(netra)
    app_id = await netra.database.write(rename, scope=Scope("*", "tester"))
    await netra.debug.hub.look()
    for reference in ("acme", "acme-new", app_id, "globex"):
        with netra.scope(reference):
            LOG.debug("as %s", reference)
    assert messages(await seen(netra, session)) == ["as acme", "as acme-new", f"as {app_id}"]


async def test_a_delivery_is_watched_by_who_chose_its_message(engine, prepared):
    """By user: the worker cannot know that, so the row says it; of another user's message and another tenant's nothing is heard."""
    async with MisbehavingEndpoint("503") as receiver, opened(prepared, workers=True) as netra:
        for tenant in ("acme", "globex"):
            await add_endpoint(netra, f"{receiver.url}?tenant={tenant}", tenant=tenant)
        session = await look(netra, user="alice")
        for tenant, user in (("acme", "alice"), ("acme", "bob"), ("globex", "alice")):
            with netra.scope(tenant, user):
                async with netra.transaction() as tx:
                    await netra.webhooks.send(tx, "thing.happened", {"of": f"{tenant} {user}", "password": "hunter2"})
        await eventually(lambda: len(receiver.received) >= 3)
        await eventually(lambda: netra.debug.hub.lives[0].has_records)
        exchanges = of_kind(await seen(netra, session), "http")
        assert exchanges
        for each in exchanges:
            assert (each["direction"], each["method"], each["answer"]["status"]) == ("out", "POST", 503)
            assert '"of":"acme alice"' in each["request"]["body"]
            assert "hunter2" not in each["request"]["body"]
            assert each["request"]["headers"]["webhook-signature"] == "[redacted]"


async def test_a_delivery_is_chosen_by_its_endpoint(engine, prepared):
    async with MisbehavingEndpoint() as receiver, opened(prepared, workers=True) as netra:
        chosen = await add_endpoint(netra, f"{receiver.url}?chosen=1", tenant="acme", uid="chosen")
        await add_endpoint(netra, f"{receiver.url}?chosen=0", tenant="acme")
        session = await look(netra, endpoint=chosen.text_id)
        async with netra.transaction(tenant="acme") as tx:
            await netra.webhooks.send(tx, "thing.happened", {})
        await eventually(lambda: len(receiver.received) == 2)
        await eventually(lambda: netra.debug.hub.lives[0].has_records)
        assert {each["url"].partition("?")[2] for each in of_kind(await seen(netra, session), "http")} == {"chosen=1"}


async def test_a_failed_delivery_tells_why(engine, prepared):
    async with opened(prepared, workers=True) as netra:
        await add_endpoint(netra, RECEIVER, tenant="acme")
        session = await look(netra)
        async with netra.transaction(tenant="acme") as tx:
            await netra.webhooks.send(tx, "thing.happened", {})
        await eventually(lambda: netra.debug.hub.lives[0].has_records)
        (exchange, *_) = of_kind(await seen(netra, session), "http")
        assert exchange["answer"]["error"] == "connect"


async def test_another_process_listens_in_less_than_a_second_and_stops_as_soon(engine, prepared, netra):
    heard_s, deaf_s = [], []
    async with opened(prepared) as other:
        for _ in range(3):
            began = time.monotonic()
            session = await look(netra)
            await eventually(lambda: other.debug.hub.lives)
            heard_s.append(time.monotonic() - began)
            with other.scope("acme"):
                LOG.debug("over there")
            began = time.monotonic()
            await netra.debug.end(session, tenant="acme")
            await eventually(lambda: not other.debug.hub.lives)
            deaf_s.append(time.monotonic() - began)
            with other.scope("acme"):
                LOG.debug("too late")
    # What a busy machine adds to one of them says nothing; a process that looks too seldom is late in most of them.
    assert statistics.median(heard_s) < 1.0, heard_s
    assert statistics.median(deaf_s) < 1.0, deaf_s

    async def arrived():
        return messages(await seen(netra, session)) == ["over there"]

    await eventually(arrived)


async def test_nothing_that_comes_from_outside_starts_or_joins_a_session(netra):
    session = await look(netra, user="alice")
    heard = []

    async def app(scope, receive, send):
        LOG.debug("handled")
        heard.append(debugging.watched.get())

    middleware = NetraMiddleware(app, netra, tenant=lambda _: "acme", actor=lambda _: "mallory")
    names = [
        "baggage",
        "tracestate",
        "netra-debug",
        "x-netra-debug",
        "x-debug-session",
        "debug",
        "x-netra-session",
        "netra-debug-session",
        "x-user",
    ]
    values = [session, f"netra-debug={session}", f"netra_debug={session},user=alice", "alice", "1", "true"]
    for name in names:
        for value in values:
            request = {"type": "http", "method": "GET", "path": f"/x?debug={session}", "query_string": f"debug={session}".encode()}
            await middleware({**request, "headers": [(name.encode(), value.encode())]}, None, None)
    assert len(heard) == len(names) * len(values)
    assert all(watch is None or not watch.wants("log") for watch in heard)
    assert await seen(netra, session) == []
    for live in (await netra.debug.sessions(tenant="acme", ended=True), await netra.debug.sessions(tenant="globex", ended=True)):
        assert [each["session"] for each in live] in ([session], [])


async def test_finished_spans_of_watched_work_are_heard_and_no_other_tenants(engine, prepared):
    tracer = SimpleNamespace(exporters=[], span=lambda *_: None)
    async with opened(prepared, runtime=Runtime(tracer=tracer)) as netra:
        for tenant in ("acme", "globex"):
            await netra.tenant(tenant)
        session = await look(netra, capture=["span"])
        (export,) = tracer.exporters

        def ended(tenant):
            span = {"tenant": tenant, "name": "render", "part": "app", "span_id": "b" * 16, "parent": "", "start_us": 1, "end_us": 5}
            export(SimpleNamespace(**span, status="ok", ref="", attributes={"password": "hunter2"}))

        ended("acme")  # outside of any work
        with netra.scope("acme"):
            ended("acme")
            ended("globex")
        with netra.scope("globex"):
            ended("globex")
        (data,) = of_kind(await seen(netra, session), "span")
        assert (data["name"], data["duration_us"], data["attributes"]) == ("render", 4, {"password": "[redacted]"})
    assert tracer.exporters == []


async def test_a_task_that_outlives_its_work_is_heard_no_more(netra):
    session = await look(netra)
    go = asyncio.Event()

    async def linger():
        LOG.debug("within")
        await go.wait()
        LOG.debug("afterwards")

    with netra.scope("acme"):
        task = asyncio.create_task(linger())
        await asyncio.sleep(0)
    go.set()
    await task
    assert messages(await seen(netra, session)) == ["within"]


async def test_a_thousand_tenants_interleaved_over_tasks_threads_and_retries_hear_only_their_own(engine, prepared):
    """D1. Canaries in logs, variables and payloads; a session looks at each of eight tenants among a thousand."""
    chance = random.Random(int(os.environ.get("NETRA_DEBUG_SEED", "7")))
    looked_at = [f"t{n:04}" for n in range(0, 1000, 125)]
    async with MisbehavingEndpoint("503") as receiver, opened(prepared, workers=True) as netra:
        for tenant in looked_at:
            await add_endpoint(netra, f"{receiver.url}?tenant={tenant}", tenant=tenant)
        await add_endpoint(netra, f"{receiver.url}?tenant=t0001", tenant="t0001")
        sessions = {tenant: await look(netra, tenant, logpoints=[PLACE]) for tenant in looked_at}

        def in_thread(tenant):
            LOG.debug("thread of canary-%s", tenant)
            return debugged.doubled(f"canary-{tenant} ")

        async def nested(tenant):
            await asyncio.sleep(0)
            LOG.debug("child of canary-%s", tenant)

        async def work(tenant, number):
            with netra.scope(tenant, f"user-{number}"):
                LOG.debug("began canary-%s", tenant)
                await asyncio.sleep(chance.random() / 100)
                debugged.doubled(f"canary-{tenant} ")
                await asyncio.gather(nested(tenant), nested(tenant))
                if number % 10 == 0:
                    await asyncio.to_thread(in_thread, tenant)
                other = f"t{chance.randrange(1000):04}"
                with netra.scope(other):
                    LOG.debug("inside canary-%s", other)
                    await asyncio.sleep(0)
                    debugged.doubled(f"canary-{other} ")
                LOG.debug("ended canary-%s", tenant)

        async def sends(tenant):
            async def send(tx):
                await netra.webhooks.send(tx, "thing.happened", {"note": f"canary-{tenant}"})

            for _ in range(3):
                await netra.write(send, tenant=tenant)

        async def check(tenant, session):
            records = []

            async def of_every_kind():
                """An exchange is recorded by whoever sent, once the receiver's answer has come back to it."""
                records[:] = await seen(netra, session, tenant)
                return {record["kind"] for record in records} - {"dropped"} == {"log", "http", "snapshot"}

            await eventually(of_every_kind)
            for record in records:
                assert record["tenant"] == tenant
                text = str(record["data"])
                canaries = {part[:5] for part in text.split("canary-")[1:]}
                assert canaries <= {tenant}, (tenant, record)
            return len(records)

        judged = 0
        for first in range(0, WORKS, 1000):
            works = (work(f"t{n % 1000:04}", n) for n in range(first, min(first + 1000, WORKS)))
            await asyncio.gather(*works, *(sends(tenant) for tenant in [*looked_at, "t0001"]))
            judged += sum([await check(tenant, session) for tenant, session in sessions.items()])
        if path := os.environ.get("NETRA_EVIDENCE"):
            with Path(path).open("a") as file:
                file.write(json.dumps({"cell": engine, "works": WORKS, "records judged": judged}) + "\n")


def looked_at_no_more(code):
    """Of the code that `doubled` had while a logpoint was on it. From Python 3.12 on that is its own, and events are asked for or not."""
    if sys.version_info < (3, 12):
        return debugged.doubled.__code__ is not code
    return not any(sys.monitoring.get_tool(tool) and sys.monitoring.get_local_events(tool, code) for tool in range(6))


async def test_a_forked_child_hears_nothing_and_its_parent_goes_on(netra):
    session = await look(netra, logpoints=[PLACE])
    own = debugged.doubled.__code__
    with netra.scope("acme"):
        child = os.fork()
        if child == 0:  # only what needs no loop
            quiet = not debugging.any_session and looked_at_no_more(own) and logging.Logger.isEnabledFor is logs._enabled_of_python
            LOG.debug("in the child")
            debugged.doubled(1)
            quiet = quiet and not any(live._ring for live in netra.debug.hub.lives)
            os.kill(os.getpid(), signal.SIGKILL if quiet else signal.SIGTERM)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        LOG.debug("in the parent")
        debugged.doubled(2)
    assert os.WTERMSIG(status) == signal.SIGKILL
    records = await seen(netra, session)
    assert messages(records) == ["in the parent"]
    assert [data["variables"]["value"] for data in of_kind(records, "snapshot")] == [2]


def test_synchronous_code_has_the_same_calls(engine, prepared):
    from netra_backend import Netra

    from ..support.adopting import settings_of
    from ..support.storage import database_url

    with Netra(database_url(prepared), workers=False, environ={}, **settings_of(prepared)) as netra:
        netra.sync.tenant("acme")
        made = netra.sync.debug.start(tenant="acme", reason="look")
        with netra.sync.scope("acme"):
            LOG.debug("in a thread of its own")
            threading.Thread(target=LOG.debug, args=("of nobody",)).start()
        assert netra.sync.debug.extend(made["session"], "1h", tenant="acme")["expires_at"] > made["expires_at"]
        ended = netra.sync.debug.end(made["session"], tenant="acme")
        assert ended["state"] == "ended"
        ends = time.monotonic() + 10
        while not (records := netra.sync.debug.records(made["session"], tenant="acme")) and time.monotonic() < ends:
            time.sleep(0.02)
        assert messages(records) == ["in a thread of its own"]
        assert netra.sync.debug.sessions(tenant="acme") == []


async def test_without_a_session_nothing_is_decided(netra, monkeypatch):
    assert not debugging.any_session

    def refused(*_):
        raise AssertionError

    monkeypatch.setattr(hub_module.Hub, "enter", refused)
    monkeypatch.setattr(hub_module.Hub, "watch", refused)
    with netra.scope("acme"), netra.context("acme", "alice", "", "GET /"):
        LOG.debug("nobody listens")
    assert Runtime().debug.watch(Scope("acme"), {}) is None
