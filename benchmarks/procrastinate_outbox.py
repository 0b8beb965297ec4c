"""A peer of the webhook table on PostgreSQL: procrastinate as the queue and aiohttp as the client, in one process.

A message is a job, committed before its 202; a worker takes it, signs it, sends it and finishes it, and a failure would be tried
again by procrastinate's own strategy. What it does not do: fan-out, limits for each endpoint, breakers, idempotency keys, attempts,
any check of where it connects to. It speaks the two ingest routes of the load generator.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiohttp
import uvicorn
from fastapi import Body, FastAPI
from plain_outbox import Server, signed
from procrastinate import App, PsycopgConnector, RetryStrategy

CONNECTIONS = 10
IN_FLIGHT = 200
"""Ten for each of twenty endpoints, which is what Netra keeps in flight."""


def application(database: str, url: str) -> FastAPI:
    """The two routes, and the worker beside them."""
    queue = App(connector=PsycopgConnector(conninfo=database, min_size=CONNECTIONS, max_size=CONNECTIONS))
    sessions: list[aiohttp.ClientSession] = []

    @queue.task(name="send", retry=RetryStrategy(max_attempts=12, exponential_wait=5))
    async def send(message_id: str, body: str) -> None:
        async with sessions[0].post(url, data=body.encode(), headers=signed(message_id, body)) as response:
            await response.read()
            response.raise_for_status()

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        async with queue.open_async(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            sessions.append(session)
            await queue.schema_manager.apply_schema_async()
            worker = asyncio.create_task(queue.run_worker_async(concurrency=IN_FLIGHT, install_signal_handlers=False, listen_notify=True))
            yield
            worker.cancel()
            await asyncio.wait([worker])

    app = FastAPI(lifespan=lifespan)

    @app.post("/api/v1/app/{name}/msg", status_code=202)
    async def one(name: str, message: Annotated[dict[str, Any], Body()]):
        del name
        message_id = "msg_" + uuid.uuid4().hex
        await send.defer_async(message_id=message_id, body=json.dumps(message["payload"]))
        return {"id": message_id}

    @app.post("/api/v1/app/{name}/msg/batch", status_code=202)
    async def batch(name: str, messages: Annotated[list[dict[str, Any]], Body()]):
        del name
        jobs = [{"message_id": "msg_" + uuid.uuid4().hex, "body": json.dumps(message["payload"])} for message in messages]
        await send.batch_defer_async(*jobs)
        return [{"id": job["message_id"]} for job in jobs]

    return app


if __name__ == "__main__":
    app = application(sys.argv[1], sys.argv[2])
    Server(uvicorn.Config(app, port=0, log_level="error", access_log=False, loop="asyncio", http="httptools")).run()
