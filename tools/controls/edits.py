"""Changing texts: the edit itself, and the two proofs that a test executes what the edit changes.

Python: a marker, a line that makes an empty file, is planted before the statement that the edit will change. It
survives SIGKILL, fork, threads and subprocesses, where a coverage measurement is lost. SQL: the statement is poisoned,
replaced by one that no database takes; a test that still passes never runs it. A migration is poisoned as a whole.

Both change nothing else, and both are checked to compile: a broken marker must not pass for a caught control.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .plan import BadControl, Edit

HEAD = re.compile(r"^-- name: *\w+ *$", re.MULTILINE)
POISON = "select netra_control_poison();\n"


def place(text: str, edit: Edit) -> int:
    """Where `find` begins; it must stand there and nowhere else, and the edit must change something."""
    times = text.count(edit.find) if edit.find else 0
    if times != 1:
        raise BadControl(f"`find` stands {times} times in {edit.target}, it must stand once")
    if edit.find == edit.replace:
        raise BadControl(f"the edit of {edit.target} changes nothing")
    return text.index(edit.find)


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The broken text. Every `find` is judged against the text as it was."""
    for edit in edits:
        place(text, edit)
    for edit in edits:
        text = text.replace(edit.find, edit.replace)
    if edits[0].target.endswith(".py"):
        _must_compile(text, edits[0].target)
    return text


def plant_markers(text: str, marks: Sequence[tuple[Edit, Path]]) -> str:
    """`text` with one marker for each edit, before the first statement that the edit touches."""
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    planted = []
    for edit, marker in marks:
        start = place(text, edit) + len(edit.find) - len(edit.find.lstrip())
        statement = _statement(tree, lines, text.count("\n", 0, start) + 1)
        if statement is None:
            raise BadControl(f"no statement of {edit.target} is touched by the edit: {edit.find.strip()[:60]!r}")
        planted.append((_first_line(statement), statement.col_offset, marker))
    for line, indent, marker in sorted(planted, reverse=True):
        lines.insert(line - 1, " " * indent + f"__import__('pathlib').Path({str(marker)!r}).touch()\n")
    marked = "".join(lines)
    _must_compile(marked, marks[0][0].target)
    return marked


def poison(text: str, edit: Edit) -> str:
    """`text` with the named statement that the edit touches made unusable, or all of a file without names."""
    start = place(text, edit)
    heads = [head for head in HEAD.finditer(text) if head.end() <= start]
    if not heads:
        return POISON + text
    following = HEAD.search(text, start)
    end = following.start() if following else len(text)
    return text[: heads[-1].end()] + "\n" + POISON + "\n" + text[end:]


def _statement(tree: ast.Module, lines: Sequence[str], line: int) -> ast.stmt | None:
    """The statement whose own line is `line`, else (a comment, `else:`, `except X:`) the next one of the same function.

    A statement that does not begin its line (`if a: b`, `elif`) cannot have a line put before it: its parent can.
    """
    parents = {child: node for node in ast.walk(tree) for child in _statements(ast.iter_child_nodes(node))}
    ordered = sorted(parents, key=lambda node: (_first_line(node), node.col_offset))
    found = next((node for node in ordered if line in _own_lines(node)), None)
    if found is None:
        scopes = [node for node in ordered if _first_line(node) <= line <= _end(node)]
        end = _end(scopes[-1]) if scopes else len(lines)
        found = next((node for node in ordered if line < _first_line(node) <= end), None)
    while found is not None and not _may_be_preceded(found, lines):
        parent = parents[found]
        found = parent if isinstance(parent, ast.stmt) else None
    return found


def _statements(nodes: Iterable[ast.AST]) -> list[ast.stmt]:
    """Statements among `nodes`, looking through handlers and match cases, which are none."""
    found: list[ast.stmt] = []
    for node in nodes:
        if isinstance(node, ast.stmt):
            found.append(node)
        elif isinstance(node, ast.ExceptHandler | ast.match_case):
            found.extend(node.body)
    return found


def _own_lines(node: ast.stmt) -> range:
    """All lines of a simple statement, the lines before the body of a compound one."""
    body = getattr(node, "body", None)
    return range(_first_line(node), max(_first_line(body[0]), _first_line(node) + 1) if body else _end(node) + 1)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _may_be_preceded(node: ast.stmt, lines: Sequence[str]) -> bool:
    text = lines[node.lineno - 1]
    return not text.encode()[: node.col_offset].strip() and not text.lstrip().startswith("elif")


def _must_compile(text: str, target: str) -> None:
    try:
        compile(text, target, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise BadControl(f"{target} does not compile after the edit: {error}") from error
