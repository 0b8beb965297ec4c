"""Docs cannot rot: every example in README.md and docs/ is run, parsed, or marked with the reason why not.

The info string of a fenced block decides:

* `python`: the blocks of one page run in order, as one program with top-level await, in an empty folder;
* `sh`: each command exists: a make target, a `netra` command with these options, a module with these options;
* `json`, `toml`: parse; `text`, `mermaid`, `sql`: for the eye;
* `... not-run: REASON` after the language: shown only.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from netra_backend.cli.main import main
from netra_backend.kernel.settings import reference
from tools.settings_page import PAGE, render

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<tick>```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=tick)\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+://|#)([^)#\s]+)")
KNOWN = {"python", "sh", "json", "toml", "text", "mermaid", "sql"}
SILENT = {"cd", "export"}
RUNNER = """
import ast, asyncio, inspect, sys, types
blocks = eval(sys.stdin.read())
async def main():
    names = {"__name__": "__main__"}
    for place, text in blocks:
        code = compile("\\n" * (int(place.rpartition(":")[2]) - 1) + text, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = types.FunctionType(code, names)()
        if inspect.isawaitable(result):
            await result
asyncio.run(main())
"""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    note: str
    body: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page):
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, _, note = match["info"].strip().partition(" ")
        yield Block(page, text.count("\n", 0, match.start()) + 2, language, note.strip(), match["body"])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "sh" and not block.note]
PYTHON = sorted({block.page for block in BLOCKS if block.language == "python" and not block.note})


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_example_has_a_known_language_or_a_reason(block):
    assert block.language in KNOWN
    assert not block.note or re.fullmatch(r"not-run: .{10,}", block.note)
    if block.language == "json" and not block.note:
        json.loads(block.body)
    if block.language == "toml" and not block.note:
        tomllib.loads(block.body)


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_the_python_examples_of_a_page_run(page, tmp_path):
    program = [
        (f"{page.name}:{block.line}", block.body) for block in BLOCKS if (block.page, block.language, block.note) == (page, "python", "")
    ]
    done = subprocess.run([sys.executable, "-c", RUNNER], input=repr(program), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]


def commands(block):
    """Each simple command of a shell block, as words."""
    for line in block.body.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in lexer:
            if set(word) <= set(";&|<>()"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


def without_variables(words):
    """`NAME=value command` sets a variable for one command."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def make_targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def problem_of(words):
    """Why this command would not start; empty if it would."""
    first, *rest = words
    if first == "make":
        missing = {word for word in rest if "=" not in word} - make_targets()
        return f"make has no target {missing}" if missing else ""
    if first == "netra":
        return netra_asked_for_help(*rest)
    if first in {"python", "python3"} and rest[:1] == ["-m"]:
        return asks_for_help(sys.executable, "-m", *rest[1:])
    return "" if first in SILENT else f"{first}: this test cannot check it; mark the block `sh not-run: REASON`"


@cache
def netra_asked_for_help(*words):
    """Run it with --help: unknown commands and options are refused, nothing is done."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as refusal:
        code = main([*words, "--help"])
    return (refusal.getvalue() or f"exit code {code}")[-1500:] if code else ""


@cache
def asks_for_help(*command):
    """The same of any other program, as a process of its own."""
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stderr[-1500:] if done.returncode else ""


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_commands_of_a_shell_example_exist(block):
    problems = {shlex.join(words): problem_of(words) for words in map(without_variables, commands(block)) if words}
    assert problems
    assert {command: problem for command, problem in problems.items() if problem} == {}


def test_a_command_that_does_not_exist_would_be_found():
    assert "no target" in problem_of(["make", "coffee"])
    assert "mark the block" in problem_of(["curl", "x"])
    assert problem_of([sys.executable.rpartition("/")[2], "x"]) != ""
    assert problem_of(["python", "-m", "netra_backend.no_such_module"]) != ""
    assert "no command" in problem_of(["netra", "coffee"])
    assert "--cofee" in problem_of(["netra", "tenant", "list", "--cofee"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


def test_every_setting_is_documented():
    assert (ROOT / PAGE).read_text() == render(), "run `python -m tools.settings_page`"
    assert all(entry["meaning"].strip() for entry in reference())
