"""Statements with a tenant taken out: what row-level security must make up for, and what the scenario must notice.

Four places of a statement's text hold it to a tenant:

* `predicate`  `tenant = :tenant`, `d.tenant = r.tenant`, `tenant || '' = :tenant`: becomes `true`
* `row`        `(tenant, id) in (select r.tenant, r.id ...)`: both sides lose the tenant
* `partition`  `partition by d.tenant, ...`: loses the tenant
* `written`    the tenant of a row that an insert writes: becomes another tenant's name
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ....storage.statements import Statement, parse
from ..catalogue import verb_of
from .rows import GLOBEX

_FORMS: Final = {
    "predicate": (re.compile(r"\b(?:\w+\.)?tenant(?: \|\| '')?\s*=\s*(?::tenant|\w+\.tenant)\b"), "true"),
    "row": (re.compile(r"\(tenant,\s*([^()]*?)\)\s+in\s*\(\s*select\s+\w+\.tenant,\s*"), r"(\1) in (select "),
    "partition": (re.compile(r"\bpartition by \w+\.tenant,\s*"), "partition by "),
}
_WRITTEN: Final = re.compile(r":tenant\b|\br\.tenant\b")
_PARAMETER: Final = re.compile(r":tenant\b")
_COMPARED: Final = re.compile(
    r"\btenant\s*(?:=|<|>|!|\bin\b|\bis\b|\bnot\b|\blike\b|\bbetween\b)|(?:=|<|>)\s*(?:\w+\.|:)?tenant\b|\busing\s*\(|\(tenant\b[^()]*\)\s+in\b"
)


@dataclass(frozen=True)
class Hold:
    """One place that holds a statement to a tenant, and what stands there without it."""

    kind: str
    start: int
    end: int
    instead: str


def in_engine(statement: Statement, engine: str) -> Statement:
    """The statement with the text of that engine as its only one."""
    return replace(statement, text=statement.postgres_text, postgres_text="") if _is_overridden(statement, engine) else _plain(statement)


def holds(statement: Statement) -> list[Hold]:
    """Every place of the text that holds it to a tenant, in order."""
    return sorted([*_comparisons(statement.text), *_written(statement)], key=lambda hold: hold.start)


def predicates(statement: Statement) -> list[Hold]:
    """Those of `holds` that choose rows; the rest write them."""
    return [hold for hold in holds(statement) if hold.kind != "written"]


def without(statement: Statement, gone: Sequence[Hold]) -> Statement:
    """The statement without these holds; one parameter fewer where that was its last use."""
    text = statement.text
    for hold in sorted(gone, key=lambda each: each.start, reverse=True):
        text = text[: hold.start] + hold.instead + text[hold.end :]
    assert text != statement.text, f"nothing was taken out of {statement.name}"
    return replace(parse(f"-- name: {statement.name}\n{text}")[statement.name], fleet=statement.fleet)


def what_is_left(statement: Statement) -> str:
    """A comparison of tenants, or a use of the parameter, that `holds` does not know; empty if it knows them all."""
    every = holds(statement)
    bare = without(statement, every).text if every else statement.text
    found = _COMPARED.search(bare) or _PARAMETER.search(bare)
    return found[0] if found else ""


def _is_overridden(statement: Statement, engine: str) -> bool:
    return engine == "postgres" and bool(statement.postgres_text)


def _plain(statement: Statement) -> Statement:
    return replace(statement, postgres_text="")


def _comparisons(text: str) -> Iterator[Hold]:
    for kind, (form, instead) in _FORMS.items():
        yield from (Hold(kind, found.start(), found.end(), found.expand(instead)) for found in form.finditer(text))


def _written(statement: Statement) -> Iterator[Hold]:
    found = _WRITTEN.search(statement.text) if verb_of(statement) == "insert" else None
    if found:
        yield Hold("written", found.start(), found.end(), f"'{GLOBEX}'")
