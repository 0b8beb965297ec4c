"""Named SQL statements: one text, rendered once per engine by a small lexer.

A `.sql` file stands beside its part and holds statements headed by `-- name: verb_object`. A line `-- fleet: reason`
below the name says that the statement serves all tenants at once and therefore names no `:tenant` parameter; a test
holds every other statement on a tenant table to `:tenant`.

Two things in the text are ours, everything else is the common subset of SQLite and PostgreSQL:

* `:name` is a parameter. `:tenant` is filled from the transaction's scope.
* `rows(:name, column type, ...) as alias` is a table made of a list of tuples, so that a verb which takes a list is one
  statement whatever the list's length. Types: `text`, `int`, `real`, `uuid` (exactly 16 bytes), each with `?` if it may
  be null. SQLite reads it through `json_each`, with the 16-byte columns side by side in one blob each, because JSON
  has no bytes and `unhex` is younger than the SQLite of many interpreters; PostgreSQL reads it through `unnest`.

A file `queries.postgres.sql` beside it may hold another text for a statement of the same name, where a dialect forces it
or a gain was measured; each says which. It takes the very same parameters, so that no caller knows of it.

No SQL is put together from strings at run time, save by `storage.listing`'s whitelist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from itertools import chain
from typing import Any, Final

import orjson

from .postgres_literals import LONG, literals

Row = tuple[Any, ...]

_TOKEN: Final = re.compile(
    r"""(?P<skip>'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | ::)
      | (?P<rows>\brows\s*\(\s*:(?P<table>[a-z_]+)\s*,(?P<columns>[^)]*)\)\s+as\s+(?P<alias>[a-z_]+))
      | :(?P<param>[a-z_][a-z0-9_]*)""",
    re.VERBOSE | re.DOTALL,
)
_HEAD: Final = re.compile(r"^-- name: *([a-z_0-9]+) *$", re.MULTILINE)
_FLEET: Final = re.compile(r"^-- fleet: *(.+)$", re.MULTILINE)
_PLAIN_INSERT: Final = re.compile(
    r"""^(?P<head>insert\s+into\s+\w+\s*\([\w\s,]+\))\s*select\s+(?P<chosen>[\w\s.,:]+?)\s+
    from\s+rows\s*\(\s*:(?P<table>[a-z_]+)\s*,[^)]*\)\s+as\s+(?P<alias>[a-z_]+)\s*;?\s*$""",
    re.VERBOSE,
)
PIECE: Final = 250
"""Rows of one statement where a long list is inserted as it is: few enough to be parsed once and kept."""
_MOST_NUMBERED: Final = 32_000
"""SQLite's own limit of parameters is 32,766 (SQLITE_MAX_VARIABLE_NUMBER, since 3.32)."""
_TYPES: Final = frozenset({"text", "int", "real", "uuid"})
_NO_UUID: Final = bytes(16)
_POSTGRES: Final = {"text": "text", "int": "bigint", "real": "double precision", "uuid": "bytea"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a `rows(...)` table."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True)
class Statement:
    """One named statement. `fleet` is the reason why it serves all tenants, or empty; `postgres_text` is its override."""

    name: str
    text: str
    fleet: str = ""
    params: tuple[str, ...] = ()
    tables: Mapping[str, tuple[Column, ...]] = field(default_factory=dict)
    postgres_text: str = ""

    @cached_property
    def takes_tenant(self) -> bool:
        """Whether the scope's tenant is one of its parameters."""
        return "tenant" in self.params

    @cached_property
    def only_reads(self) -> bool:
        """Whether it is a plain select: what a tenant may ask of the operator's rows, such as event types."""
        return self.text.startswith("select")

    @cached_property
    def tenant_places(self) -> Mapping[str, int]:
        """Where the tenant stands in the rows of each list that has one."""
        names = {table: [column.name for column in columns] for table, columns in self.tables.items()}
        return {table: columns.index("tenant") for table, columns in names.items() if "tenant" in columns}

    @cached_property
    def sqlite(self) -> str:
        """The text for SQLite, with `:name` parameters."""
        return _TOKEN.sub(self._sqlite_token, self.text)

    @cached_property
    def postgres(self) -> str:
        """The text for PostgreSQL, with `$n` parameters in the order of `postgres_order`."""
        return self._in_postgres(
            {name: f"${number}" for number, name in enumerate(self.postgres_order, 1)}, self.postgres_text or self.text
        )

    @cached_property
    def pyformat(self) -> str:
        """The text for PostgreSQL with `%(name)s` parameters, as psycopg takes them."""
        text = (self.postgres_text or self.text).replace("%", "%%")
        return self._in_postgres({name: f"%({name})s" for name in self.postgres_order}, text)

    @cached_property
    def postgres_of_literals(self) -> str:
        """The same as `postgres`, for a long list whose columns are given as literals (see `postgres_literals`)."""
        order = {name: f"${number}" for number, name in enumerate(self.postgres_order, 1)}
        for table, columns in self.tables.items():
            order |= {_array(table, column): f"{order[_array(table, column)]}::text" for column in columns if column.type != "uuid"}
        return self._in_postgres(order, self.postgres_text or self.text)

    def _in_postgres(self, order: Mapping[str, str], text: str) -> str:
        def render(match: re.Match[str]) -> str:
            if match["rows"]:
                columns = self.tables[match["table"]]
                arrays = ", ".join(f"{order[_array(match['table'], c)]}::{_POSTGRES[c.type]}[]" for c in columns)
                names = ", ".join(column.name for column in columns)
                return f"unnest({arrays}) as {match['alias']}({names})"
            return order[match["param"]] if match["param"] else match[0]

        return _TOKEN.sub(render, text)

    @cached_property
    def postgres_order(self) -> tuple[str, ...]:
        """Parameter names in the order of `$1`, `$2`, ...: plain ones, then one array per column of each table."""
        arrays = [_array(table, column) for table, columns in self.tables.items() for column in columns]
        return (*self.params, *arrays)

    @cached_property
    def in_pieces(self) -> str:
        """For SQLite, if this only inserts the rows of one long list as they are: the text that inserts `PIECE` of them; else empty.

        Its parameters are numbered: the plain ones, then the rows' values one after the other. Measured with apsw on six columns:
        1.7 us of processor time a row, against 4.3 through `json_each`, which finds each value by reading the row's JSON anew.
        """
        plain = _PLAIN_INSERT.match(self.text)
        if plain is None or len(self.tables) != 1:
            return ""
        columns = self.tables[plain["table"]]
        if any(column.type == "uuid" for column in columns) or PIECE * len(columns) > _MOST_NUMBERED:
            return ""
        chosen = re.sub(r":(\w+)", lambda match: f"?{self.params.index(match[1]) + 1}", plain["chosen"])
        names = ", ".join(f"column{number} as {column.name}" for number, column in enumerate(columns, 1))
        values = ", ".join([f"({', '.join('?' * len(columns))})"] * PIECE)
        return f"{plain['head']} select {chosen} from (select {names} from (values {values})) as {plain['alias']}"  # noqa: S608  (as below)

    def bind_piece(self, values: Mapping[str, Any], rows: Sequence[Row]) -> list[Any]:
        """The parameters of `in_pieces` for that many rows. One that is too short or too long would shift all that follow it."""
        (columns,) = self.tables.values()
        if set(map(len, rows)) != {len(columns)}:
            raise ValueError(f"each row needs the {len(columns)} values of {', '.join(column.name for column in columns)}")
        return [*(values[name] for name in self.params), *chain.from_iterable(rows)]

    def bind_sqlite(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Turn each list of tuples into the JSON text and blobs that `sqlite` reads."""
        if not self.tables:
            return values
        bound = dict(values)
        for table, columns in self.tables.items():
            bound.update(_bind_rows(table, columns, bound.pop(table)))
        return bound

    def bind_postgres(self, values: Mapping[str, Any]) -> list[Any]:
        """The arguments in the order of `postgres_order`: each list of tuples becomes one array per column."""
        bound = [values[name] for name in self.params]
        for table, columns in self.tables.items():
            bound.extend(_arrays(columns, values[table]))
        return bound

    def asked_of_postgres(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The text and its arguments, in whichever way is quicker for lists as long as these are."""
        bound = self.bind_postgres(values)
        if not self.tables or max(len(values[table]) for table in self.tables) < LONG:
            return self.postgres, bound
        place = len(self.params)
        types = [column.type for columns in self.tables.values() for column in columns]
        written = literals([*zip(types, bound[place:], strict=True)])
        return (self.postgres, bound) if written is None else (self.postgres_of_literals, bound[:place] + written)

    def bind_pyformat(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of `pyformat`, by name."""
        return dict(zip(self.postgres_order, self.bind_postgres(values), strict=True))

    def _sqlite_token(self, match: re.Match[str]) -> str:
        if not match["rows"]:
            return match[0]
        return f"{_sqlite_rows(match['table'], self.tables[match['table']])} as {match['alias']}"


def _sqlite_rows(table: str, columns: Sequence[Column]) -> str:
    selected, place = [], 0
    for column in columns:
        if column.type == "uuid":
            cut = f"substr(:{table}__{column.name}, 16 * key + 1, 16)"
            selected.append(f"{f'nullif({cut}, zeroblob(16))' if column.nullable else cut} as {column.name}")
        else:
            selected.append(f"json_extract(value, '$[{place}]') as {column.name}")
            place += 1
    return f"(select {', '.join(selected)} from json_each(:{table}))"  # noqa: S608  (only names of our own .sql files)


def _bind_rows(table: str, columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, Any]:
    plain = [index for index, column in enumerate(columns) if column.type != "uuid"]
    whole = rows if len(plain) == len(columns) else [[row[i] for i in plain] for row in rows]
    bound: dict[str, Any] = {table: orjson.dumps(whole).decode()}
    for index, column in enumerate(columns):
        if column.type == "uuid":
            bound[f"{table}__{column.name}"] = _side_by_side([row[index] for row in rows], column)
    return bound


def _side_by_side(values: Sequence[bytes | None], column: Column) -> bytes:
    """The values as one blob; whole-list operations, because this runs per row of every group while the lock is held."""
    given = [_NO_UUID if value is None and column.nullable else value for value in values]
    whole = [value for value in given if value is not None and len(value) == len(_NO_UUID)]
    if len(whole) < len(given):
        _check_uuids(column, values)
    return b"".join(whole)


def _arrays(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[Any]]:
    arrays = [list(values) for values in zip(*rows, strict=True)] if rows else [[] for _ in columns]
    for column, values in zip(columns, arrays, strict=True):
        if column.type == "uuid":
            _check_uuids(column, values)
    return arrays


def _check_uuids(column: Column, values: Sequence[bytes | None]) -> None:
    wrong = [value for value in values if not (value is None and column.nullable) and (value is None or len(value) != len(_NO_UUID))]
    if wrong:
        raise ValueError(f"{column.name} must be 16 bytes, not {wrong[0]!r}")


def _array(table: str, column: Column) -> str:
    return f"{table}__{column.name}"


def parse(text: str) -> dict[str, Statement]:
    """Read every statement of a `.sql` file's text."""
    found: dict[str, Statement] = {}
    heads = list(_HEAD.finditer(text))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : following.start() if following else len(text)].strip().rstrip(";")
        if head[1] in found:
            raise ValueError(f"statement {head[1]} stands twice in one file")
        found[head[1]] = _statement(head[1], body)
    return found


def statement(text: str) -> Statement:
    """One statement of a program's own, in the same words: `:name`, and `rows(:name, column type, ...) as alias`."""
    return _statement("of the program", text.strip().rstrip(";"))


def overridden(statements: Mapping[str, Statement], others: Mapping[str, Statement]) -> dict[str, Statement]:
    """The statements with another text for PostgreSQL where `others` has one; it must take what the first text takes."""
    found = dict(statements)
    for name, other in others.items():
        one = found.get(name)
        if one is None or set(one.params) != set(other.params) or dict(one.tables) != dict(other.tables):
            raise ValueError(f"the override of {name} does not take the parameters of the statement")
        found[name] = replace(one, postgres_text=other.text)
    return found


def _statement(name: str, body: str) -> Statement:
    fleet = _FLEET.search(body)
    body = _FLEET.sub("", body).strip()
    params: list[str] = []
    tables: dict[str, tuple[Column, ...]] = {}
    for match in _TOKEN.finditer(body):
        if match["rows"]:
            tables[match["table"]] = tuple(_column(name, part) for part in match["columns"].split(","))
        elif match["param"] and match["param"] not in params:
            params.append(match["param"])
    return Statement(name, body, fleet[1] if fleet else "", tuple(params), tables)


def _column(statement: str, part: str) -> Column:
    name, _, kind = part.strip().partition(" ")
    kind = kind.strip()
    if kind.rstrip("?") not in _TYPES:
        raise ValueError(f"statement {statement}: {part.strip()!r} is not `column type`, types are {sorted(_TYPES)}")
    return Column(name, kind.rstrip("?"), kind.endswith("?"))


class Statements:
    """The statements of one package, as attributes: `Q = Statements(__package__)`, then `Q.insert_messages`."""

    def __init__(self, package: str, file: str = "queries.sql") -> None:
        folder = resources.files(package)
        found = parse(folder.joinpath(file).read_text(encoding="utf-8"))
        override = folder.joinpath(file.replace(".sql", ".postgres.sql"))
        if override.is_file():
            found = overridden(found, parse(override.read_text(encoding="utf-8")))
        self.by_name: Mapping[str, Statement] = found
        self.__dict__.update(found)  # so that an attribute is found at once: through `__getattr__` each took 0.5 us

    def __getattr__(self, name: str) -> Statement:
        raise AttributeError(f"no statement is called {name}")
