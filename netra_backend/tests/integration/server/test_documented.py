"""Whatever others build on is named in the documentation, and what is named there exists: metrics, events, REST operations."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

from netra_backend.server.metrics import HELP

from ...support.server import client_of
from .test_audit_map import routes_of

ROOT = Path(__file__).parents[4]
PACKAGE = ROOT / "netra_backend"
DOCS = ROOT / "docs"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DELIVERY_STATES = {f"webhook.{state}" for state in ("delivered", "failed", "dead", "skipped", "cancelled")}
KINDS = {
    "oauth/store.py": {
        "connection.at_risk",
        "connection.reauth_required",
        "connection.revoked",
        "connection.refreshed",
        "connection.refresh_failed",
    },
    "batch/store.py": {"run.started", "run.finished", "chunk.committed", "item.failed"},
    "webhooks/store.py": DELIVERY_STATES,
    "webhooks/failing.py": {"message.attempt.failing", "message.attempt.recovered"},
}
"""Kinds that a function of the part is called with, where no kind stands beside the stream."""
OF_THE_OPERATOR = {
    "connection.at_risk",
    "connection.reauth_required",
    "connection.revoked",
    "endpoint.disabled",
    "kpi.alert",
    "message.attempt.exhausted",
    "message.attempt.failing",
    "message.attempt.recovered",
}
ANY_TYPE = {"cache.invalidated"}
"""Told by the cache's own stream, from which KPIs take it."""


def sources():
    """(path below the package, its tree) of the program itself."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("tests/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def value_of(node, name):
    """What an expression of a module says, if it is a text or the name of one."""
    if isinstance(node, ast.Constant):
        return node.value
    module = import_module("netra_backend." + name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    return getattr(module, node.id, None) if isinstance(node, ast.Name) else None


def rows_of(page, heading):
    """The first cells of the tables behind a heading."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    assert text, f"{page} has no {heading}"
    for line in text.partition("\n## ")[0].splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            yield line.split("|")[1]


def test_each_metric_that_is_counted_is_explained_on_metrics_and_in_the_documentation():
    counted = set()
    for name, tree in sources():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"count", "gauge", "observe"}
                and node.args
            ):
                found = value_of(node.args[0], name)
                if isinstance(found, str) and found.startswith("netra_"):
                    counted.add(found)
    assert len(counted) > 20
    assert counted <= HELP.keys()
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(netra_[a-z0-9_]+)[`{]", text)) == HELP.keys()


def emitted():
    """(stream, kind) wherever an item's kind stands beside the stream it is put into."""
    for name, tree in sources():
        for call in ast.walk(tree):
            if not (
                isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "emit" and len(call.args) > 1
            ):
                continue
            item = call.args[1]
            members = dict(zip(item.keys, item.values, strict=True)) if isinstance(item, ast.Dict) else {}
            kinds = [value_of(value, name) for key, value in members.items() if isinstance(key, ast.Constant) and key.value == "type"]
            yield from ((value_of(call.args[0], name), kind) for kind in kinds if isinstance(kind, str))


def test_each_event_is_in_the_documentation_and_each_one_there_is_made():
    told = set().union(*(each for name, each in KINDS.items()))
    literals = {name: {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} for name, tree in sources()}
    for name, kinds in KINDS.items():
        assert kinds - DELIVERY_STATES <= set().union(*(found for at, found in literals.items() if at.startswith(name.split("/")[0])))
    found = set(emitted())
    assert len(found) >= 5
    operational = {kind for stream, kind in found if stream == "operational"} | OF_THE_OPERATOR
    assert _named(rows_of("webhooks.md", "## What the operator is told")) == operational
    facts = {kind for stream, kind in found if stream == "events"} | {kind for kind in told if not kind.startswith("message.")} | ANY_TYPE
    assert _named(rows_of("kpis.md", "## Events")) == facts


def _named(cells):
    """`webhook.delivered`, `.failed` in one cell are two names of one beginning."""
    names = set()
    for cell in cells:
        beginning = ""
        for name in re.findall(r"`([a-z_.]+)`", cell):
            beginning = name.rpartition(".")[0] if not name.startswith(".") else beginning
            names.add(name if not name.startswith(".") else beginning + name)
    return names


async def test_each_operation_is_in_the_documentation_and_each_route_there_is_served(app):
    async with client_of(app, None) as nobody:
        paths = (await nobody.get("/openapi.json")).json()["paths"]
    operations = {(method.upper(), _plain(path)) for path, item in paths.items() for method in item}
    everything = {(each.partition(" ")[0], _plain(each.partition(" ")[2])) for each in await routes_of(app)}
    written = [found for cell in rows_of("rest.md", "## Routes") for found in _routes(cell)]
    assert [name for name, ways in written if not ways & everything] == []
    assert operations - set().union(*(ways for _, ways in written)) == set()


def _routes(cell):
    """(as it is written, the routes that it may mean) of each name in a cell. One that is short goes on from one before it, or stands beside it."""
    methods, before, complete = [], [], True
    for name in re.findall(r"`([^`]+)`", cell):
        words = name.split(" ", 1)
        method, path = (words[0], words[-1] if len(words) > 1 else "") if words[0] in METHODS else ("", name)
        if method:
            methods, complete = [*([] if complete else methods), method], False
        if path:
            complete, path = True, _plain(path)
            is_whole = not before or (method and not path.startswith("..."))
            rest = path.lstrip(".")
            means = {path} if is_whole else {path, *(start + rest for each in before for start in (each, each.rpartition("/")[0]))}
            before = [*before, path] if is_whole else before
            yield name, {(each, way) for each in methods or ["GET"] for way in means}


def _plain(path):
    """A route without the names of its parameters, and without what it may be asked with."""
    return re.sub(r"\{[^}]*\}|(?<=/)\.\.\.", "{}", re.sub(r"[?[].*", "", path)).removeprefix("/api/v1")
