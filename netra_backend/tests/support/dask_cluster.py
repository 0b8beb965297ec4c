"""A real Dask cluster of this machine: a scheduler and two workers, each a process of its own, which may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from .zygote import ROOT, until

WORKERS: Final = 2


class DaskCluster:
    """`with closing(DaskCluster(folder)) as cluster: ... cluster.address`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """The scheduler, at the same address each time, and its workers."""
        self._processes = [self._new("dask_scheduler", "--port", str(self._port), "--host", "127.0.0.1", "--no-dashboard")]
        until(self._listens, "the scheduler listens")
        self._processes += [self._worker() for _ in range(WORKERS)]

    def _worker(self) -> subprocess.Popen[bytes]:
        options = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", str(self._folder))
        return self._new("dask_worker", self.address, *options, "--host", "127.0.0.1")

    def kill_a_worker(self) -> None:
        """SIGKILL; another one takes its place."""
        victim = self._processes.pop()
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.tend()

    def tend(self) -> int:
        """Start a worker for each that has died; how many had."""
        gone = [process for process in self._processes[1:] if process.poll() is not None]
        self._processes = [process for process in self._processes if process not in gone]
        missing = WORKERS + 1 - len(self._processes)
        self._processes += [self._worker() for _ in range(missing)]
        return missing

    def close(self) -> None:
        """End whatever is left, workers first."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes = []

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _new(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "false",
        }
        log = (self._folder / f"{program}.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *options], stdout=log, stderr=log, env=environment, cwd=self._folder
            )
