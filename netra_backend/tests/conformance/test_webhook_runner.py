"""The runner on every engine: tasks are walked to their end, beside each other and after a death, and no late commit is missed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import Context

from netra_backend.kernel.clock import SystemClock
from netra_backend.kernel.failpoints import FailpointError
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage.membership import Membership
from netra_backend.webhooks import tasks
from netra_backend.webhooks.intake import Target, ingest
from netra_backend.webhooks.runner import TRIES, Runner
from netra_backend.webhooks.settings import WebhookSettings
from netra_backend.webhooks.snapshots import Snapshots

from ..support.storage import POSTGRES, eventually, opened
from ..support.webhooks import SEALER, endpoint_of, in_tenant, intake, live_node, reap, version_of
from .test_webhook_tasks import CANCEL, begun, claim, in_state, stands, states_of, step


class Looking(SystemClock):
    """Counts how often somebody waited."""

    def __init__(self):
        self.waits = 0

    async def sleep(self, seconds):
        self.waits += 1
        await super().sleep(seconds)


@asynccontextmanager
async def running(database, folder, runtime=None):
    """A runner of a living process; its node's id."""
    runtime = runtime or Runtime()
    membership = Membership(database, runtime, folder / "locks-of-runner", ttl_s=60.0, role="test")
    await membership.start()
    runner = Runner(database, runtime, WebhookSettings(), membership, Snapshots(database, SEALER))
    await runner.start()
    try:
        yield membership.id
    finally:
        await runner.stop()
        await membership.stop()


async def ended(database, task):
    async def over():
        return (await stands(database, task)).state != "running"

    await eventually(over)
    return await stands(database, task)


async def test_tasks_are_walked_to_their_end_also_those_that_come_later(database, tmp_path):
    endpoint = await endpoint_of(database)
    messages = await in_state(database, endpoint, "skipped", 3)
    first = await begun(database, "recover", endpoint)
    async with running(database, tmp_path):
        assert (await ended(database, first)).changed == 3
        second = await begun(database, "recover", endpoint)
        assert ((await ended(database, second)).state, (await stands(database, second)).changed) == ("finished", 0)
    assert await states_of(database, endpoint, messages) == ["due"] * 3


async def test_a_task_of_the_dead_is_taken_over(database, tmp_path):
    endpoint, other = await endpoint_of(database), await endpoint_of(database)
    await in_state(database, endpoint, "skipped", 5)
    task, dead = await begun(database, "recover", endpoint), await live_node(database)
    await claim(database, task, dead)
    await step(database, task, dead, 2)
    async with running(database, tmp_path):
        await ended(database, await begun(database, "recover", other))
        assert (await stands(database, task)).owner == dead
        await reap(database, dead)
        found = await ended(database, task)
    assert (found.done, found.changed) == (5, 5)


async def test_a_task_that_cannot_be_done_fails_after_a_few_tries_and_says_why(engine, prepared, tmp_path):
    runtime = Runtime()
    async with opened(engine, prepared, runtime) as database:
        endpoint = await endpoint_of(database)
        (message,) = await in_state(database, endpoint, "skipped")
        hits = []

        def refuse():
            hits.append(1)
            runtime.failpoints.arm(tasks.PAGE_WRITTEN, refuse)
            raise FailpointError

        runtime.failpoints.arm(tasks.PAGE_WRITTEN, refuse)
        task = await begun(database, "recover", endpoint)
        async with running(database, tmp_path):
            found = await ended(database, task)
        assert (found.state, found.changed, len(hits)) == ("failed", 0, TRIES)
        assert "FailpointError" in found.reason
        assert await states_of(database, endpoint, [message]) == ["skipped"]


async def test_a_process_that_ends_gives_its_task_back(database, tmp_path):
    endpoint = await endpoint_of(database)
    await in_state(database, endpoint, "leased")
    task = await begun(database, "cancel", endpoint, CANCEL)
    async with running(database, tmp_path) as node:

        async def is_walked():
            return (await stands(database, task)).done > 1

        await eventually(is_walked)
        assert (await stands(database, task)).owner == node
    assert ((await stands(database, task)).state, (await stands(database, task)).owner) == ("running", None)


async def test_a_message_that_is_committed_after_the_task_was_asked_for_is_not_missed(engine, prepared, tmp_path):
    """Its transaction was open at that time, so its time of creation is before the walk's end and could be behind its cursor."""
    clock = Looking()
    async with opened(engine, prepared, Runtime(clock=clock)) as database, opened(engine, prepared) as theirs:
        endpoint = await endpoint_of(database)
        await in_state(database, endpoint, "skipped")
        late = intake(endpoint, await version_of(database), targets=[Target(endpoint.id, skip="the endpoint is disabled")])
        async with running(database, tmp_path, Runtime(clock=clock)):
            async with theirs.transaction(in_tenant("acme")) as tx:
                await ingest(tx, [late], None)
                asking = asyncio.create_task(begun(database, "recover", endpoint), context=Context())  # another's
                if engine in POSTGRES:  # where it is answered meanwhile; one writes at a time on SQLite
                    task, waits = await asking, clock.waits

                    async def has_looked():
                        return clock.waits > waits + 5 or (await stands(database, task)).state != "running"

                    await eventually(has_looked)
            task = await asking
            assert (await ended(database, task)).changed == 2
        assert await states_of(database, endpoint, [late.id]) == ["due"]
