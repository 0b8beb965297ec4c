"""Whoever is refused is told what to do next: no error of ours is raised without its `fix`."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

from netra_backend.errors import Conflict, NetraError

PACKAGE = Path(__file__).parents[2]
TOLD_OTHERWISE = {
    "TokenRejected": "the code is the whole answer (docs/oauth.md): a stranger's token is not to be mended",
    "ExchangeRefused": "answered in the words of RFC 6749 section 5.2",
    "EgressError": "the fix follows from its kind",
    "EgressDenied": "the fix is the refusal's",
    "InternalError": "`errors.render` names the trace to look for",
    "FailpointError": "a test asked for it",
    "LeaseLost": "caught by the worker",
    "RunStopped": "caught by the worker",
    "TaskLost": "caught by the worker",
    "StaleSnapshot": "caught where the fan-out is repeated",
    "Conflict": "of the audit log's growth: caught by the sequencer",
}


def raised():
    """(place, class, whether this call says what to do) for each error of ours that is made anywhere in the program."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("tests/"):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        named = [call for call in calls if isinstance(call.func, ast.Name | ast.Attribute) and _word(call.func)[:1].isupper()]
        if not named:
            continue
        module = import_module("netra_backend." + name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for call in named:
            kind = _meant(module, call.func)
            if isinstance(kind, type) and issubclass(kind, NetraError):
                yield f"{name}:{call.lineno}", kind, any(each.arg in {"fix", None} for each in call.keywords)


def _word(func):
    return func.id if isinstance(func, ast.Name) else func.attr


def _meant(module, func):
    if isinstance(func, ast.Name):
        return getattr(module, func.id, None)
    return getattr(getattr(module, getattr(func.value, "id", ""), None), func.attr, None)


def test_every_refusal_says_what_to_do():
    found = list(raised())
    assert len(found) > 200
    assert [place for place, kind, says in found if not says and not kind.fix and kind.__name__ not in TOLD_OTHERWISE] == []


def test_a_conflict_without_a_fix_is_made_in_one_place():
    assert [place.partition(":")[0] for place, kind, says in raised() if kind is Conflict and not says] == ["observability/audit/store.py"]
