"""Connections that fail at a chosen statement, and a VFS that fails at a chosen write or sync.

A fault strikes once, at the nth statement counted over every connection that shares the plan. `INSTEAD` is an error
that left everything as it was. `LOST` is what SQLite may do on FULL, IOERR, NOMEM and INTERRUPT: the whole transaction
is gone. `AFTER` is an answer that was lost: the statement took effect and its caller sees an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apsw

from ...storage.sqlite_drivers import Connection

INSTEAD, LOST, AFTER = "instead", "lost", "after"


@dataclass(frozen=True)
class Fault:
    """One error, and what it left behind."""

    error: Callable[[], BaseException]
    mode: str = INSTEAD

    def __str__(self) -> str:
        return f"{type(self.error()).__name__}-{self.mode}"


@dataclass
class Plan:
    """When to fail, and every statement that was asked for since `arm`."""

    fault: Fault | None = None
    nth: int = -1
    only: Callable[[str], bool] = lambda sql: True
    asked: list[str] = field(default_factory=list)
    struck: bool = False

    def arm(self, fault: Fault, nth: int = 0, only: Callable[[str], bool] = lambda sql: True) -> None:
        self.fault, self.nth, self.only, self.asked, self.struck = fault, nth, only, [], False

    def due(self, sql: str) -> Fault | None:
        """The fault, if this statement is the one."""
        if self.only(sql):
            self.asked.append(sql)
        if self.struck or self.fault is None or len(self.asked) <= self.nth or not self.only(sql):
            return None
        self.struck = True
        return self.fault


class FaultyConnection:
    """A connection that does as the plan says; see `storage.sqlite_drivers.Connection`."""

    def __init__(self, inner: Connection, plan: Plan) -> None:
        self.inner, self._plan = inner, plan

    def run(self, sql: str, params: Any = None) -> list[Any]:
        fault = self._plan.due(sql)
        if fault is None:
            return self.inner.run(sql, params or {})
        if fault.mode == LOST and self.inner.in_transaction():
            self.inner.run("rollback")
        if fault.mode == AFTER:
            self.inner.run(sql, params or {})
        raise fault.error()

    def changes(self) -> int:
        return self.inner.changes()

    def in_transaction(self) -> bool:
        return self.inner.in_transaction()

    def limit_time(self, expired: Callable[[], bool] | None) -> None:
        self.inner.limit_time(expired)

    def close(self) -> None:
        self.inner.close()


@contextmanager
def failing_writer(database, plan: Plan) -> Iterator[None]:
    """Give the writer of a database that is not open yet connections that follow the plan."""
    original = database._connect
    database._connect = lambda *args, **kwargs: FaultyConnection(original(*args, **kwargs), plan)
    yield
    database._connect = original


class FailingVfs(apsw.VFS):
    """The system's VFS, but the nth `xWrite` or `xSync` of a write-ahead log fails, or each from there on.

    With another `suffix`, of the files whose names end so.
    """

    def __init__(self, name: str, suffix: str = "-wal") -> None:
        super().__init__(name, "")
        self.name = name
        self.suffix = suffix
        self.counts = {"xWrite": 0, "xSync": 0}
        self._armed: tuple[str, int, int, bool] | None = None

    def xOpen(self, name, flags):
        return _FailingFile(self, name, flags)

    def arm(self, operation: str, nth: int, code: int, *, for_good: bool = False) -> None:
        self.counts = {"xWrite": 0, "xSync": 0}
        self._armed = (operation, nth, code, for_good)

    def heal(self) -> None:
        self._armed = None

    def check(self, operation: str) -> None:
        number = self.counts[operation]
        self.counts[operation] += 1
        if self._armed is None:
            return
        wanted, nth, code, for_good = self._armed
        if operation == wanted and (number == nth or (for_good and number > nth)):
            raise apsw.exception_for(code)


class _FailingFile(apsw.VFSFile):
    def __init__(self, vfs: FailingVfs, name, flags) -> None:
        text = name if isinstance(name, str) or name is None else name.filename()
        self._vfs, self._fails = vfs, str(text).endswith(vfs.suffix)
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        if self._fails:
            self._vfs.check("xWrite")
        return super().xWrite(data, offset)

    def xSync(self, flags):
        if self._fails:
            self._vfs.check("xSync")
        return super().xSync(flags)
