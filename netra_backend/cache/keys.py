"""Names of cached calls: a template such as `user:{user_id}`, filled from the call's arguments.

The names of a template are the function's parameters, and a value is written with `str`. Where two values could be confused
(`{a}:{b}` with a colon inside one), put something between them that cannot stand inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from operator import itemgetter
from string import Formatter
from typing import Any, Final

from ..errors import InvalidInput

LONGEST: Final = 1024


class Template:
    """A template over the parameters of a function."""

    def __init__(self, text: str, signature: inspect.Signature) -> None:
        self.text = text
        self._names: list[str] = []
        pieces: list[str] = []
        for literal, field, spec, conversion in Formatter().parse(text):
            pieces.append(literal.replace("%", "%%"))
            if field is None:
                continue
            if field not in signature.parameters or spec or conversion:
                raise InvalidInput(f"{text!r} names {field!r}, which is no parameter of {signature}", fix="Write {parameter}.")
            self._names.append(field)
            pieces.append("%s")
        self._format = "".join(pieces)
        self._positions = [list(signature.parameters).index(name) for name in self._names]

    def of(self, arguments: Mapping[str, Any]) -> str:
        """The name for these arguments."""
        return self._format % tuple(arguments[name] for name in self._names)

    def of_positions(self) -> Callable[[tuple[Any, ...]], str]:
        """The same from a call's positional arguments, if all are given so: what a hit pays for."""
        form = self._format
        if not self._positions:
            fixed = form % ()
            return lambda _: fixed
        if len(self._positions) == 1:
            at = self._positions[0]
            return lambda args: form % (args[at],)
        pick = itemgetter(*self._positions)
        return lambda args: form % pick(args)


def check_name(name: Any) -> str:
    """A key or dependency: 1 to 1024 printable characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST or not name.isprintable():
        raise InvalidInput(f"{name!r:.80} cannot name a cached value", fix=f"Use 1 to {LONGEST} printable characters.")
    return name
