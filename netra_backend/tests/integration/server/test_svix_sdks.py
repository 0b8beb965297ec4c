"""The official SDKs of Svix, unmodified, drive every operation that docs/svix.md marks as served: Python 1.x and 2.x, and JavaScript."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from netra_backend.server.app import create_app
from netra_backend.server.gate import Gate
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.sdks.routes import HERE, JS_SDK, OLD_SDK, ROOT, VENV, new_sdk, operations, operations_of_javascript
from ...support.server import API, OPERATOR, client_of, new_netra, serving

PAGE = ROOT / "docs" / "svix.md"
ROW = re.compile(r"^\| `([A-Z]+ /[^`]*)` \| (1, 2|1|2) \| ([^|]*) \|", re.MULTILINE)
DEADLINE_S = 120
SDKS = {
    "python-1": ([sys.executable, "-W", "error", str(HERE / "drive.py")], {"PYTHONPATH": str(OLD_SDK)}),
    "python-2": ([sys.executable, "-W", "error", str(HERE / "drive.py")], {}),
    "javascript": ([str(VENV / "bin" / "node"), str(HERE / "drive.mjs"), str(JS_SDK)], {}),
}

operations_of = {
    "python-1": partial(operations, OLD_SDK),
    "python-2": lambda: operations(new_sdk()),
    "javascript": operations_of_javascript,
}


def table() -> dict[str, tuple[str, str]]:
    """The page's operations: which generations of the SDK have it, and its mark."""
    return {operation: (generations, mark.strip()) for operation, generations, mark in ROW.findall(PAGE.read_text())}


def served() -> set[str]:
    return {operation for operation, (_, mark) in table().items() if mark == "yes"}


@pytest.fixture
def asked(monkeypatch):
    """Every request that was let in, as method and path."""
    seen: set[tuple[str, str]] = set()
    plain = Gate._handle

    async def handle(self, scope, *rest):
        await plain(self, scope, *rest)
        seen.add((scope["method"], scope["path"].rstrip("/").removeprefix(API)))

    monkeypatch.setattr(Gate, "_handle", handle)
    return seen


def among(operations_: set[str], asked: set[tuple[str, str]]) -> set[str]:
    """Which of the operations were asked for; a literal segment wins over a parameter."""
    literal_first = sorted(operations_, key=lambda operation: operation.count("{"))
    patterns = [
        (operation, *operation.split(" "), re.compile(re.sub(r"{\w+}", "[^/]+", operation.split(" ")[1]))) for operation in literal_first
    ]
    found = set()
    for method, path in asked:
        found |= {next((name for name, verb, _, pattern in patterns if verb == method and pattern.fullmatch(path)), "")}
    return found - {""}


def test_the_table_lists_every_operation_of_both_generations():
    old, new = operations(OLD_SDK), operations(new_sdk())
    expected = {operation: ", ".join(["1"] * (operation in old) + ["2"] * (operation in new)) for operation in old | new}
    assert {operation: generations for operation, (generations, _) in table().items()} == expected


async def test_what_the_table_marks_as_served_is_what_the_server_has(tmp_path):
    async with new_netra(tmp_path) as netra, client_of(create_app(netra)) as client:
        document = (await client.get("/openapi.json")).json()
    has = {f"{method.upper()} {path.removeprefix(API)}" for path, item in document["paths"].items() for method in item}
    assert served() == has & set(table())


@pytest.mark.parametrize("sdk", SDKS)
async def test_an_sdk_drives_every_operation_that_is_served(every_server_engine, tmp_path, asked, sdk):
    command, environment = SDKS[sdk]
    async with (
        new_netra(tmp_path, workers=True, webhooks_schedule="50ms") as netra,
        serving(netra) as url,
        MisbehavingEndpoint() as receiver,
    ):
        process = await asyncio.create_subprocess_exec(
            *command, url, OPERATOR, receiver.url, env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 0, output.decode()[-3000:]
    wanted = served() & operations_of[sdk]()
    assert len(wanted) > 30
    assert among(wanted, asked) == wanted


def test_the_sdks_are_installed_where_the_tests_look():
    for path in (OLD_SDK / "svix", JS_SDK, Path(SDKS["javascript"][0][0])):
        assert path.exists(), f"{path} is missing: make env-test"
