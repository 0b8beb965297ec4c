"""A fleet on PostgreSQL: a program that only sends, three workers that deliver, and one of them killed by SIGKILL half-way.

    python -m examples.worker_fleet

It starts a PostgreSQL of its own from a wheel (`netra_backend.testing.postgres`) and makes Netra's roles as an operator does. Each
message arrives; what the killed worker had on its way may arrive twice, and is one message for the receiver, who knows it by its id.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from netra_backend import Netra
from netra_backend.testing.endpoint import MisbehavingEndpoint

MESSAGES = 300
WORKERS = 3
TENANT = "acme"


def start(stack: ExitStack, module: str, *words: str, **environ: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A process and what it says when it is ready; it ends with the stack."""
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ})  # noqa: S603  (words of ours)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    out: IO[str] | None = process.stdout
    assert out is not None
    stack.callback(out.close)
    while True:
        said = json.loads(out.readline())
        if said["event"] == "ready":
            return process, said


def migrate(owner: str, data: str) -> str:
    """Roles and tables, made by the database's owner; the URL under which everybody else serves."""
    command = [sys.executable, "-m", "netra_backend.cli.main", "migrate", "--create-roles", "--json"]
    environ = {**os.environ, "NETRA_MIGRATE_URL": owner, "NETRA_DATA": data}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)  # noqa: S603  (words of ours)
    return str(json.loads(done.stdout)["url"])


async def send(netra: Netra, environ: dict[str, str], receiver: MisbehavingEndpoint, victim: subprocess.Popen[str]) -> None:
    """All messages, each in a transaction of its own; the victim dies when a third has arrived."""
    await netra.tenant(TENANT)
    add = [sys.executable, "-m", "netra_backend.cli.main", "webhooks", "endpoint", "add", receiver.url, "--tenant", TENANT, "--json"]
    made = await asyncio.create_subprocess_exec(*add, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    assert await made.wait() == 0
    for number in range(MESSAGES):
        async with netra.transaction(tenant=TENANT) as tx:
            await netra.webhooks.send(tx, "order.made", {"order": number})
        if number == MESSAGES // 3:
            victim.kill()
            print(f"SIGKILL for worker {victim.pid}")


async def main() -> None:
    """Play it, and count what arrived."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = str(Path(folder) / "data")
        _, server = start(stack, "netra_backend.testing.postgres", "--data", str(Path(folder) / "postgres"), "--max-seconds", "120")
        url = migrate(server["url"], data)
        environ = {"NETRA_DATABASE_URL": url, "NETRA_DATA": data}
        workers = [start(stack, "netra_backend.cli.main", "worker", "--dev", **environ)[0] for _ in range(WORKERS)]
        print(f"{WORKERS} workers on one database")
        async with MisbehavingEndpoint("ok") as receiver, Netra(url, data=data, workers=False, dev=True) as netra:
            await send(netra, environ, receiver, workers[0])
            async with asyncio.timeout(60):
                while len(arrived := Counter(each.headers["webhook-id"] for each in receiver.received)) < MESSAGES:
                    await netra.runtime.clock.sleep(0.05)
        print(f"{len(arrived)} of {MESSAGES} messages have arrived; {sum(arrived.values()) - len(arrived)} came twice")


if __name__ == "__main__":
    asyncio.run(main())
