"""What a rule sees: one Python file's path, text and syntax tree, with imported names resolved."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "netra_backend/"
TESTS = "netra_backend/tests/"


@dataclass(frozen=True)
class Offence:
    """One broken rule at one place."""

    path: str
    line: int
    rule: str
    words: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.words}"


@dataclass(frozen=True)
class Source:
    """One file. `path` is relative to the root, with `/`."""

    path: str
    text: str

    @classmethod
    def read(cls, root: Path, path: Path) -> Source:
        """The file at `path`."""
        return cls(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node, in breadth-first order."""
        return list(ast.walk(self.tree))

    @cached_property
    def is_product(self) -> bool:
        """Whether the file is shipped: in the package and not a test."""
        return self.path.startswith(PACKAGE) and not self.path.startswith(TESTS)

    def within(self, *prefixes: str) -> bool:
        """Whether the path begins with one of `prefixes`."""
        return self.path.startswith(prefixes)

    def offence(self, node: ast.AST, rule: str, words: str) -> Offence:
        """An offence at the node's line."""
        return Offence(self.path, getattr(node, "lineno", 1), rule, words)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Local name -> absolute dotted name, of every absolute import anywhere in the file."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return found

    def dotted(self, node: ast.AST) -> str:
        """`t.time` -> `time.time` after `import time as t`; empty where it does not begin with an imported name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.aliases:
            return ""
        return ".".join([self.aliases[node.id], *reversed(parts)])

    def imports(self) -> Iterator[tuple[ast.AST, str]]:
        """Each import statement's node with each absolute dotted name that it brings in."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield node, base
                yield from ((node, f"{base}.{alias.name}") for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.path.removesuffix(".py").split("/")[: -node.level]
        return ".".join([*package, *([node.module] if node.module else [])])
