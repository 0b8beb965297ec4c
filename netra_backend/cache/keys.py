"""Names of cached calls: a template such as `user:{user_id}`, filled from the call's arguments.

The names of a template are the function's parameters, and a value is written with `str`. Where two values could be confused
(`{a}:{b}` with a colon inside one), put something between them that cannot stand inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from string import Formatter
from typing import Any, Final

from ..errors import InvalidInput

LONGEST: Final = 1024


class Template:
    """A template over the parameters of a function."""

    def __init__(self, text: str, signature: inspect.Signature) -> None:
        self.text = text
        self._pieces: list[tuple[str, str | None]] = []
        for literal, field, spec, conversion in Formatter().parse(text):
            if field is not None and (field not in signature.parameters or spec or conversion):
                raise InvalidInput(f"{text!r} names {field!r}, which is no parameter of {signature}", fix="Write {parameter}.")
            self._pieces.append((literal, field))

    def of(self, arguments: Mapping[str, Any]) -> str:
        """The name for these arguments."""
        return "".join(literal if name is None else f"{literal}{arguments[name]!s}" for literal, name in self._pieces)

    def as_format(self) -> str:
        """The text of an f-string over the parameters' names that says the same."""
        doubled = [(literal.replace("{", "{{").replace("}", "}}"), name) for literal, name in self._pieces]
        return "".join(literal if name is None else f"{literal}{{{name}!s}}" for literal, name in doubled)


def check_name(name: Any) -> str:
    """A key or dependency: 1 to 1024 printable characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST or not name.isprintable():
        raise InvalidInput(f"{name!r:.80} cannot name a cached value", fix=f"Use 1 to {LONGEST} printable characters.")
    return name
