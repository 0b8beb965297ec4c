"""The SQLite writer: one thread, group commit, and the rules for when something fails.

Protocol. All waiting functions run in one `begin immediate`, each unit in a savepoint, and are acknowledged after the
one commit that covers them. A group closes at 256 functions or 5 ms of held lock. The items of a batched verb that
wait together are one call of it, so that a group costs one multi-row statement per table: each statement gives up the
GIL and, beside a saturated event loop, must win it back, which is where per-caller statements starve.

Invariants. S1: exactly the acknowledged functions are in the database.
* A savepoint isolates a function's own errors only. FULL, IOERR, NOMEM and INTERRUPT may roll back everything, after
  which later statements would commit alone. So after each unit the transaction must still be open; if it is not,
  nobody is acknowledged and each function of the group runs once more in a group of its own.
* A unit of several items that fails is run again item by item, so that one bad item fails alone.
* An error of `commit` is an unknown outcome: never retried. The connection is reopened, every write is refused until
  a probe write has committed, and the callers get `OutcomeUnknown`.
* No error of begin, release or commit ends this thread, and nothing that a function raises.

Lanes. `urgent` (heartbeats) runs ahead of whatever waits. `bulk` runs one job at a time in a group of its own, never
two in a row while callers wait. After 20 ms of use the lock is left free for 1 ms, for other processes.

Rejected: a busy time-out of SQLite's own (it backs off to 100 ms, so it would rarely meet that free millisecond).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, TypeVar

from ..errors import OutcomeUnknown, Unavailable
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from . import outbox
from .errors import DatabaseBusy, WriterBlocked
from .held import HeldTransaction
from .interpreter import hurry
from .jobs import AFTER_COMMIT, BEFORE_COMMIT, UNIT_WEIGHT, Job, run_callbacks, settle_all, units
from .lock_holder import write_lock_holder
from .sqlite_drivers import Connection
from .sqlite_transaction import SqliteTx
from .statements import Statements
from .transaction import Emission, drive

_Waiting = TypeVar("_Waiting")
Lane = Literal["normal", "urgent", "bulk"]

GROUP_JOBS: Final = 256
GROUP_S: Final = 0.005
GROUP_TOO_LONG_S: Final = 0.012
LEAST_UNIT_ROWS: Final = 32
"""A unit cannot be left half-way. Where one takes longer than the first, by a slow disk or beside a busy interpreter, the
next are of half as many rows, down to the second: the lock is everybody's, and a row costs no more in a smaller unit."""
SHARE_AFTER_S: Final = 0.020
SHARE_FOR_S: Final = 0.001
POLL_LOCK_S: Final = 0.0005
PROBE_EVERY_S: Final = 0.1
HELD_KEPT: Final = 4096
"""For how many groups the time with the write lock is remembered, so that its quantiles can be told."""

Q = Statements(__package__)
_log: Final = logging.getLogger("netra.storage")


class _TransactionLost(Exception):
    """The engine rolled back the whole group under us."""


@dataclass(slots=True)
class _Group:
    jobs: list[Job]
    emissions: list[Emission]


class SqliteWriter:
    """See the module's docstring. Created on any thread, then everything of the connection happens on its own."""

    def __init__(self, connect: Callable[[], Connection], path: Path, runtime: Runtime, *, blocked_after_s: float) -> None:
        self._connect = connect
        self._path = path
        self._runtime = runtime
        self._monotonic = runtime.clock.monotonic
        self._blocked_after_s = blocked_after_s
        self._lanes: dict[Lane, deque[Job]] = {"urgent": deque(), "normal": deque(), "bulk": deque()}
        self._held: deque[HeldTransaction] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._idle = False
        self._stopping = False
        self._over = False
        self._pause = threading.Event()
        self._used_s = 0.0
        self._unit_rows = UNIT_WEIGHT
        self._connection: Connection | None = None
        self.trouble: Unavailable | None = None
        self.on_unknown_outcome: list[Callable[[], None]] = []
        self.commits = 0
        self.held_max_s = 0.0
        self.held_s: deque[float] = deque(maxlen=HELD_KEPT)
        self._thread = threading.Thread(target=self._run, name="netra-writer", daemon=True)

    def start(self) -> None:
        """Open the connection (its error is the caller's) and start the thread."""
        self._connection = self._connect()
        self._thread.start()

    def submit(self, job: Job, lane: Lane = "normal") -> None:
        """Queue a job; callable from any thread."""
        self._lanes[lane].append(job)
        self._notify()
        if self._over:
            self._refuse_waiting(_closed())

    def hold(self, transaction: HeldTransaction) -> None:
        """Queue a transaction that its owner keeps open across awaits."""
        self._held.append(transaction)
        self._notify()
        if self._over:
            self._refuse_waiting(_closed())

    def stop(self) -> None:
        """Finish what waits, then end the thread and close the connection."""
        self._stopping = True
        self._wake.put(None)
        self._thread.join()

    def refuse(self) -> None:
        """Raise the reason why nothing can be written just now, if there is one."""
        trouble = self.trouble
        if trouble is not None:
            raise trouble.with_traceback(None)  # or each refused caller would add its frames to the one before
        if self._stopping:
            raise _closed()

    def _notify(self) -> None:
        if self._idle:
            hurry.begin(self)
            self._wake.put(None)

    def _run(self) -> None:
        while True:
            if self.trouble is not None:
                self._recover()
            elif self._lanes["urgent"] or self._lanes["normal"]:
                self._group(self._take(GROUP_JOBS), more=True)
                self._bulk()
                self._hold_one()
            elif self._lanes["bulk"] or self._held:
                self._bulk()
                self._hold_one()
            elif self._stopping:
                break
            else:
                self._sleep_until_woken()
        self._close()
        self._over = True
        self._refuse_waiting(_closed())
        hurry.end(self)

    def _sleep_until_woken(self) -> None:
        hurry.end(self)
        self._idle = True
        # Whoever queued before it saw the flag is found by this second look; whoever saw it has put a token.
        if not any(self._lanes.values()) and not self._held and not self._stopping:
            self._wake.get()
        self._idle = False
        hurry.begin(self)

    def _bulk(self) -> None:
        if self._lanes["bulk"]:
            self._group([self._lanes["bulk"].popleft()], more=False)

    def _hold_one(self) -> None:
        if not self._held:
            return
        held = self._held.popleft()
        if held.abandoned():
            return
        if not self._begin():
            held.refused(self.trouble or Unavailable())
            return
        doubt = held.serve(self._open_connection())
        if doubt is not None:
            self._distrust(doubt)

    def _take(self, limit: int) -> list[Job]:
        taken: list[Job] = []
        for lane in (self._lanes["urgent"], self._lanes["normal"]):
            while lane and len(taken) < limit:
                taken.append(lane.popleft())
        return taken

    def _group(self, jobs: list[Job], *, more: bool) -> None:
        if not self._begin():
            self._fail(jobs, self.trouble or Unavailable())
            return
        opened = self._monotonic()
        group = _Group([], [])
        try:
            self._fill(group, jobs, opened, more=more)
            self._flush(group)
        except _TransactionLost:
            self._rollback()
            self._rerun_alone(group.jobs)
        else:
            self._commit(group)
        self._share_the_lock(self._monotonic() - opened)

    def _fill(self, group: _Group, jobs: list[Job], opened: float, *, more: bool) -> None:
        while jobs:
            waiting = deque(units(jobs, self._unit_rows))
            try:
                while waiting and not (more and group.jobs and self._monotonic() - opened > GROUP_S):
                    unit = waiting.popleft()
                    group.jobs.extend(unit)
                    self._unit(group, unit)
            finally:  # whatever the time or an error kept out of this group goes first in the next one
                self._lanes["normal"].extendleft(job for unit in reversed(waiting) for job in reversed(unit))
            room = GROUP_JOBS - len(group.jobs)
            jobs = self._take(room) if more and room > 0 and self._monotonic() - opened < GROUP_S else []

    def _unit(self, group: _Group, unit: list[Job]) -> None:
        if self._attempt(group, unit) or len(unit) == 1:
            return
        for job in unit:
            self._attempt(group, [job])

    def _attempt(self, group: _Group, unit: list[Job]) -> bool:
        """Run one unit in a savepoint; True if it stands. A failed unit leaves its error in each of its jobs."""
        first = unit[0]
        tx = SqliteTx(self._open_connection(), first.scope, self._runtime)
        self._statement("savepoint netra")
        try:
            results = self._results(tx, unit)
        except BaseException as error:  # noqa: BLE001  (whatever a function raises is its caller's, and ends nobody else)
            for job in unit:
                job.error = error
            self._require_open()
            self._statement("rollback to netra")
            self._statement("release netra")
            run_callbacks(tx.undone())
            return False
        finally:
            tx.end()
        self._require_open()
        self._statement("release netra")
        group.emissions.extend(tx.emissions())
        for job, result in zip(unit, results, strict=True):
            failed = job.weight and isinstance(result, BaseException)
            job.value, job.error = (None, result) if failed else (result, None)
        first.callbacks = tx.callbacks()
        return True

    def _results(self, tx: SqliteTx, unit: list[Job]) -> list[Any]:
        first = unit[0]
        if not first.weight:
            result = drive(first.fn(tx, *first.args))
            tx.require_whole()
            return [result]
        results = list(drive(first.fn(tx, [job.args[0] for job in unit])))
        tx.require_whole()
        if len(results) != len(unit):
            raise RuntimeError(f"{first.fn.__qualname__} answered {len(results)} of {len(unit)} items")
        return results

    def _flush(self, group: _Group) -> None:
        if group.emissions:
            tx = SqliteTx(self._open_connection(), system_scope(), self._runtime)
            try:
                drive(outbox.write(tx, group.emissions))
            except Exception as error:
                raise _TransactionLost from error

    def _commit(self, group: _Group) -> None:
        try:
            self._runtime.failpoints.hit(BEFORE_COMMIT)
            self._open_connection().run("commit")
            self._runtime.failpoints.hit(AFTER_COMMIT)
        except Exception as error:  # noqa: BLE001  (whatever it was, nobody knows whether the rows are there)
            unknown = OutcomeUnknown(f"the commit failed: {error}")
            unknown.__cause__ = error
            self._distrust(unknown)
            self._fail(group.jobs, unknown)
            return
        self.commits += 1
        settle_all(group.jobs)

    def _rerun_alone(self, jobs: list[Job]) -> None:
        """Each function once more in a group of its own; what loses its transaction again has failed for good."""
        for job in jobs:
            failed_by = job.error
            job.value = job.error = None
            job.callbacks = []
            if not self._begin():
                self._fail([job], self.trouble or Unavailable())
                continue
            group = _Group([job], [])
            try:
                self._attempt(group, [job])
                self._flush(group)
            except _TransactionLost as lost:
                self._rollback()
                self._fail([job], _why(lost.__cause__, job.error, failed_by))
            else:
                self._commit(group)

    def _begin(self) -> bool:
        """Take the write lock; False once another process has held it for too long (and `trouble` says so)."""
        if self.trouble is not None:
            return False
        try:
            self._wait_for_lock(self._open_connection(), self._blocked_after_s)
        except DatabaseBusy:
            pid = write_lock_holder(self._path)
            self.trouble = WriterBlocked(f"pid {pid} has held the write lock for {self._blocked_after_s:g} s", pid=pid)
            _log.error("%s", self.trouble)
        except Exception as error:  # noqa: BLE001  (no error of begin ends the writer)
            self._distrust(error)
        return self.trouble is None

    def _wait_for_lock(self, connection: Connection, limit_s: float) -> None:
        started = self._monotonic()
        while True:
            try:
                connection.run("begin immediate")
            except DatabaseBusy:
                if self._monotonic() - started > limit_s:
                    raise
                self._pause.wait(POLL_LOCK_S)
            else:
                return

    def _require_open(self) -> None:
        if not self._open_connection().in_transaction():
            raise _TransactionLost

    def _statement(self, sql: str) -> None:
        try:
            self._open_connection().run(sql)
        except Exception as error:
            raise _TransactionLost from error
        self._require_open()

    def _rollback(self) -> None:
        try:
            if self._open_connection().in_transaction():
                self._open_connection().run("rollback")
        except Exception as error:  # noqa: BLE001  (nor of rollback)
            self._distrust(error)

    def _fail(self, jobs: list[Job], error: BaseException) -> None:
        for job in jobs:
            job.error, job.value, job.callbacks = error, None, []
        settle_all(jobs)

    def _distrust(self, error: Exception) -> None:
        """After an error of begin, commit or rollback: a new connection, and no write before a probe has committed."""
        _log.error("the writer lost its connection: %s", error)
        self.trouble = _as_unavailable(error)
        self._close()
        for listener in self.on_unknown_outcome if isinstance(error, OutcomeUnknown) else ():
            try:
                listener()
            except Exception:  # noqa: BLE001  (nor of who listens)
                _log.exception("a listener to unknown outcomes failed")

    def _recover(self) -> None:
        """Fail what waits, then try one probe write; wait a little if it does not commit."""
        self._refuse_waiting(self.trouble or Unavailable())
        if self._probe():
            self.trouble = None
        elif self._stopping:
            self.trouble = None  # nothing is left to write, and nobody can queue any more
        else:
            try:
                self._wake.get(timeout=PROBE_EVERY_S)
            except Empty:
                return

    def _refuse_waiting(self, error: Unavailable) -> None:
        self._fail([job for lane in self._lanes.values() for job in _drain(lane)], error)
        for held in _drain(self._held):
            held.refused(error)

    def _probe(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._wait_for_lock(self._connection, PROBE_EVERY_S)
            self._connection.run(Q.probe.sqlite)
            self._connection.run("commit")
        except DatabaseBusy:
            return False
        except Exception as error:  # noqa: BLE001  (nor of a probe)
            self.trouble = _as_unavailable(error)
            self._close()
            return False
        return True

    def _share_the_lock(self, used_s: float) -> None:
        self._used_s += used_s
        self.held_max_s = max(self.held_max_s, used_s)
        self.held_s.append(used_s)
        if used_s > GROUP_TOO_LONG_S:
            self._unit_rows = max(self._unit_rows // 2, LEAST_UNIT_ROWS)
        elif used_s < GROUP_TOO_LONG_S / 2:
            self._unit_rows = min(self._unit_rows * 2, UNIT_WEIGHT)
        if self._used_s >= SHARE_AFTER_S:
            self._used_s = 0.0
            self._pause.wait(SHARE_FOR_S)

    def _open_connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # noqa: BLE001  (it is given up anyway)
                _log.exception("closing the writer's connection failed")


def _drain(lane: deque[_Waiting]) -> list[_Waiting]:
    waiting = []
    with contextlib.suppress(IndexError):  # two threads may drain at once when the writer stops
        while True:
            waiting.append(lane.popleft())
    return waiting


def _as_unavailable(error: Exception) -> Unavailable:
    candidates = (error, error.__cause__)
    return next((candidate for candidate in candidates if isinstance(candidate, Unavailable)), Unavailable(str(error)))


def _why(*errors: BaseException | None) -> BaseException:
    return next((error for error in errors if error is not None), Unavailable("the database rolled the transaction back"))


def _closed() -> Unavailable:
    return Unavailable("this database is closed")
