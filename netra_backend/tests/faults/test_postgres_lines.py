"""A line whose lock somebody holds: what wants it waits for that lock (W6), and for no sweep; nobody else waits."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from netra_backend.kernel.scope import Scope
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks.intake import Accepted
from netra_backend.webhooks.model import NEVER_US

from ..support.platform import TENANT, add_endpoint, becomes, platform, row, send
from ..support.storage import DEADLINE_S, eventually, with_its_server

LOCKED = "select count(*)::int from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'"


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def caller(prepared):
    connection = await asyncpg.connect((prepared / "postgres.url").read_text())
    yield connection
    await connection.close()


async def with_every_line(caller):
    """A transaction that has taken a number in each of the tenant's lines, and is not over."""
    transaction = caller.transaction()
    await transaction.start()
    await caller.execute(f"select set_config('netra.tenant', '{TENANT}', true)")
    assert await caller.fetch("select 1 from netra_line for update")
    return transaction


async def test_the_next_of_a_line_that_was_locked_when_its_first_one_ended_goes_once_it_is_free(prepared, caller):
    async with MisbehavingEndpoint() as receiver, platform(prepared, workers=False) as producer:
        endpoint = await add_endpoint(producer, receiver.url, ordering="endpoint")
        first, second = [await send(producer) for _ in range(2)]
        taken = await with_every_line(caller)
        async with platform(prepared, lease_ttl="60s") as worker:
            await worker.webhooks.dispatcher._sweeps.stop()  # it finds such a line as well, but among very many after minutes
            await becomes(producer, first, endpoint, "delivered", within_s=DEADLINE_S)
            assert (await row(producer, second, endpoint)).due_us == NEVER_US
            await taken.commit()
            await becomes(producer, second, endpoint, "delivered", within_s=DEADLINE_S)


async def test_a_line_that_somebody_has_locked_keeps_no_other_tenants_message_waiting(prepared, caller, postgres_server):
    name = (prepared / "postgres.url").read_text().rpartition("/")[2]
    async with MisbehavingEndpoint() as receiver, platform(prepared, workers=False) as producer:
        await add_endpoint(producer, receiver.url, ordering="endpoint")
        await producer.tenant("globex")
        await send(producer)
        taken, waiting = await with_every_line(caller), []
        for _ in range(4):
            waiting.append(asyncio.create_task(send(producer)))
            await eventually(lambda: postgres_server.query("", LOCKED, name)[0][0] > 0)
            async with asyncio.timeout(DEADLINE_S):
                new = producer.webhooks.new_message("globex", "thing.happened", {})
                (answer,) = await producer.webhooks.accept(Scope("globex", "tester"), [new])
                assert isinstance(answer, Accepted)
        await taken.commit()
        assert len({*await asyncio.gather(*waiting)}) == 4
