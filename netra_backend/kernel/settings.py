"""Reads the three sources of settings and says in words which of them is wrong.

The one place in the kernel that opens a file: `netra.toml`, once, at start. An empty `NETRA_*` variable counts as
absent, because that is how compose files and CI pass "not set". An unknown keyword or file key is an error, since it
is a slip of this program's owner; an unknown variable is only reported, since the environment belongs to others too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ..errors import CannotStart
from .durations import format_duration
from .setting_types import IN_BYTES, IN_SECONDS
from .settings_model import Settings, field_marks, printable
from .sizes import format_size

__all__ = ["NOT_SETTINGS", "Settings", "load", "reference", "unknown_environment"]

PREFIX: Final = "NETRA_"
DEFAULT_FILE: Final = Path("netra.toml")
NOT_SETTINGS: Final = frozenset({"NETRA_TENANT", "NETRA_TEST_MODE", "NETRA_FAILPOINT"})
"""Variables of ours that belong to one command or to tests."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One origin of values, with how it calls a setting."""

    words: str
    prefix: str
    values: dict[str, Any]

    def name(self, setting: str) -> str:
        return f"{self.prefix}{setting.upper()}" if self.prefix else setting


def load(environ: Mapping[str, str], config: Path | None = None, **keywords: Any) -> Settings:
    """The settings of `keywords`, `environ` and the file; `CannotStart` names every bad one and what to do.

    `config` must exist when given; left out, `netra.toml` of the working folder is read if there is one. A keyword of
    None counts as not given.
    """
    sources = [
        _Source("as a keyword", "", {name: value for name, value in keywords.items() if value is not None}),
        _Source("in the environment", PREFIX, _from_environment(environ)),
        _from_file(config),
    ]
    for source in sources:
        _refuse_unknown(source)
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged |= source.values
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _cannot_start(error, sources) from None


def unknown_environment(environ: Mapping[str, str]) -> list[str]:
    """A warning for each `NETRA_*` variable that sets nothing, with what was probably meant."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    strangers = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [f"{name} sets nothing{_did_you_mean(name, known)}" for name in strangers]


def reference() -> list[dict[str, str]]:
    """Every setting for the docs and `netra doctor`: name, variable, default, range, and what it means."""
    return [
        {
            "name": name,
            "variable": PREFIX + name.upper(),
            "default": _default(name, field.get_default()),
            "range": _range(name),
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {name: PREFIX + name.upper() for name in Settings.model_fields}
    return {name: environ[variable] for name, variable in names.items() if environ.get(variable, "").strip()}


def _from_file(config: Path | None) -> _Source:
    path = config or DEFAULT_FILE
    try:
        with path.open("rb") as file:
            return _Source(f"in {path}", "", dict(_flattened(tomllib.load(file))))
    except FileNotFoundError:
        if config is None:
            return _Source("", "", {})
        raise CannotStart(f"there is no file {path}", fix="Give --config the path of an existing netra.toml.") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotStart(f"{path} cannot be read: {error}", fix="Mend that line; the file is TOML: name = value.") from error


def _flattened(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`[webhooks] timeout = "15s"` is `webhooks_timeout`."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}_")
        else:
            yield prefix + key, value


def _refuse_unknown(source: _Source) -> None:
    for name in source.values:
        if name not in Settings.model_fields:
            hint = _did_you_mean(name, Settings.model_fields)
            raise CannotStart(f"there is no setting {name!r} ({source.words}){hint}", fix="Correct the name, or take the setting out.")


def _did_you_mean(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _cannot_start(error: ValidationError, sources: list[_Source]) -> CannotStart:
    # include_input stays off pydantic's own text: it would print a refused password.
    problems = [_problem(entry, sources) for entry in error.errors(include_url=False)]
    return CannotStart(
        "; ".join(words for words, _ in problems),
        fix=" ".join(dict.fromkeys(fix for _, fix in problems)),
        settings=[str(entry["loc"][0]) for entry in error.errors(include_input=False) if entry["loc"]],
    )


def _problem(entry: Any, sources: list[_Source]) -> tuple[str, str]:
    cause = entry.get("ctx", {}).get("error")
    words = str(cause) if isinstance(cause, ValueError) else entry["msg"][:1].lower() + entry["msg"][1:]
    fix = getattr(cause, "fix", "")
    if not entry["loc"]:
        return words, fix
    name = str(entry["loc"][0])
    origin = next((source for source in sources if name in source.values), sources[0])
    shown = printable(name, origin.values.get(name))
    return f"{origin.name(name)} ({origin.words}) is {shown!r}: {words}", fix or _advice(name, origin)


def _advice(name: str, origin: _Source) -> str:
    allowed = _range(name)
    return f"Set {origin.name(name)} {'to a value in the range: ' + allowed if allowed else 'as its description says'}."


def _default(name: str, value: Any) -> str:
    if name in {"database_url", "root_keys", "audit_memory"}:
        return "in the data folder"
    shown = printable(name, value)
    return ", ".join(map(str, shown)) if isinstance(shown, list) else "" if shown is None else str(shown)


def _range(name: str) -> str:
    """`200ms to 10m`: the bounds that pydantic checks, as the setting is written."""
    field = Settings.model_fields[name]
    bounds = {key: value for mark in field.metadata for key in ("ge", "le", "lt") if (value := getattr(mark, key, None)) is not None}
    marks = field_marks(name)
    if IN_SECONDS in marks:
        bounds = {key: format_duration(value) for key, value in bounds.items()}
    elif IN_BYTES in marks:
        bounds = {key: format_size(value) for key, value in bounds.items()}
    words = {"ge": "from {}", "le": "to {}", "lt": "to below {}"}
    return " ".join(words[key].format(value) for key, value in bounds.items()) or " | ".join(_choices(field.annotation))


def _choices(annotation: Any) -> list[str]:
    """The words of a `Literal`, also of one that may be left out."""
    options = getattr(annotation, "__args__", ())
    return [word for option in options for word in ([option] if isinstance(option, str) else _choices(option))]
