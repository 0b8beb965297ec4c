"""The peer of the webhook table: an outbox as a team would write it by hand in an afternoon, and well.

FastAPI, the interpreter's `sqlite3` with a write-ahead log and `synchronous=FULL`, aiohttp, Standard Webhooks
signatures. A message is committed before its 202, sent by one of ten workers per endpoint, and its outcome is committed
too. What it does not do: fan-out, retries, leases, a second process, idempotency keys, attempts, limits, any check of
where it connects to. It speaks the two ingest routes of the load generator.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import uvicorn
from fastapi import Body, FastAPI

SECRET = os.urandom(24)
IN_FLIGHT = 10


class Outbox:
    """One table, one thread for it, one commit for each change."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("pragma journal_mode = wal", "pragma synchronous = full"):
            self._connection.execute(pragma)
        self._connection.execute("create table message (id text primary key, app text, body text, state text, created real)")

    async def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Store new messages in one transaction."""
        await self._run(self._insert, rows)

    async def finish(self, message_id: str, state: str) -> None:
        """Record what became of one."""
        await self._run(self._connection.execute, "update message set state = ? where id = ?", (state, message_id))

    async def _run(self, function: Any, *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        self._connection.execute("begin immediate")
        self._connection.executemany("insert into message values (?, ?, ?, 'due', ?)", rows)
        self._connection.execute("commit")


class Senders:
    """Ten workers per endpoint."""

    def __init__(self, outbox: Outbox, session: aiohttp.ClientSession, url: str) -> None:
        self._outbox = outbox
        self._session = session
        self._url = url
        self._queues: dict[str, asyncio.Queue[tuple[str, str]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, app: str, message_id: str, body: str) -> None:
        """Queue one message."""
        if app not in self._queues:
            self._queues[app] = asyncio.Queue()
            self._tasks += [asyncio.create_task(self._work(self._queues[app])) for _ in range(IN_FLIGHT)]
        self._queues[app].put_nowait((message_id, body))

    async def _work(self, queue: asyncio.Queue[tuple[str, str]]) -> None:
        while True:
            message_id, body = await queue.get()
            async with self._session.post(self._url, data=body.encode(), headers=signed(message_id, body)) as response:
                await response.read()
                await self._outbox.finish(message_id, "delivered" if response.ok else "failed")


def signed(message_id: str, body: str) -> dict[str, str]:
    """Headers of Standard Webhooks."""
    now = str(int(time.time()))
    mac = hmac.digest(SECRET, f"{message_id}.{now}.{body}".encode(), hashlib.sha256)
    signature = "v1," + base64.b64encode(mac).decode()
    return {"content-type": "application/json", "webhook-id": message_id, "webhook-timestamp": now, "webhook-signature": signature}


def application(path: Path, url: str) -> FastAPI:
    """The two routes."""
    outbox = Outbox(path)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.senders = Senders(outbox, session, url)
            yield

    app = FastAPI(lifespan=lifespan)

    async def accept(name: str, messages: list[dict[str, Any]]) -> list[dict[str, str]]:
        rows = [("msg_" + uuid.uuid4().hex, name, json.dumps(message["payload"]), time.time()) for message in messages]
        await outbox.add(rows)
        for message_id, _, body, _ in rows:
            app.state.senders.put(name, message_id, body)
        return [{"id": row[0]} for row in rows]

    @app.post("/api/v1/app/{name}/msg", status_code=202)
    async def one(name: str, message: Annotated[dict[str, Any], Body()]):
        return (await accept(name, [message]))[0]

    @app.post("/api/v1/app/{name}/msg/batch", status_code=202)
    async def batch(name: str, messages: Annotated[list[dict[str, Any]], Body()]):
        return await accept(name, messages)

    return app


class Server(uvicorn.Server):
    """Prints the ready line of the other processes here."""

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(json.dumps({"event": "ready", "url": f"http://127.0.0.1:{port}", "pid": os.getpid()}), flush=True)


if __name__ == "__main__":
    app = application(Path(sys.argv[1]), sys.argv[2])
    Server(uvicorn.Config(app, port=0, log_level="error", access_log=False, loop="uvloop", http="httptools")).run()
