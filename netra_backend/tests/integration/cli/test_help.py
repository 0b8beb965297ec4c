"""`netra --help`, and that what it says is so."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ....cli import audit_map
from ....cli.catalogue import COMMANDS, help_text
from ....cli.reference import leaves, render
from ....cli.run import parser
from .driving import environment, run

ROOT = Path(__file__).parents[4]
HELP = [sys.executable, "-m", "netra_backend.cli.main", "--help"]


def test_help_takes_at_most_200_ms():
    times = []
    for _ in range(12):
        began = time.perf_counter()
        done = subprocess.run(HELP, capture_output=True, text=True, env=environment(), cwd=ROOT)
        times.append(time.perf_counter() - began)
        assert (done.returncode, done.stdout) == (0, help_text())
    assert min(times) <= 0.2  # the fastest: the others measure this machine's neighbours


def test_help_imports_no_command_and_no_framework():
    script = "import sys; from netra_backend.cli.main import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), cwd=ROOT)
    loaded = done.stderr
    assert "netra_backend.cli.catalogue" in loaded
    for name in ("typer", "rich", "aiohttp", "fastapi", "pydantic", "asyncio", "netra_backend.netra", "netra_backend.kernel"):
        assert f"'{name}'" not in loaded


def test_help_lists_every_command_with_the_words_of_the_command_itself(capsys):
    assert run(capsys, "--help").out == help_text()
    for row in COMMANDS:
        command = parser(row)
        assert f"  {row.name} " in help_text()
        if not getattr(command, "commands", None):
            assert (command.help or "").split("\n")[0].startswith(row.summary.rstrip(".").split(",")[0]), row.name


@pytest.mark.parametrize("path", [path for path, _ in leaves()])
def test_every_command_explains_itself_and_does_nothing_meanwhile(path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(capsys, *path.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: netra {path} ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "command"), [pytest.param(*leaf, id=leaf[0]) for leaf in leaves()])
def test_every_option_says_what_it_does(path, command):
    assert (command.help or "").strip()
    for parameter in command.params:
        assert parameter.name == "help" or (parameter.help or "").strip(), f"{path}: {parameter.name}"


def test_the_page_of_the_command_line_is_what_the_commands_say():
    assert (ROOT / "docs/cli.md").read_text() == render(), "run `python -m netra_backend.cli.reference > docs/cli.md`"


def test_every_command_has_its_audit_entry_or_a_reason():
    commands = {path for path, _ in leaves()}
    assert commands == audit_map.AUDITED.keys() | audit_map.NOT_AUDITED.keys()
    assert not audit_map.AUDITED.keys() & audit_map.NOT_AUDITED.keys()
    assert all(len(reason) >= 10 for reason in audit_map.NOT_AUDITED.values())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "--help"),
        (("tenat",), "netra tenant"),
        (("tenant",), "tenant --help"),
        (("tenant", "list", "--bogus"), "tenant list --help"),
        (("webhooks", "show"), "show --help"),
        (("webhooks", "list", "--limit", "0"), "list --help"),
    ],
)
def test_a_wrong_call_is_2_and_says_where_to_read(words, hint, capsys):
    done = run(capsys, *words)
    assert (done.code, done.out) == (2, "")
    assert set(done.error) == {"code", "title", "detail", "fix"}
    assert hint in done.error["fix"]


def test_the_version_is_the_packages(capsys):
    from .... import __version__

    assert run(capsys, "--version").out == f"netra {__version__}\n"
