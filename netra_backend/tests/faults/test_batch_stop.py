"""A process that is told to stop ends, whatever a function of the program's does in its threads and children."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from pathlib import Path
from netra_backend import Netra, batch
from netra_backend.batch import worker
from netra_backend.tests.support.batch_items import never

async def keep(tx, rows):
    raise AssertionError(rows)

async def main(folder, kind):
    where = {"thread": None, "threads": batch.threads(1), "processes": batch.processes(1)}[kind]
    inside = Path(folder, "inside")
    job = batch.job("endless", read=batch.sequence([str(inside)]), process=never, write=keep, executor=where)
    worker.DRAIN_S = 0.2
    async with Netra(f"sqlite:///{folder}/netra.db", data=folder, environ={}, disk_reserve_bytes=0) as netra:
        async with netra.transaction(tenant="acme") as tx:
            await netra.batch.start(tx, job)
        while not inside.exists():
            await asyncio.sleep(0.01)
    print("left")

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["thread", "threads", "processes"])
def test_a_function_that_never_ends_does_not_keep_its_process_from_ending(tmp_path, kind):
    program = tmp_path / "endless.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, str(program), str(tmp_path), kind], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr[-2000:]
