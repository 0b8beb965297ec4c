"""Rules over one file's syntax tree. `RULES` is the whole list; a rule sees every Python file and picks its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from .source import TESTS, Offence, Source

KERNEL = "netra_backend/kernel/"
STORAGE = "netra_backend/storage/"
HTTP_ALLOWED = (
    "netra_backend/resilience/egress",  # the guarded client, and the files that begin with its name
    "netra_backend/resilience/pinning.py",  # its connector's resolver: the judged address and no other
    "netra_backend/testing/",  # misbehaving endpoints and providers
)

TIME_AND_CHANCE = {
    *(
        f"time.{name}"
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "localtime", "gmtime")
    ),
    *(f"datetime.{kind}.{name}" for kind in ("datetime", "date") for name in ("now", "utcnow", "today")),
    *(f"uuid.uuid{n}" for n in (1, 3, 4, 6, 7, 8)),
    "os.urandom",
    "random",
    "secrets",
}
CONSTANT_TIME = {"secrets.compare_digest"}  # compares, draws nothing
HTTP_CLIENTS = {"requests", "httpx", "httpx2", "urllib3", "urllib.request", "http.client", "aiohttp", "pycurl", "niquests"}
SQL = re.compile(
    r"\b(select\b.+?\bfrom\b|insert\s+(or\s+\w+\s+)?into\b|update\s+\S+\s+set\b|delete\s+from\b|(create|drop|alter)\s+(table|index|trigger|view)\b)",
    re.IGNORECASE | re.DOTALL,
)
EXECUTES = {"execute", "executemany", "executescript", "fetch", "fetchrow", "fetchval"}
BUILDS_SQL = {
    STORAGE + "statements.py": "the lexer that renders the named statements, from .sql files only",
    STORAGE + "listing.py": "the whitelist builder for listing filters",
}
SKIPS = {
    "pytest.skip",
    "pytest.xfail",
    "pytest.mark.skip",
    "pytest.mark.skipif",
    "pytest.mark.xfail",
    "pytest.importorskip",
    "unittest.skip",
}


def time_and_chance(source: Source) -> Iterator[Offence]:
    """Time and chance come from the Runtime, so that a test can hold them still."""
    if not source.is_product or source.within(KERNEL):
        return
    for node in source.nodes:
        name = source.dotted(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        forbidden = name in TIME_AND_CHANCE or name.startswith(("random.", "secrets."))
        if forbidden and name not in CONSTANT_TIME and name not in {"random", "secrets"}:
            yield source.offence(node, "time-and-chance", f"{name} outside kernel/: take it from the Runtime (clock, chance, ids)")


def one_http_client(source: Source) -> Iterator[Offence]:
    """Every outgoing request passes the guarded client, else deny-by-default is a wish."""
    if not source.is_product or source.within(*HTTP_ALLOWED):
        return
    for node, name in source.imports():
        if any(name == client or name.startswith(client + ".") for client in HTTP_CLIENTS):
            yield source.offence(node, "one-http-client", f"{name}: outgoing requests go through resilience.egress")
            return


def no_built_sql(source: Source) -> Iterator[Offence]:
    """SQL is named text in .sql files; a built statement is an injection waiting for its input."""
    if not source.is_product or source.path in BUILDS_SQL:
        return
    for node in source.nodes:
        if _is_built(node) and SQL.search(_literal_text(node)):
            yield source.offence(node, "no-built-sql", "SQL put together from strings: write a named statement")
        elif isinstance(node, ast.Call) and _called(node) in EXECUTES and node.args and _is_built(node.args[0]):
            yield source.offence(node, "no-built-sql", f"{_called(node)}() of a built string: write a named statement")


def commit_in_storage_only(source: Source) -> Iterator[Offence]:
    """The caller owns the transaction; only storage ends one."""
    if not source.is_product or source.within(STORAGE):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and _called(node) == "commit":
            yield source.offence(node, "commit-in-storage-only", "commit() outside storage/: hand the work to db.write or take a Tx")


def nothing_imports_tests(source: Source) -> Iterator[Offence]:
    """Tests stand outside the layers and outside the wheel."""
    if not source.is_product:
        return
    for node, name in source.imports():
        if name == "netra_backend.tests" or name.startswith("netra_backend.tests."):
            yield source.offence(node, "nothing-imports-tests", f"{name} is not in the wheel")


def no_skipped_test(source: Source) -> Iterator[Offence]:
    """A test that may not run is a promise that may not hold."""
    if not source.within(TESTS):
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute | ast.Name) and source.dotted(node) in SKIPS:
            yield source.offence(node, "no-skipped-test", f"{source.dotted(node)}: make it run, or take it out")


def module_docstring(source: Source) -> Iterator[Offence]:
    """Purpose, order and danger within a minute of opening a file."""
    if not source.within(TESTS) and source.text.strip() and not ast.get_docstring(source.tree):
        yield source.offence(source.tree, "module-docstring", "say purpose, invariants and danger")


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_built(node: ast.AST) -> bool:
    """An f-string with values, `+` or `%` on text, `.format(...)`, `.join(...)` of text."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Mod) and (_is_text(node.left) or _is_text(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in {"format", "join", "replace", "format_map"} and _is_text(node.func.value)
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)) or _is_built(node)


def _literal_text(node: ast.AST) -> str:
    """The literal pieces with `x` where a value goes, in reading order."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal_text(part) or "x" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _literal_text(node.left) + (_literal_text(node.right) or "x")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return " ".join([_literal_text(node.func.value), *map(_literal_text, node.args)])
    if isinstance(node, ast.List | ast.Tuple):
        return " ".join(map(_literal_text, node.elts))
    return ""


RULES: tuple[Callable[[Source], Iterator[Offence]], ...] = (
    time_and_chance,
    one_http_client,
    no_built_sql,
    commit_in_storage_only,
    nothing_imports_tests,
    no_skipped_test,
    module_docstring,
)
