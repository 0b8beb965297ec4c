"""Judges an exported log from its files alone: no database, no network, no secret.

Everything is computed anew from the entries: the leaf hashes, each tile of each level, the root. Then it is compared with the files and
with the signed checkpoint. So a byte that was changed anywhere is found, and named by the first entry that it puts in doubt.

What this cannot see alone is a log that was written anew and signed again by whoever has the key: for that give it a checkpoint that
was kept from earlier (`earlier`), or the verifier key from another source than the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from . import entry, merkle, note, receipt, tiles
from .merkle import HASH_BYTES, TILE, Place
from .note import Checkpoint, MalformedNote, VerifierKey
from .tiles import Resource

CHECKPOINT: Final = "checkpoint"
VKEY: Final = "vkey"
NDJSON: Final = "entries.ndjson"
MINIMUM: Final = "minimum-index"
LONGEST_NUMBER: Final = 19
PRUNED: Final = "log.prune"
"""The action of the entry by which a log says that it gave older entries away."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `first_bad` is the index of the first entry that cannot be relied on; `minimum` that of the first one kept."""

    ok: bool
    tenant: str | None
    size: int | None
    root: str | None
    first_bad: int | None = None
    file: str | None = None
    reason: str | None = None
    origin: str | None = None
    minimum: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


class _Bad(Exception):
    """Something does not hold: from which entry on, in which file, and why."""

    def __init__(self, index: int, file: str, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.file = file
        self.reason = reason


@dataclass
class _Log:
    """A folder, and what is known of it so far."""

    folder: Path
    checkpoint: Checkpoint | None = None
    minimum: int = 0
    tiles: dict[Place, bytes] = field(default_factory=dict)

    def read(self, path: str, index: int) -> bytes:
        """A file's bytes; one that is missing puts everything from `index` in doubt."""
        try:
            return (self.folder / path).read_bytes()
        except OSError:
            raise _Bad(index, path, "the file is missing or cannot be read") from None

    def text(self, path: str) -> str:
        """A file of the whole log."""
        try:
            return self.read(path, 0).decode("utf-8")
        except UnicodeDecodeError:
            raise _Bad(0, path, "the file is not UTF-8") from None


def verify(folder: Path, vkey: str | None = None, earlier: Sequence[str] = ()) -> Verdict:
    """Judge the folder of an export. `vkey` is the verifier key's text; without it the folder's own is believed.

    `earlier` are signed notes of checkpoints that were kept from earlier: the log must begin with each of those trees.
    """
    log = _Log(folder)
    try:
        key = _open(log, vkey)
        _verify_tree(log)
        for kept in earlier:
            _verify_earlier(log, key, kept)
    except _Bad as bad:
        return _verdict(log, bad)
    return _verdict(log, None)


def tenant_of(origin: str) -> str | None:
    """The tenant that an origin names: the last part but one."""
    parts = origin.split("/")
    return parts[-2] if len(parts) >= 3 else None


def _verdict(log: _Log, bad: _Bad | None) -> Verdict:
    shown = log.checkpoint
    tenant, size, root, origin = _facts(shown) if shown is not None else (None, None, None, None)
    if bad is None:
        return Verdict(True, tenant, size, root, origin=origin, minimum=log.minimum)
    return Verdict(False, tenant, size, root, bad.index, bad.file, bad.reason, origin, log.minimum)


def _facts(checkpoint: Checkpoint) -> tuple[str | None, int, str, str]:
    return tenant_of(checkpoint.origin), checkpoint.size, checkpoint.root.hex(), checkpoint.origin


def _open(log: _Log, vkey: str | None) -> VerifierKey:
    """The checkpoint, judged by the key."""
    try:
        own = VerifierKey.parse(log.text(VKEY))
        if log.text(VKEY) != own.text + "\n":
            raise _Bad(0, VKEY, "the file is not one verifier key and a line's end")
    except MalformedNote as error:
        raise _Bad(0, VKEY, str(error)) from None
    try:
        key = VerifierKey.parse(vkey) if vkey is not None else own
    except MalformedNote as error:
        raise _Bad(0, "--vkey", str(error)) from None
    if key != own:
        raise _Bad(0, VKEY, "the folder's key is not the one that was given")
    try:
        log.checkpoint = note.open_note(log.text(CHECKPOINT), key)
    except MalformedNote as error:
        raise _Bad(0, CHECKPOINT, str(error)) from None
    if log.checkpoint.origin != key.name:
        raise _Bad(0, CHECKPOINT, "the checkpoint's origin is not the key's name")
    return key


def _verify_tree(log: _Log) -> None:
    assert log.checkpoint is not None
    size = log.checkpoint.size
    log.minimum = _minimum(log, size)
    hashes, pruned_at = _leaves(log, size)
    level = 0
    while hashes:
        _compare_level(log, level, hashes, size)
        full = len(hashes) // HASH_BYTES // TILE * TILE * HASH_BYTES
        hashes = b"".join([merkle.complete_root(hashes[at : at + TILE * HASH_BYTES]) for at in range(0, full, TILE * HASH_BYTES)])
        level += 1
    if merkle.range_root(log.tiles, 0, size) != log.checkpoint.root:
        raise _Bad(0, CHECKPOINT, "the root over the entries is not the one that was signed")
    if log.minimum and pruned_at < log.minimum:
        raise _Bad(0, MINIMUM, "no entry of the log says that entries were given away up to there")
    _verify_file_list(log, size)


def _minimum(log: _Log, size: int) -> int:
    """The first entry that is kept: 0, or what `minimum-index` says, a whole number of bundles."""
    if not (log.folder / MINIMUM).exists():
        return 0
    text = log.text(MINIMUM)
    number = _number(text.removesuffix("\n"))
    if text != f"{number}\n" or not number or number % TILE or number > size:
        raise _Bad(0, MINIMUM, "it is not a whole number of bundles within the log")
    return number


def _leaves(log: _Log, size: int) -> tuple[bytes, int]:
    """The leaf hashes side by side, computed from the entries where those are kept; up to where an entry says it was pruned."""
    assert log.checkpoint is not None
    tenant = tenant_of(log.checkpoint.origin)
    hashes, pruned = [_pruned_tile(log, number) for number in range(log.minimum // TILE)], 0
    with _Lines(log) as lines:
        for resource in tiles.resources_of(size, log.minimum // TILE):
            if resource.level is not None:
                continue
            first = resource.first_leaf
            found = tiles.unbundle(log.read(resource.path, first))
            if found is None or len(found) != resource.width:
                raise _Bad(first, resource.path, f"it does not hold {resource.width} whole entries")
            leaves = [merkle.leaf_hash(each) for each in found]
            _compare_tile(log, Resource(0, resource.number, resource.width), b"".join(leaves))
            for index, each in enumerate(found, first):
                lines.compare(index, each)
                pruned = max(pruned, _judge_entry(index, each, tenant, resource.path))
            hashes += leaves
        lines.compare_end(size)
    return b"".join(hashes), pruned


def _pruned_tile(log: _Log, number: int) -> bytes:
    """The leaf hashes that stand for entries which were given away."""
    path = Resource(0, number).path
    found = log.read(path, number * TILE)
    if len(found) != TILE * HASH_BYTES:
        raise _Bad(number * TILE, path, f"it does not hold {TILE} hashes")
    return found


class _Lines:
    """`entries.ndjson`, read beside the bundles: each line is one entry, byte by byte."""

    def __init__(self, log: _Log) -> None:
        self._path = log.folder / NDJSON

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("rb")
        except OSError:
            raise _Bad(0, NDJSON, "the file is missing or cannot be read") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def compare(self, index: int, wanted: bytes) -> None:
        """The next line."""
        if self._file.readline() != wanted + b"\n":
            raise _Bad(index, NDJSON, "the line is not the entry of the bundle")

    def compare_end(self, size: int) -> None:
        """Nothing follows."""
        if self._file.read(1):
            raise _Bad(size, NDJSON, "there are more lines than entries")


def _judge_entry(index: int, data: bytes, tenant: str | None, path: str) -> int:
    """That it is an entry of this tenant; the index that it says was pruned up to, or 0."""
    found = entry.decode(data)
    if found is None:
        raise _Bad(index, path, "it is no entry of version 1")
    if found["tenant"] != tenant:
        raise _Bad(index, path, "it is an entry of another tenant")
    after = found["after"]
    return _number(str(after.get("minimum"))) if found["action"] == PRUNED and isinstance(after, dict) else 0


def _number(text: str) -> int:
    """The number of a size or an index; 0 for what is none, for whoever wrote the folder may have written anything."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else 0


def _compare_level(log: _Log, level: int, hashes: bytes, size: int) -> None:
    for resource in _of_level(size, level):
        at = resource.number * TILE * HASH_BYTES
        wanted = hashes[at : at + resource.width * HASH_BYTES]
        _compare_tile(log, resource, wanted)
        log.tiles[level, resource.number] = wanted


def _compare_tile(log: _Log, resource: Resource, wanted: bytes) -> None:
    """The tile's file has these hashes; else the first entry below the first one that differs."""
    found = log.read(resource.path, resource.first_leaf)
    if found != wanted:
        places = range(0, min(len(found), len(wanted)), HASH_BYTES)
        same = next((at for at in places if found[at : at + HASH_BYTES] != wanted[at : at + HASH_BYTES]), len(places) * HASH_BYTES)
        first = resource.first_leaf + (same // HASH_BYTES << merkle.TILE_BITS * (resource.level or 0))
        raise _Bad(first, resource.path, "its hashes are not those of what is below it")


def _of_level(size: int, level: int) -> Iterator[Resource]:
    return (each for each in tiles.resources_of(size) if each.level == level)


def _verify_file_list(log: _Log, size: int) -> None:
    wanted = {each.path for each in tiles.resources_of(size, log.minimum // TILE)}
    root = log.folder / "tile"
    found = {str(path.relative_to(log.folder)) for path in root.rglob("*") if path.is_file()} if root.exists() else set()
    for extra in sorted(found - wanted):
        raise _Bad(size, extra, "a tree of this size has no such file")


def _verify_earlier(log: _Log, key: VerifierKey, text: str) -> None:
    """A checkpoint from earlier, of this origin or a former one, which the same key has signed under its own name."""
    assert log.checkpoint is not None
    try:
        kept = note.open_note(text, VerifierKey(note.read_note(text).origin, key.public))
    except MalformedNote as error:
        raise _Bad(0, "--checkpoint", str(error)) from None
    if tenant_of(kept.origin) != tenant_of(log.checkpoint.origin):
        raise _Bad(0, "--checkpoint", "it is of another log")
    if kept.size > log.checkpoint.size:
        raise _Bad(log.checkpoint.size, "--checkpoint", f"the log had {kept.size} entries already")
    if merkle.range_root(log.tiles, 0, kept.size) != kept.root:
        raise _Bad(0, "--checkpoint", f"the log's first {kept.size} entries are not those of then")


def verify_receipt(text: bytes, vkey: str) -> Verdict:
    """Judge the receipt of one entry: the entry, and the proof that a signed checkpoint covers it."""
    try:
        key = VerifierKey.parse(vkey)
        found = receipt.parse(text)
        checkpoint = note.open_note(found.checkpoint, key)
    except (MalformedNote, receipt.MalformedReceipt) as error:
        return Verdict(False, None, None, None, 0, None, str(error))
    reason = _fault_of(found, checkpoint)
    tenant, size, root, origin = _facts(checkpoint)
    return Verdict(not reason, tenant, size, root, found.index if reason else None, None, reason or None, origin)


def _fault_of(found: receipt.Receipt, checkpoint: Checkpoint) -> str:
    """What is wrong with a receipt under a checkpoint that holds; nothing if it proves its entry."""
    if found.index >= checkpoint.size:
        return "the checkpoint does not reach the entry"
    root = merkle.root_by_inclusion(merkle.leaf_hash(found.entry), found.index, checkpoint.size, found.hashes)
    if root != checkpoint.root:
        return "the proof does not lead from the entry to the signed root"
    decoded = entry.decode(found.entry)
    if decoded is None or decoded["tenant"] != tenant_of(checkpoint.origin):
        return "it is no entry of this tenant"
    return ""
