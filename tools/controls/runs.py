"""Running one test in a copy of the tree.

Danger: the environment's editable install points at the working tree. The copy wins because it is the working folder
and the head of PYTHONPATH, also for every process that the test starts; the markers prove it each time, since they
exist in the copy only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "build",
    "dist",
    "node_modules",
    "netra-data",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
)

LEFT_BEHIND = ("build", ".hypothesis", "netra-data")
"""What a test may leave in the tree that another one would find."""


@dataclass(frozen=True)
class Run:
    """How a test ended: `passed`, `failed` (its own assertion or call), or `error` (it could not be judged)."""

    outcome: str
    words: str = ""


class Tree:
    """A copy of the tree, in which one test runs at a time, each with other files changed. Its bytecode is kept.

    Compiling a fresh copy each time was half of a run.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self._root = root
        self._place = place
        shutil.copytree(root, place, ignore=LEFT_OUT, symlinks=True)

    def run(self, changed: Mapping[str, str], test: str, timeout_s: float) -> Run:
        """Put `changed` over the files, run `test`, and leave everything as it was."""
        for target, text in changed.items():
            (self._place / target).write_text(text, encoding="utf-8")
        try:
            with tempfile.TemporaryDirectory(prefix="netra-control-") as folder:
                return self._run(Path(folder), test, timeout_s)
        finally:
            for target in changed:
                shutil.copy2(self._root / target, self._place / target)
            for name in LEFT_BEHIND:
                shutil.rmtree(self._place / name, ignore_errors=True)

    def _run(self, folder: Path, test: str, timeout_s: float) -> Run:
        junit = folder / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={self._place}", f"--junit-xml={junit}", test]
        paths = os.pathsep.join(filter(None, [str(self._place), os.environ.get("PYTHONPATH", "")]))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""}
        with (folder / "output").open("w+", encoding="utf-8") as output:
            code = _run_bounded(command, self._place, environment, output.fileno(), timeout_s)
            output.seek(0)
            words = output.read()[-4000:]
        if code is None:
            return Run("error", f"no end within {timeout_s:g} s\n{words}")
        return _judge(code, junit, words)


def _run_bounded(command: list[str], folder: Path, environment: Mapping[str, str], output: int, timeout_s: float) -> int | None:
    """The exit code; None after `timeout_s`, with the whole process group killed."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _judge(code: int, junit: Path, words: str) -> Run:
    if code == 0:
        return Run("passed", words)
    try:
        root = ET.parse(junit).getroot()  # noqa: S314  (pytest's own file)
    except (FileNotFoundError, ET.ParseError):
        return Run("error", words)
    failures = [f"{node.get('message', '')}\n{node.text or ''}" for node in root.iter("failure")]
    return Run("failed", "\n".join(failures)) if failures else Run("error", words)
