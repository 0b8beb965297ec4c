"""What a message costs the database alone, from its acceptance to its recorded delivery: ours beside the shape of Svix's open server.

No HTTP on either side: only the statements, over the same durable PostgreSQL, for 200 producers of single messages to one endpoint.

* Ours: the intake as it ships (coalesced, leased by the insert, so that nothing is claimed and nothing read again), then the
  acknowledgement with its attempt row, up to 256 at once, as the sender hands them over.
* The peer: what Svix's server does per message, about seven round trips and two durable commits: the application is looked up;
  message and content are inserted in one transaction; after its queue (Redis, left out here) the worker reads message, content and
  endpoints, inserts the attempt, and records the destination in a second transaction. Tables, keys and indexes are of the same
  kinds; the statements are our own words.

After each run the rows are counted: a figure stands only if every message has its attempt.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import uuid
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop
from group_commit import BODY, CALLERS, call
from group_commit_postgres import CONNECTIONS
from measure import RUNS, Row, interleaved, scratch, show
from postgres_server import DURABILITY, Urls, postgres

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope, TraceContext, system_scope
from netra_backend.storage import nodes, tenants
from netra_backend.storage.postgres import Postgres
from netra_backend.storage.sealing import Sealer, load_root_keys
from netra_backend.storage.transaction import Tx
from netra_backend.webhooks import endpoints, intake, store
from netra_backend.webhooks.intake import Intake, Target
from netra_backend.webhooks.model import Attempt, Delivery, Endpoint, NewMessage, Outcome, Verdict

PEER: Final = "Svix's statements, asyncpg"
ACKNOWLEDGED_AT_ONCE: Final = 256
PAYLOAD: Final = '{"body":"' + BODY + '"}'
ENDPOINT: Final = Endpoint("", b"", None, "http://127.0.0.1:9/", "", None, None, disabled=False, rate_limit=None, metadata={}, headers={})

DELIVERED: Final = """
select count(*) from netra_delivery d join netra_attempt a on a.tenant = d.tenant and a.message_id = d.message_id
where d.state = 'delivered'
"""
SVIX_TABLES: Final = """
create table application (id text primary key, org_id text not null, uid text, deleted boolean not null default false,
  unique (org_id, uid));
create table endpoint (id text primary key, app_id text not null references application (id), url text not null,
  deleted boolean not null default false);
create index on endpoint (app_id);
create table message (id text primary key, org_id text not null, app_id text not null, event_type text not null, uid text,
  created_at timestamptz not null, unique (app_id, uid));
create index on message (app_id, id);
create table message_content (id text primary key, payload bytea not null, created_at timestamptz not null);
create table message_attempt (id text primary key, msg_id text not null, endp_id text not null, status smallint not null,
  response_status_code smallint not null, response text not null, url text not null, created_at timestamptz not null);
create index on message_attempt (msg_id, id);
create index on message_attempt (endp_id, id);
create table message_destination (id text primary key, msg_id text not null, endp_id text not null, status smallint not null,
  next_attempt timestamptz, created_at timestamptz not null, unique (msg_id, endp_id));
insert into application values ('app_1', 'org_1', 'acme');
insert into endpoint values ('ep_1', 'app_1', 'http://127.0.0.1:9/');
"""


async def svix_message(pool: asyncpg.Pool) -> None:
    """One message from the producer's request to its recorded delivery."""
    message_id = f"msg_{uuid.uuid4().hex}"
    async with pool.acquire() as connection:
        app = await connection.fetchrow("select id from application where org_id = $1 and uid = $2 and not deleted", "org_1", "acme")
        async with connection.transaction():
            values = (message_id, "org_1", app["id"], "document.changed")
            await connection.execute("insert into message values ($1, $2, $3, $4, null, now())", *values)
            await connection.execute("insert into message_content values ($1, $2, now())", message_id, PAYLOAD.encode())
    async with pool.acquire() as connection:
        await connection.fetchrow("select m.*, c.payload from message m join message_content c using (id) where m.id = $1", message_id)
        endpoint = await connection.fetchrow("select id, url from endpoint where app_id = $1 and not deleted", app["id"])
        async with connection.transaction():
            await connection.execute(
                "insert into message_attempt values ($1, $2, $3, 0, 200, '', $4, now())",
                f"atmpt_{uuid.uuid4().hex}", message_id, endpoint["id"], endpoint["url"],
            )  # fmt: skip
            await connection.execute(
                "insert into message_destination values ($1, $2, $3, 0, null, now()) "
                "on conflict (msg_id, endp_id) do update set status = 0",
                f"dest_{uuid.uuid4().hex}", message_id, endpoint["id"],
            )  # fmt: skip


async def peer(urls: Urls, folder: Path, seconds: float) -> float:
    del folder
    async with asyncpg.create_pool(urls.owner, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(SVIX_TABLES)
        done, taken_s = await call(lambda: svix_message(pool), CALLERS, seconds)
        await check(urls, "select count(*) from message_attempt", done)
    return done / taken_s


async def take(tx: Tx, items: Sequence[Intake]) -> list[Any]:
    """The intake, with a sender that takes what is handed over."""
    return await intake.ingest(tx, items, lambda _: None)


class Acknowledger:
    """Hands outcomes over in groups, as the sender does; one that waits is told after the commit that covers it."""

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._waiting: list[tuple[Outcome, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def acknowledge(self, outcome: Outcome) -> None:
        """Record one outcome."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((outcome, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await future

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:ACKNOWLEDGED_AT_ONCE], self._waiting[ACKNOWLEDGED_AT_ONCE:]
            await self._database.write(store.acknowledge, [outcome for outcome, _ in group], scope=system_scope())
            for _, future in group:
                future.set_result(None)


async def ours(urls: Urls, folder: Path, seconds: float) -> float:
    runtime, scope = Runtime(), Scope("acme", "bench")
    database = Postgres(urls.run, runtime, lock_dir=folder / "locks", connections=CONNECTIONS)
    await database.open()
    try:
        sealer = Sealer(load_root_keys(folder / "root.keys", runtime.chance))
        await database.write(tenants.ensure, "acme", scope=system_scope())
        endpoint = await database.write(endpoints.create, sealer, ENDPOINT, None, scope=scope)
        version = (await database.read(endpoints.snapshot, sealer, scope.tenant, scope=scope)).version
        node = runtime.ids.new()
        await database.write(nodes.register, node, "bench", 1, "bench", scope=system_scope())
        new, numbers, outcomes = NewMessage("document.changed", PAYLOAD), count(1), Acknowledger(database)

        async def once() -> None:
            item = Intake("acme", runtime.ids.new(), new, version, [Target(endpoint.id, lease=True)], 3600.0, TraceContext(), node)
            accepted = await database.write_item(take, item)
            delivery = Delivery(accepted.message, endpoint.id, node, 0, 2**62)
            await outcomes.acknowledge(Outcome(delivery, attempt_of(delivery, runtime, next(numbers)), Verdict("delivered", 1, 0, "")))

        done, taken_s = await call(once, CALLERS, seconds)
    finally:
        await database.close()
    await check(urls, DELIVERED, done)
    return done / taken_s


def attempt_of(delivery: Delivery, runtime: Runtime, at_us: int) -> Attempt:
    """What the sender records of a request that was answered with 200."""
    tenant, message_id, endpoint_id = delivery.key
    return Attempt(
        tenant, message_id, runtime.ids.new(), endpoint_id, 1, False, at_us, 1, "delivered", 200, "", "", "", "http://127.0.0.1:9/", False,
        TraceContext(),
    )  # fmt: skip


async def check(urls: Urls, statement: str, done: int) -> None:
    """Every message has its attempt."""
    connection = await asyncpg.connect(urls.owner)
    found = await connection.fetchval(statement)
    await connection.close()
    if found != done:
        raise SystemExit(f"{done} were acknowledged, {found} are in the database")


def measured(run: Callable[[Urls, Path, float], Awaitable[Any]], seconds: float) -> float:
    gc.collect()
    with scratch() as folder, postgres(folder) as urls:
        return uvloop.run(run(urls, folder, seconds))


def rows(*, quick: bool) -> list[Row]:
    """Measure both."""
    seconds, runs = (0.5, 1) if quick else (3.0, RUNS)
    found = interleaved([ours, peer], runs, lambda run: measured(run, seconds))
    name = "statements of a message, accepted to delivered"
    return [Row(name, "postgresql", "messages/s", DURABILITY, found[ours], found[peer], PEER)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=parser.parse_args().quick)])
