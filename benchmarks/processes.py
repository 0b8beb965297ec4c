"""Processes of a benchmark: started, awaited by their ready line, measured through /proc, and ended for sure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """One child. `ready` is the line that it printed when it was ready."""

    popen: subprocess.Popen[bytes]
    ready: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, command: Sequence[str], log: Path, **environ: str) -> Self:
        """Start it and wait for its ready line; what it says on stderr goes to `log`, and is shown if it ends early."""
        with log.open("ab") as errors:
            popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | environ)
        process = cls(popen)
        for line in popen.stdout or ():
            said = json.loads(line)
            if said.get("event") == "ready":
                process.ready = said
                return process
        raise SystemExit(f"{' '.join(command)} ended with {popen.wait()}:\n{log.read_text(encoding='utf-8')[-4000:]}")

    def cpu_s(self) -> float:
        """Seconds of CPU so far, user and system, all threads."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it without a word, and collect it."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> None:
        """Ask it to end; kill it after ten seconds."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]
