"""`python -m tools.tidy`: print every offence of the repository; exit 1 if there is one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from . import locks, sizes
from .code_rules import RULES
from .source import Offence, Source

FOLDERS = ("netra_backend", "tools", "benchmarks", "examples")
LOCKS = ("requirements/*.txt", "*.lock", "pylock*.toml", "**/package-lock.json", "**/.npmrc")


def offences(root: Path) -> Iterator[Offence]:
    """All of them."""
    sources = [Source.read(root, path) for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    for source in sources:
        for rule in (*RULES, sizes.file_limit):
            yield from rule(source)
    yield from sizes.medians_and_shares(sources)
    yield from _lock_offences(root)


def _lock_offences(root: Path) -> Iterator[Offence]:
    found = {path for pattern in LOCKS for path in root.glob(pattern) if not {".venv", "build", "node_modules"} & set(path.parts)}
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(found)}
    for name, text in texts.items():
        yield from locks.addresses(name, text)
    pinned = {name: text for name, text in texts.items() if name.startswith("requirements/")}
    for name, text in pinned.items():
        yield from locks.hashes(name, text)
    table = (root / "docs/minimum_versions.toml").read_text(encoding="utf-8")
    yield from locks.minimum_versions(table, pinned, (root / "pyproject.toml").read_text(encoding="utf-8"))


def main() -> int:
    """Print and judge."""
    found = list(offences(Path.cwd()))
    for offence in found:
        print(offence)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
