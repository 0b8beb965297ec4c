"""Log lines of `netra serve` and `netra worker`: JSON or readable, each with its tenant and trace, one line a record, never a secret.

What a line says may come from outside: a URL, an answer, an error's words. So whatever is not printable is escaped (no line can be
forged, no terminal be driven), and what looks like a secret is replaced before it is written: bearer tokens, JWTs, signing secrets, API
keys, PEM blocks, passwords in URLs and in `name=value`. It fails closed: a record that cannot be made safe is written without its words.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

from ..kernel.scope import Scope

HIDDEN: Final = "[hidden]"
LONGEST: Final = 8_000
LONGEST_ERROR: Final = 16_000
LOGGERS: Final = ("netra", "uvicorn.error")

_SECRETS: Final = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bey[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    (re.compile(r"\b(?:whsec|whsk|whpk|sk|rk|ghp|gho|xox[abp]|nk|netra_op|netra_tk)_[A-Za-z0-9+/=_-]{12,}"), HIDDEN),
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
    (
        re.compile(
            r"(?i)([\"']?\b[\w.-]*(?:password|passwd|secret|token|api[_-]?key|operator[_-]?key|authorization|cookie|credential|verifier)[\w.-]*"
            r"[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"'})\]]+)"
        ),
        rf"\1{HIDDEN}",
    ),
)


class About(NamedTuple):
    """Whose request a line belongs to."""

    tenant: str
    trace_id: str


about: Final[ContextVar[About | None]] = ContextVar("netra_log_about", default=None)
"""Set by whoever serves a request; what a program has entered with `netra.scope` is asked where this is not."""

Entered = Callable[[], Scope | None]


def safe(text: str, longest: int = LONGEST) -> str:
    """The text without secrets, and without anything that is not printable."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text[: 2 * longest])
    return printable(text[:longest])


def printable(text: str) -> str:
    """The text on one line: control characters, line ends, half surrogates and characters that turn the writing direction are escaped."""
    if text.isprintable():
        return text
    return "".join([letter if letter.isprintable() else _escaped(letter) for letter in text])


def _escaped(letter: str) -> str:
    number = ord(letter)
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(number)
    return short or (f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}")


class Formatter(logging.Formatter):
    """One record in one line. `entered` is asked for the scope where no request is being served."""

    def __init__(self, shape: Literal["json", "text"], entered: Entered) -> None:
        super().__init__()
        self._shape = shape
        self._entered = entered

    def format(self, record: logging.LogRecord) -> str:
        """See the module's docstring. Never raises."""
        try:
            words = safe(record.getMessage())
            error = safe(self.formatException(record.exc_info), LONGEST_ERROR) if record.exc_info and record.exc_info[0] else ""
        except Exception as failed:  # noqa: BLE001  (an argument's own `__str__` may do anything)
            words, error = f"a line that could not be written: {type(failed).__name__}", ""
        whose = self._about()
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        name, level = printable(record.name), record.levelname.lower()
        if self._shape == "json":
            facts: dict[str, Any] = {"at": at, "level": level, "logger": name, "message": words}
            facts |= {"tenant": whose.tenant or None, "trace_id": whose.trace_id or None, "error": error or None}
            return orjson.dumps({key: value for key, value in facts.items() if value is not None}).decode()
        ending = "".join(f" {key}={value}" for key, value in (("tenant", whose.tenant), ("trace", whose.trace_id)) if value)
        return f"{at} {level:<8} {name}: {words}{ending}" + (f"  {error}" if error else "")

    def _about(self) -> About:
        found = about.get()
        if found is not None:
            return About(printable(found.tenant), printable(found.trace_id))
        scope = self._entered()
        return About(scope.tenant, scope.trace.trace_id) if scope is not None else About("", "")


def configure(shape: Literal["json", "text"], level: str, entered: Entered) -> None:
    """Write what Netra and its server log to stderr, in this shape; once, at the start of a process that is ours."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(shape, entered))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
