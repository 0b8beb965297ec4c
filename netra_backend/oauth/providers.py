"""Known providers as data (`providers.toml`): where they are asked, and what they do with a refresh token that comes twice.

A preset fills in what a registration leaves out, at the time of registering; what is registered later stands by itself, so that
a change of the file changes no connection.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from ..errors import InvalidInput

DAY_S: Final = 86400
ROTATIONS: Final = ("each_use", "never", "configurable", "unknown")
_PART: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_ADDRESSES: Final = ("token", "authorize", "revoke", "device")


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """All of them by name, as the file has them."""
    return tomllib.loads((files(__package__) / "providers.toml").read_text(encoding="utf-8"))


def listed() -> list[dict[str, Any]]:
    """For people and programs: what each does with refresh tokens, and who says so."""
    return [
        {
            "provider": name,
            "title": found["title"],
            "rotation": found["rotation"],
            "replay_window_s": found.get("replay_window_s"),
            "idle_days": found.get("idle_days"),
            "parameters": sorted(found.get("parameters", {})),
            "device": "device" in found,
            "assertion": "assertion" in found,
            "note": found.get("note", ""),
            "source": found["source"],
        }
        for name, found in sorted(presets().items())
    ]


def filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """A registration with what its preset knows; the registration's own members win."""
    rest = {name: value for name, value in given.items() if name != "parameters"}
    name, parameters = given.get("provider"), given.get("parameters") or {}
    if name is None:
        if parameters:
            raise InvalidInput("parameters belong to a provider", fix="Name the `provider`, or leave `parameters` out.")
        return rest
    preset = presets().get(name) if isinstance(name, str) else None
    if preset is None:
        raise InvalidInput(f"no provider is called {name!r}", fix="`netra oauth providers` lists those that are known.")
    wanted = {"auth": preset.get("auth"), "replay_window_s": preset.get("replay_window_s")}
    if "idle_days" in preset:
        wanted["idle_s"] = preset["idle_days"] * DAY_S
    values = _parameters(preset, parameters)
    if "issuer" in preset and preset["issuer"] != "{issuer}":
        wanted["issuer"] = preset["issuer"].format(**values)
    found = {kind: _formatted(preset[kind], values) for kind in _ADDRESSES if kind in preset}
    own = {kind: value for kind, value in (rest.get("endpoints") or {}).items() if value}
    if not rest.get("issuer") or "issuer" not in wanted:  # another issuer's registration gets none of the preset's addresses
        rest["endpoints"] = {**found, **own}
        if isinstance(rest.get("assertion"), Mapping):
            said = {key: value.format(**values) for key, value in preset.get("assertion", {}).items()}
            rest["assertion"] = {**said, **rest["assertion"]}
    return {**{key: value for key, value in wanted.items() if value is not None}, **rest}


def _formatted(address: str | list[str], values: Mapping[str, str]) -> str | list[str]:
    return address.format(**values) if isinstance(address, str) else [each.format(**values) for each in address]


def _parameters(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """The preset's parameters. A value is a host's name or a part of a path, so that no value leads to another place."""
    known = preset.get("parameters", {})
    if strange := set(given) - set(known):
        raise InvalidInput(f"this provider has no parameter {min(strange)!r}", fix=f"It has: {', '.join(sorted(known)) or 'none'}.")
    values = {**known, **given}
    for name, value in values.items():
        if not isinstance(value, str) or _PART.fullmatch(value) is None:
            raise InvalidInput(f"the parameter {name!r} is missing or no name", fix="Give letters, digits, '.', '-' and '_'.")
    return values
