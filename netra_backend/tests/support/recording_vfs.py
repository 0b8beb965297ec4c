"""A VFS that writes down what SQLite asks of the disk, and the disks that a power cut may leave.

The model. A write, a truncation or an unlink is pending until a sync of its file; a cut keeps any subset of what is
pending, in order, and of a write any subset of its 512-byte sectors. A sector is never torn itself (SQLite's
"powersafe overwrite", which its log does not even rely on, since each frame has a checksum). A sync of any file makes
earlier unlinks in the folder durable, as a journalling file system does and as SQLite's own sync of a new file's folder
demands.

Danger: `xSync` only writes down that it was called. The images come from the log, so the machine's disk need not sync.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

SECTOR = 512


@dataclass(frozen=True)
class Write:
    """Bytes at an offset."""

    file: str
    offset: int
    data: bytes

    def sectors(self) -> Iterator[Write]:
        """The same bytes, cut where the disk's sectors end."""
        at = 0
        while at < len(self.data):
            length = min(SECTOR - (self.offset + at) % SECTOR, len(self.data) - at)
            yield Write(self.file, self.offset + at, self.data[at : at + length])
            at += length


@dataclass(frozen=True)
class Truncate:
    """A file's new length."""

    file: str
    size: int


@dataclass(frozen=True)
class Delete:
    """An unlink."""

    file: str


@dataclass(frozen=True)
class Sync:
    """Everything asked of the file so far is durable."""

    file: str


@dataclass(frozen=True)
class Acknowledged:
    """A caller was told that its write is done."""

    who: str


Entry = Write | Truncate | Delete | Sync | Acknowledged


class RecordingVfs(apsw.VFS):
    """The system's VFS with a `log` of what it was asked, in order, over all connections."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.log: list[Entry] = []

    def xOpen(self, name, flags):
        # what has no name is SQLite's own while it sorts or rewrites a table: a cut leaves nothing of it
        return apsw.VFSFile("", name, flags) if name is None else _RecordedFile(self, name, flags)

    def xDelete(self, name, sync):
        super().xDelete(name, sync)
        self.log.append(Delete(Path(name).name))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, vfs: RecordingVfs, name, flags) -> None:
        self._log, self._name = vfs.log, Path(name if isinstance(name, str) else name.filename()).name
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        self._log.append(Write(self._name, offset, bytes(data)))

    def xTruncate(self, size):
        super().xTruncate(size)
        self._log.append(Truncate(self._name, size))

    def xSync(self, flags):
        self._log.append(Sync(self._name))


@dataclass
class Disk:
    """What is durable, what is pending, and who was acknowledged, at one point of a log."""

    durable: dict[str, bytearray] = field(default_factory=dict)
    pending: dict[str, list[Write | Truncate | Delete]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        if isinstance(entry, Acknowledged):
            self.acknowledged.add(entry.who)
        elif isinstance(entry, Sync):
            self._settle(entry.file, len(self.pending.get(entry.file, [])))
            for file, operations in list(self.pending.items()):
                unlinked = [number for number, operation in enumerate(operations, 1) if isinstance(operation, Delete)]
                self._settle(file, max(unlinked, default=0))
        else:
            self.pending.setdefault(entry.file, []).append(entry)

    def _settle(self, file: str, count: int) -> None:
        operations = self.pending.get(file, [])
        apply(self.durable, operations[:count])
        self.pending[file] = operations[count:]

    def after_a_cut(self, rng: random.Random) -> dict[str, bytearray]:
        """The files after the power went: everything durable, and some of the rest."""
        keep = rng.choice([0.0, 0.5, 0.5, 0.9, 1.0])
        files = {name: bytearray(content) for name, content in self.durable.items()}
        for operations in self.pending.values():
            pieces = (piece for operation in operations for piece in _pieces(operation))
            apply(files, [piece for piece in pieces if rng.random() < keep])
        return files


def _pieces(operation: Write | Truncate | Delete) -> Iterable[Write | Truncate | Delete]:
    return operation.sectors() if isinstance(operation, Write) else [operation]


def apply(files: dict[str, bytearray], operations: Iterable[Write | Truncate | Delete]) -> None:
    """Carry the operations out on files in memory."""
    for operation in operations:
        if isinstance(operation, Delete):
            files.pop(operation.file, None)
            continue
        content = files.setdefault(operation.file, bytearray())
        if isinstance(operation, Truncate):
            del content[operation.size :]
            continue
        end = operation.offset + len(operation.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[operation.offset : end] = operation.data


def images(log: list[Entry], count: int, rng: random.Random) -> Iterator[tuple[dict[str, bytearray], set[str]]]:
    """`count` disks, each after a cut at some point of the log, with who was acknowledged by then.

    A quarter of the cuts fall anywhere, the others where something has been acknowledged that could be lost: or every new
    migration, before which there is nothing, would make the rest of the log count for less.
    """
    first = next(place for place, entry in enumerate(log) if isinstance(entry, Acknowledged))
    cuts = rng.choices(range(len(log) + 1), k=count // 4) + rng.choices(range(first, len(log) + 1), k=count - count // 4)
    disk, done = Disk(), 0
    for cut in sorted(cuts):
        for entry in log[done:cut]:
            disk.add(entry)
        done = cut
        yield disk.after_a_cut(rng), set(disk.acknowledged)
