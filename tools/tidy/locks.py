"""Rules over the lock files: no addresses, a hash for everything, and no version below docs/minimum_versions.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

from .source import Offence

ADDRESS = re.compile(r"\b\w+://|^\s*(--index-url|--extra-index-url|--find-links|-i|-f|--trusted-host)\b")
PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
RANGE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?>=([^\s,;]+)$")


def addresses(path: str, text: str) -> Iterator[Offence]:
    """A lock file installs from whichever index the machine is set up for."""
    for number, line in enumerate(text.splitlines(), 1):
        if ADDRESS.search(line):
            yield Offence(path, number, "address-in-lock", f"{line.strip()[:80]}: lock files carry no address")


def hashes(path: str, text: str) -> Iterator[Offence]:
    """Every pin has a hash, so that nobody can swap the file behind a version."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        following = lines[number] if number < len(lines) else ""
        if PINNED.match(line) and "--hash=sha256:" not in line + following:
            yield Offence(path, number, "hash-in-lock", f"{line.strip()[:80]} has no hash: run `make lock`")


def minimum_versions(table: str, locks: Mapping[str, str], pyproject: str) -> Iterator[Offence]:
    """No lock and no range below the table, and no row for what nobody installs."""
    floors = {name: row["version"] for name, row in tomllib.loads(table).items()}
    seen: set[str] = set()
    for path, text in locks.items():
        for number, line in enumerate(text.splitlines(), 1):
            if (pin := PINNED.match(line)) and pin[1] in floors:
                seen.add(pin[1])
                yield from _below(path, number, pin, floors)
    for wanted in tomllib.loads(pyproject)["project"]["dependencies"]:
        if (found := RANGE.match(wanted)) and found[1] in floors:
            yield from _below("pyproject.toml", 1, found, floors)
    for name in sorted(floors.keys() - seen):
        yield Offence("docs/minimum_versions.toml", 1, "minimum-version", f"{name} is in no lock file: remove its row")


def release(version: str) -> tuple[int, ...]:
    """`3.11.6` as numbers without trailing zeros; a pre-release counts as its release, which no lock of ours holds."""
    numbers = [int(part) for part in re.match(r"\d+(?:\.\d+)*", version)[0].split(".")]  # type: ignore[index]  # pins begin with a digit
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _below(path: str, number: int, found: re.Match[str], floors: Mapping[str, str]) -> Iterator[Offence]:
    if release(found[2]) < release(floors[found[1]]):
        yield Offence(path, number, "minimum-version", f"{found[1]} {found[2]} is below the safe {floors[found[1]]}")
