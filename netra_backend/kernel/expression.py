"""The one safe language: payload filters, logpoint conditions and KPI selections.

    type == "invoice.paid" and data.amount >= 100 and not (data.currency in ["EUR", "CHF"])

Comparison (`== != < <= > >=`), `in` and `not in`, `and`, `or`, `not`, parentheses, dotted paths (`data.items.0.id`, odd
names quoted: `data."a b"`), numbers, strings, `true`, `false`, `null`, lists of literals. No calls, no arithmetic, no
attributes.

A missing path is null. Values of different kinds are unequal and unordered, so `x < 3` is false for text and
`x != null` asks whether there is an x. Only `true` is true: a non-empty text is not. Objects equal nothing.

It comes from tenants, so everything is bounded: length, nesting and parts when it is parsed, work when it runs
(`expression_nodes`). Parsed by precedence climbing (V. Pratt, "Top down operator precedence", 1973); nothing is handed to
Python's own parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..errors import InvalidInput
from .expression_nodes import OPERATORS, And, Comparison, Evaluation, Literal, Node, Not, Or, Path, TooCostly

LENGTH_LIMIT: Final = 2_048
NODE_LIMIT: Final = 256
DEPTH_LIMIT: Final = 24

_NAME = r"[A-Za-z_$@][A-Za-z0-9_$@-]*"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_TOKEN: Final = re.compile(
    rf"""(?P<space>\s+)
    |(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_$@.]))
    |(?P<path>{_NAME}(?:\.(?:{_NAME}|[0-9]+|{_QUOTED}))*)
    |(?P<string>{_QUOTED})
    |(?P<operator>==|!=|<=|>=|[<>(),\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_SEGMENT: Final = re.compile(rf"{_NAME}|[0-9]+|{_QUOTED}", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_WORDS: Final = frozenset({"and", "or", "not", "in", *_CONSTANTS})
_SLIPS: Final = {"=": "Equality is ==.", "&": "Write `and`.", "|": "Write `or`.", "!": "Write `not` or !=.", '"': "Close the quotes."}
_GENERAL_FIX: Final = 'For example: data.amount >= 100 and data.currency in ["EUR", "CHF"].'


class ExpressionError(InvalidInput):
    """The expression cannot be read."""

    code = "bad_expression"


class _Token(NamedTuple):
    kind: str  # number, string, path, operator, word, end
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression: parse once, evaluate often, from any thread. Equal sources are equal expressions."""

    source: str
    root: Node

    @classmethod
    def parse(cls, source: str) -> Expression:
        """Read `source`; `ExpressionError` says where (`position`, counted from 0) and how to mend it."""
        if len(source) > LENGTH_LIMIT:
            raise _error("it is too long", LENGTH_LIMIT, f"Use at most {LENGTH_LIMIT} characters.")
        return cls(source, _Parser(source).parse())

    def evaluate(self, values: Mapping[str, Any], *, if_too_costly: bool = False) -> bool:
        """Whether it holds for `values`. Never raises.

        `if_too_costly` is the answer where the values are too large to decide within the budget: a filter passes True,
        since a superfluous message does less harm than a lost one.
        """
        try:
            return self.root.value(Evaluation(values)) is True
        except TooCostly:
            return if_too_costly

    def __str__(self) -> str:
        return self.source


class _Parser:
    """One pass over the tokens; each method reads one level of precedence: or, and, not, comparison, operand."""

    def __init__(self, source: str) -> None:
        self._tokens = _tokens(source)
        self._next = 0
        self._nodes = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._or()
        if self._peek().kind != "end":
            raise self._unexpected("Join two conditions with `and` or `or`.")
        return node

    def _or(self) -> Node:
        parts = [self._and()]
        while self._take("word", "or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else self._made(Or(tuple(parts)))

    def _and(self) -> Node:
        parts = [self._not()]
        while self._take("word", "and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else self._made(And(tuple(parts)))

    def _not(self) -> Node:
        if not self._take("word", "not"):
            return self._comparison()
        self._descend()
        node = self._made(Not(self._not()))
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        left = self._operand()
        operator = self._operator()
        if operator is None:
            return left
        node = self._made(Comparison(operator, left, self._operand()))
        if self._operator() is not None:
            self._next -= 1
            raise self._unexpected("Comparisons do not chain: write `a < b and b < c`, or use parentheses.")
        return node

    def _operator(self) -> str | None:
        if self._take("word", "in"):
            return "in"
        if self._take("word", "not"):
            if self._take("word", "in"):
                return "not in"
            raise self._unexpected("After a value, `not` can only begin `not in`.")
        token = self._peek()
        if token.kind == "operator" and token.text in OPERATORS:
            self._next += 1
            return token.text
        return None

    def _operand(self) -> Node:
        token = self._peek()
        if self._take("operator", "("):
            return self._group()
        if self._take("operator", "["):
            return self._made(Literal(self._list()))
        if token.kind == "path":
            self._next += 1
            return self._made(Path(_segments(token)))
        return self._made(Literal(self._literal()))

    def _group(self) -> Node:
        self._descend()
        node = self._or()
        self._depth -= 1
        if not self._take("operator", ")"):
            raise self._unexpected("Close the parenthesis.")
        return node

    def _list(self) -> tuple[Any, ...]:
        items: list[Any] = []
        while not self._take("operator", "]"):
            if items and not self._take("operator", ","):
                raise self._unexpected("Separate the items of a list with commas and close it with ].")
            items.append(self._literal())
            self._count()
        return tuple(items)

    def _literal(self) -> Any:
        token = self._peek()
        if token.kind == "number":
            self._next += 1
            return _number(token.text)
        if token.kind == "string":
            self._next += 1
            return _unquoted(token.text, token.position)
        if token.kind == "word" and token.text in _CONSTANTS:
            self._next += 1
            return _CONSTANTS[token.text]
        raise self._unexpected("A value belongs here: a path, a number, a string, true, false, null; in a list, no path.")

    def _made(self, node: Node) -> Node:
        self._count()
        return node

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > NODE_LIMIT:
            raise _error("it has too many parts", self._peek().position, f"Use at most {NODE_LIMIT} values, conditions and list items.")

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise _error("it is nested too deeply", self._peek().position, f"Nest at most {DEPTH_LIMIT} parentheses and `not`.")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        matches = token.kind == kind and token.text == text
        self._next += matches
        return matches

    def _unexpected(self, fix: str) -> ExpressionError:
        token = self._peek()
        what = "it ends too early" if token.kind == "end" else f"{token.text[:40]!r} is not expected here"
        return _error(what, token.position, fix)


def _tokens(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            slip = source[position]
            raise _error(f"{slip!r} means nothing here", position, _SLIPS.get(slip, _GENERAL_FIX))
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(_Token("word" if match[0] in _WORDS else kind, match[0], position))
        position = match.end()
    return [*tokens, _Token("end", "", len(source))]


def _segments(token: _Token) -> tuple[str, ...]:
    found = (match[0] for match in _SEGMENT.finditer(token.text))
    return tuple(_unquoted(part, token.position) if part[0] in "\"'" else part for part in found)


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _unquoted(text: str, position: int) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] not in _ESCAPED:
            raise _error(f"\\{match[2]} is no escape", position, "Escapes are \\n \\t \\r \\\" \\' \\\\ \\/ and \\u with four hex digits.")
        return _ESCAPED[match[2]]

    return _ESCAPE.sub(character, text[1:-1])


def _error(what: str, position: int, fix: str) -> ExpressionError:
    return ExpressionError(f"at character {position}: {what}", fix=fix, position=position)
