"""The exact source text of parts of a JSON document: what a producer wrote is what gets signed and sent.

Parsing and rendering again would change the order of members, the spelling of numbers and the escapes, and with them
the signature that the producer's receivers may compute themselves. So a payload is cut out of the request as it stands.

Two passes, both in C. `orjson` judges the whole document (RFC 8259, strictly: no NaN, no lone surrogate, no trailing
garbage, no number beyond a double, at most 1024 levels). Then the standard library's decoder, which tells where a
value ends, walks over a document that is known to be valid. Rejected: a scanner of regular expressions, which costs
the interpreter a step per bracket, a second and more for a hostile 16 MiB; this costs 0.1 s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from .errors import DuplicateMember, MalformedBody

_DECODE: Final = json.JSONDecoder(parse_int=float, parse_float=float).raw_decode
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_BLANK: Final = frozenset(" \t\n\r")
_NUL_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Span = tuple[int, int]
"""Start and end of a value in its document's text."""


def parse(body: bytes) -> Any:
    """The document's value; `MalformedBody` for anything that is not JSON which every engine can store.

    U+0000 is refused although JSON allows it escaped: PostgreSQL's text cannot hold it.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if b"\\u0000" in body and _NUL_ESCAPE.search(body):
        raise MalformedBody("the body contains U+0000, which cannot be stored")
    return value


def members(text: str, at: int = 0) -> tuple[dict[str, Span], int]:
    """Where the value of each member of the object at `at` stands, and where the object ends.

    `text` has passed `parse`. `DuplicateMember` where a name comes twice: which of the two counts would be a guess.
    """
    spans: dict[str, Span] = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _value(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, at = _value(text, start)
        if name in spans:
            raise DuplicateMember(f"the member {name[:80]!r} comes twice", member=name[:80])
        spans[name] = start, at
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans, at + 1


def object_members(text: str) -> dict[str, Span]:
    """`members` of a document that is one object."""
    return members(text, _skip(text, 0))[0]


def array_of_objects(text: str) -> Iterator[dict[str, Span]]:
    """`members` of each element of a document that is one array of objects."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        spans, at = members(text, at)
        yield spans
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODE(text, at)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _BLANK:  # most documents have no space to skip
        return at
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
