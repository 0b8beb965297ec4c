"""The two SQLite libraries behind one small face, and the rule that only one of them touches a file in a process.

A process that opens the same file through two copies of SQLite corrupts it: POSIX drops *all* of a process's locks on
a file when it closes *any* descriptor of it, so each copy unlocks what the other holds (see "How to corrupt", section
2.2.1, in SQLite's documentation). Measured: of 66,080 acknowledged rows 66,060 gone, then a malformed file.

So `apsw` (its own, recent SQLite) serves where the process is ours, and the interpreter's `sqlite3` where a user's
program may open the file too. `claim` enforces it three ways: a registry of the files that Netra has open; a look at
the descriptors that are open already; an audit hook that sees a later `sqlite3.connect`.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast
from urllib.parse import unquote

import apsw

from ..errors import NetraError, TwoSqliteLibraries
from .errors import (
    ConstraintViolated,
    Corrupt,
    DatabaseBusy,
    DatabaseError,
    DatabaseIoError,
    DiskFull,
    Interrupted,
    OutOfMemory,
)
from .statements import Row

DriverName = Literal["apsw", "sqlite3"]
_CACHED_STATEMENTS: Final = 512
_CODES: Final[Mapping[int, type[NetraError]]] = {
    5: DatabaseBusy,
    6: DatabaseBusy,
    7: OutOfMemory,
    9: Interrupted,
    10: DatabaseIoError,
    11: Corrupt,
    13: DiskFull,
    19: ConstraintViolated,
    26: Corrupt,
}
"""Primary result codes (SQLite's "Result and Error Codes"); every other one is a plain `DatabaseError`."""


class Connection(Protocol):
    """What the engine needs of a connection; every method raises the errors of `storage.errors`."""

    def run(self, sql: str, params: Mapping[str, Any] | Sequence[Any] = ...) -> list[Row]:
        """Run one statement to its end and return its rows."""
        ...

    def changes(self) -> int:
        """Rows changed by the last insert, update or delete."""
        ...

    def in_transaction(self) -> bool:
        """Whether a transaction is open; False after an error that rolled back everything."""
        ...

    def limit_time(self, expired: Callable[[], bool] | None) -> None:
        """End a running statement with `Interrupted` once `expired()` is true."""
        ...

    def copy_to(self, target: Connection, pages: int, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database over `target`'s, of the same library: `pages` at a time, then `progress(left, of)`.

        SQLite begins anew whenever somebody else has written between two steps, save inside a transaction that has
        read: that one's snapshot is copied.
        """
        ...

    def close(self) -> None:
        """Close it."""
        ...


class ApswConnection:
    """A connection of apsw's own SQLite."""

    def __init__(self, path: str, vfs: str | None = None) -> None:
        try:
            self._connection = apsw.Connection(path, vfs=vfs, statementcachesize=_CACHED_STATEMENTS)
        except apsw.Error as error:
            raise _translated(error, getattr(error, "extendedresult", 0)) from error
        self._cursor = self._connection.cursor()

    def run(self, sql: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> list[Row]:
        """See `Connection.run`."""
        try:
            return cast("list[Row]", self._cursor.execute(sql, params).fetchall())
        except apsw.Error as error:
            raise _translated(error, getattr(error, "extendedresult", 0)) from error
        except MemoryError as error:
            raise _translated(error, apsw.SQLITE_NOMEM) from error

    def changes(self) -> int:
        """See `Connection.changes`."""
        return self._connection.changes()

    def in_transaction(self) -> bool:
        """See `Connection.in_transaction`."""
        return self._connection.in_transaction

    def limit_time(self, expired: Callable[[], bool] | None) -> None:
        """See `Connection.limit_time`."""
        self._connection.set_progress_handler(expired, 10_000)

    def copy_to(self, target: Connection, pages: int, progress: Callable[[int, int], None]) -> None:
        """See `Connection.copy_to`."""
        assert isinstance(target, ApswConnection)
        try:
            with target._connection.backup("main", self._connection, "main") as copying:  # noqa: SLF001  (one class)
                while not copying.done:
                    copying.step(pages)
                    progress(copying.remaining, copying.page_count)
        except apsw.Error as error:
            raise _translated(error, getattr(error, "extendedresult", 0)) from error

    def close(self) -> None:
        """See `Connection.close`."""
        self._connection.close()


class InterpreterConnection:
    """A connection of the interpreter's `sqlite3`."""

    def __init__(self, path: str, vfs: str | None = None) -> None:
        target, uri = (path, False) if vfs is None else (f"file:{path}?vfs={vfs}", True)
        try:
            self._connection = sqlite3.connect(
                target,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
                uri=uri,
            )
        except sqlite3.Error as error:
            raise _translated(error, getattr(error, "sqlite_errorcode", 0)) from error
        self._cursor = self._connection.cursor()

    def run(self, sql: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> list[Row]:
        """See `Connection.run`."""
        try:
            return self._cursor.execute(sql, params or {}).fetchall()
        except sqlite3.Error as error:
            raise _translated(error, getattr(error, "sqlite_errorcode", 0)) from error
        except MemoryError as error:  # how this library tells SQLITE_NOMEM
            raise _translated(error, sqlite3.SQLITE_NOMEM) from error

    def changes(self) -> int:
        """See `Connection.changes`; `rowcount` is wrong for `returning` before 3.12, so SQLite itself is asked."""
        return int(self.run("select changes()")[0][0])

    def in_transaction(self) -> bool:
        """See `Connection.in_transaction`."""
        return self._connection.in_transaction

    def limit_time(self, expired: Callable[[], bool] | None) -> None:
        """See `Connection.limit_time`."""
        self._connection.set_progress_handler(expired, 10_000)

    def copy_to(self, target: Connection, pages: int, progress: Callable[[int, int], None]) -> None:
        """See `Connection.copy_to`."""
        assert isinstance(target, InterpreterConnection)
        try:
            self._connection.backup(
                target._connection,  # noqa: SLF001  (one class)
                pages=pages,
                progress=lambda _, left, of: progress(left, of),
            )
        except sqlite3.Error as error:
            raise _translated(error, getattr(error, "sqlite_errorcode", 0)) from error

    def close(self) -> None:
        """See `Connection.close`."""
        self._connection.close()


def _translated(error: BaseException, code: int) -> NetraError:
    family = _CODES.get(code & 0xFF, DatabaseError)
    return family(f"{family.__doc__} ({error})", sqlite_code=code)


def translated_sqlite3(error: BaseException) -> NetraError:
    """An error of the interpreter's library, on a connection that is not ours."""
    return error if isinstance(error, NetraError) else _translated(error, getattr(error, "sqlite_errorcode", 0))


def connect(driver: DriverName, path: str, vfs: str | None = None) -> Connection:
    """Open one connection of the given library. The caller holds a claim on the file."""
    return ApswConnection(path, vfs) if driver == "apsw" else InterpreterConnection(path, vfs)


def library_version(driver: DriverName) -> tuple[int, ...]:
    """The SQLite version that the driver brings."""
    text = apsw.sqlite_lib_version() if driver == "apsw" else sqlite3.sqlite_version
    return tuple(int(part) for part in text.split("."))


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether several processes may corrupt a WAL that one of them resets while another checkpoints (3.7.0 to 3.51.2)."""
    return (3, 7, 0) <= version <= (3, 51, 2)


_claims: dict[tuple[int, int], tuple[DriverName, int]] = {}
_claims_lock = threading.Lock()
_hook_installed = False


def claim(path: Path, driver: DriverName) -> None:
    """Reserve the file for one library in this process, or raise `TwoSqliteLibraries`. Counted; see `release`."""
    path.touch(exist_ok=True)
    key = _identity(path)
    with _claims_lock:
        held, count = _claims.get(key, (driver, 0))
        if held != driver:
            raise TwoSqliteLibraries(f"{path} is open in this process through {held} already", path=str(path))
        _claims[key] = (driver, count + 1)
        if driver == "apsw" and not count:
            _install_hook()  # before the look, so that nothing is opened between them
            if _is_open_here(key):
                del _claims[key]
                raise TwoSqliteLibraries(f"{path} is open in this process through another SQLite already", path=str(path))


def release(path: Path) -> None:
    """Give back one claim."""
    if not path.exists():
        return
    key = _identity(path)
    with _claims_lock:
        driver, count = _claims.get(key, ("sqlite3", 0))
        if count > 1:
            _claims[key] = (driver, count - 1)
        else:
            _claims.pop(key, None)


def driver_of(path: Path) -> DriverName | None:
    """The library through which this process has the file open, if Netra opened it."""
    return _claims.get(_identity(path), (None, 0))[0] if path.exists() else None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_open_here(key: tuple[int, int]) -> bool:
    """Whether any descriptor of this process is the file (Linux; elsewhere the audit hook alone watches)."""
    try:
        descriptors = list(Path("/proc/self/fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            status = descriptor.stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == key:
            return True
    return False


def _install_hook() -> None:
    global _hook_installed  # noqa: PLW0603  (an audit hook cannot be removed, so one is kept for the process)
    if not _hook_installed:
        _hook_installed = True
        sys.addaudithook(_refuse_second_library)


def _refuse_second_library(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop a `sqlite3.connect` to a file that apsw has open here (audit event of the standard library)."""
    if event != "sqlite3.connect" or not _claims:
        return
    target = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
    for path in (Path(target), _path_of_uri(target)):
        if path.is_file() and driver_of(path) == "apsw":
            raise TwoSqliteLibraries(f"{path} is open in this process through apsw already", path=str(path))


def _path_of_uri(target: str) -> Path:
    """The file that `target` names if it is taken for a URI (SQLite's "Uniform Resource Identifiers", section 3.1)."""
    path = target.removeprefix("file:").partition("#")[0].partition("?")[0]
    if path.startswith("//"):  # an authority, which is empty or localhost
        path = "/" + path[2:].partition("/")[2]
    return Path(unquote(path))
