"""How these tests run `netra`: in this process where that is enough, as a process of its own where it is not."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from types import SimpleNamespace

from ....cli.main import main
from ....kernel.scope import Scope
from ....netra import Netra
from ....storage import audit_append

DEADLINE_S = 60.0


def run(capsys, *words):
    """`netra WORDS` in this process: exit code, what it printed, and each as JSON where it is."""
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return _result(code, printed.out, printed.err)


def finished(*words, timeout_s=60, **settings):
    """The same as a process of its own, run to its end."""
    command = [sys.executable, "-m", "netra_backend.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**settings), stdin=subprocess.DEVNULL, timeout=timeout_s)
    return _result(done.returncode, done.stdout, done.stderr)


def _result(code, out, err):
    return SimpleNamespace(code=code, out=out, err=err, document=_json(out), error=_json(err.strip().rpartition("\n")[2]))


def _json(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def environment(**settings):
    """This process's, without any NETRA_* of the machine."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NETRA_")}
    return clean | {"PYTHONPATH": os.pathsep.join(sys.path)} | settings


class Process:
    """A child whose stdout is read line by line, each with a deadline; its stderr is a file."""

    def __init__(self, module, *words, **settings):
        command = [sys.executable, "-m", module, *map(str, words)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, stdin=subprocess.DEVNULL, env=environment(**settings), bufsize=0
        )
        self._pending = b""

    def line(self):
        """The next JSON line."""
        ends = time.monotonic() + DEADLINE_S
        while b"\n" not in self._pending:
            readable, _, _ = select.select([self.child.stdout], [], [], max(0, ends - time.monotonic()))
            grown = self.child.stdout.read(65536) if readable else b""
            assert grown, f"no line; stderr: {self.errors()}"
            self._pending += grown
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def errors(self):
        """What it has written on stderr."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()

    def until(self, **wanted):
        """The next line that has these members, and those before it."""
        before = []
        while True:
            line = self.line()
            if wanted.items() <= line.items():
                return line, before
            before.append(line)

    def ends(self, number=signal.SIGTERM):
        """Its exit code after that signal."""
        self.child.send_signal(number)
        return self.child.wait(DEADLINE_S)

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        self._errors.close()


@contextmanager
def netra(*words, **settings):
    """`netra WORDS` as a process."""
    process = Process("netra_backend.cli.main", *words, **settings)
    try:
        yield process
    finally:
        process.close()


def inside(data, work):
    """`await work(netra)` on the installation in `data`."""

    async def go():
        async with Netra(f"sqlite:///{data / 'netra.db'}", data=data, workers=False, role="cli", environ={}) as opened:
            return await work(opened)

    return asyncio.run(go())


def audited(data, tenant):
    """(action, actor) of the tenant's audit entries, in order."""

    async def entries(tx):
        rows = await tx.all(audit_append.Q.list_audit_entries, after=b"", limit=1000)
        return [(row[3], row[2]) for row in rows]

    return inside(data, lambda opened: opened.database.read(entries, scope=Scope(tenant)))
