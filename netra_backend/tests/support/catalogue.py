"""Every named statement of the product, under `package.name`, and which tables a text names."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from ...storage.statements import Statement, Statements

PACKAGE: Final = Path(__file__).parents[2]
FILES: Final = sorted(path for path in PACKAGE.rglob("queries.sql") if "tests" not in path.relative_to(PACKAGE).parts)
STATEMENTS: Final[dict[str, Statement]] = {
    f"{path.parent.name}.{name}": statement
    for path in FILES
    for name, statement in Statements(".".join(["netra_backend", *path.parent.relative_to(PACKAGE).parts])).by_name.items()
}
OF_A_TENANT: Final = {name: statement for name, statement in STATEMENTS.items() if statement.takes_tenant}
OF_THE_FLEET: Final = {name: statement for name, statement in STATEMENTS.items() if statement.fleet}

_NO_NAME: Final = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
_COMMENTS: Final = re.compile(r"\A(?:\s*--[^\n]*\n)*\s*")


def verb_of(statement: Statement) -> str:
    """The word that its text begins with, behind any comment."""
    return _NAME.match(_COMMENTS.sub("", statement.text.lower()))[0]


def tables_named_in(text: str, tables: AbstractSet[str]) -> set[str]:
    """Which of `tables` stand in the SQL outside strings and comments."""
    return set(_NAME.findall(_NO_NAME.sub(" ", text.lower()))) & tables
