"""Records of the batch part: frozen, as they stand in rows; and a chunk on its way through memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..kernel.ids import to_text
from ..kernel.scope import TraceContext

Cursor = Any
"""Where a reader goes on: whatever JSON can say. None is the beginning."""

LONGEST_ERROR: Final = 2000
"""Characters of an error that a dead letter keeps."""


class RunId(str):
    """A run's id as text, `run_...`, which knows its tenant so that `status(run)` need not be told."""

    __slots__ = ("tenant",)

    tenant: str

    def __new__(cls, text: str, tenant: str) -> RunId:  # noqa: PYI034  (Self would say less)
        """The text, and whose run it is."""
        made = super().__new__(cls, text)
        made.tenant = tenant
        return made


@dataclass(frozen=True, slots=True)
class Malformed:
    """What a reader could not make an item of: it becomes a dead letter instead of ending the run."""

    raw: str
    error: str


@dataclass(frozen=True, slots=True)
class Again:
    """An item of a former run, with the key that it had there."""

    item: Any
    key: str


@dataclass(frozen=True, slots=True)
class Part:
    """One partition as its reader plans it: `spec` is JSON for `read`, `total` how many items, None if nobody knows."""

    spec: Any
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run."""

    tenant: str
    id: bytes
    job: str
    key: str
    params: Mapping[str, Any]
    parent: bytes | None
    state: str
    wanted: int
    partitions: int | None
    reason: str | None
    created_us: int
    started_us: int | None
    finished_us: int | None
    trace: TraceContext = field(default_factory=TraceContext)
    priority: int = 0
    waits_for: tuple[bytes, ...] = ()

    @property
    def text_id(self) -> RunId:
        """The id as text: `run_...`."""
        return RunId(to_text("run", self.id), self.tenant)


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run for which there may be something to do; `place` is its place among those that are looked at.

    `waits_for` are the runs that it comes after, of one that may have to wait for them.
    """

    tenant: str
    id: bytes
    job: str
    state: str
    partitions: int | None
    priority: int = 0
    waits_for: tuple[bytes, ...] = ()
    place: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over a run's partitions, as one statement sees them. `total` is None while some partition's is not known."""

    partitions: int = 0
    open: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    restarts: int = 0
    total: int | None = None
    working: int = 0
    chunk_size: int = 0
    memory_level: int = 0
    executor: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A partition as it was claimed: every change under it names `node` and `fence`.

    `crashes` counts the owners that died since its last commit, `item_bytes` is about how much an item holds.
    """

    tenant: str
    run_id: bytes
    number: int
    node: bytes
    fence: int
    spec: Any
    cursor: Cursor
    position: int
    chunk_size: int
    failure_ppm: int
    crashes: int = 0
    item_bytes: int = 0

    @property
    def words(self) -> str:
        """For logs: `run_.../3`."""
        return f"{to_text('run', self.run_id)}/{self.number}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one item cannot be part of the output."""

    error: str
    attempts: int
    cause: str = "error"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A stored failure."""

    partition: int
    offset: int
    key: str
    place: Cursor
    payload: Any
    exact: bool
    cause: str
    error: str
    attempts: int


class Rows(list[Any]):
    """What a writer gets: the processed items, in order, with a stable key for each.

    A writer to another system gives `keys` along, for there each chunk may arrive a second time.
    """

    __slots__ = ("keys",)

    def __init__(self, values: Sequence[Any], keys: Sequence[str] = ()) -> None:
        super().__init__(values)
        self.keys = keys


@dataclass(slots=True)
class Chunk:
    """Items between two cursors, read and processed, nothing written yet.

    `start` is the position of the first and `before` the cursor in front of it; `after[i]` is the cursor behind item i. An item
    whose `values[i]` is None is skipped; one that is in `failures` is a dead letter already. `last` says that nothing follows.
    """

    start: int
    before: Cursor
    items: list[Any]
    after: list[Cursor]
    values: list[Any]
    failures: dict[int, Failure]
    last: bool
    keys: list[str] = field(default_factory=list)
    item_bytes: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def place(self, index: int) -> Cursor:
        """The cursor in front of item `index`."""
        return self.after[index - 1] if index else self.before

    def rest(self, begin: int) -> Chunk:
        """What a commit that ended early has left over."""
        failures = {index - begin: failure for index, failure in self.failures.items() if index >= begin}
        parts = (self.items[begin:], self.after[begin:], self.values[begin:])
        return Chunk(self.start + begin, self.place(begin), *parts, failures, self.last, self.keys[begin:], self.item_bytes)


@dataclass(frozen=True, slots=True)
class Committed:
    """What one chunk's transaction did: how far it came, in how long, and what it learned."""

    end: int
    failed: int
    finished: bool
    held_s: float
    chunk_size: int
    failure_ppm: int
    item_bytes: int = 0


def words(error: BaseException) -> str:
    """An error as a dead letter keeps it: its kind and what it says, printable and bounded."""
    text = f"{type(error).__name__}: {error}"
    return "".join(letter if letter.isprintable() else " " for letter in text)[:LONGEST_ERROR]
