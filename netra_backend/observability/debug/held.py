"""Fingerprints of the secrets that are in this process's memory, and of the forms in which they are usually written.

Every secret of Netra is sealed at rest, so whatever is sealed or opened passes one place (`kernel.debugging.held`) and is known here
from then on. Kept is the interpreter's own keyed hash of each form with a salt, 64 bits: a dump of this table tells nobody a secret,
and asking it costs less than looking at the text does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

LEAST_CHARACTERS: Final = 8
"""Shorter ones are parts of ordinary text."""
MOST_KNOWN: Final = 200_000
_DEEPEST: Final = 4


class Held:
    """A set of fingerprints; the oldest go when there are too many."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._known: dict[int, None] = {}
        self.count = self._known.__len__
        """How many are known: the dictionary's own answer, because it is asked for each name that is judged."""

    def add(self, secret: bytes) -> None:
        """Know a secret: as text, in its usual encodings, and, where it is a JSON document, each text in that."""
        for form in _forms(secret):
            if len(form) >= LEAST_CHARACTERS:
                self._known[self._fingerprint(form)] = None
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def __contains__(self, text: str) -> bool:
        return len(text) >= LEAST_CHARACTERS and self._fingerprint(text) in self._known

    def _fingerprint(self, text: str) -> int:
        return hash((self._salt, text.rstrip("=")))


def _forms(secret: bytes) -> Iterator[str]:
    yield secret.hex()
    yield secret.hex().upper()
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode):
        yield encode(secret).decode().rstrip("=")
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return
    yield from _of_text(text)
    if text[:1] in {"[", "{", '"'}:
        try:
            yield from _in_json(json.loads(text), 0)
        except ValueError:
            return


def _of_text(text: str) -> Iterator[str]:
    yield text
    yield quote(text, safe="")
    yield text.partition("_")[2]
    yield from text.split(".")


def _in_json(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield from _of_text(value)
        yield base64.b64encode(value.encode()).decode().rstrip("=")
        yield value.encode().hex()
    elif isinstance(value, list | dict) and depth < _DEEPEST:
        for each in value if isinstance(value, list) else value.values():
            yield from _in_json(each, depth + 1)
