"""Logs as folders, made from the specifications alone: honest ones, and every forgery that somebody with the files could try."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519

from .audit_verifier import files_of, name_of, tree_hash

ORIGIN = "netra.test/here/acme/1-0a0b0c0d"
SEED = bytes(range(32))


def entry(number: int, tenant: str = "acme", **facts) -> bytes:
    """An entry of version 1; `facts` replace its members."""
    made = {
        "action": "thing.done",
        "actor": "tester",
        "after": {"number": number},
        "at_us": 1_700_000_000_000_000 + number,
        "before": None,
        "id": f"aud_{number:026d}",
        "outcome": "ok",
        "personal": None,
        "span_id": "",
        "table": "",
        "target": f"thing-{number}",
        "tenant": tenant,
        "trace_id": "",
        "v": 1,
    }
    return json.dumps(made | facts, separators=(",", ":"), sort_keys=True).encode()


def entries(count: int) -> list[bytes]:
    return [entry(number) for number in range(count)]


def note_of(size: int, root: bytes, origin: str = ORIGIN, seed: bytes = SEED) -> str:
    """A signed checkpoint."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    public = b"\x01" + key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(origin.encode() + b"\n" + public).digest()[:4]
    return f"{text}\n— {origin} {base64.b64encode(key_id + key.sign(text.encode())).decode()}\n"


def vkey_of(origin: str = ORIGIN, seed: bytes = SEED) -> str:
    public = b"\x01" + ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    key_id = hashlib.sha256(origin.encode() + b"\n" + public).digest()[:4]
    return f"{origin}+{key_id.hex()}+{base64.b64encode(public).decode()}"


def root_of(log: list[bytes]) -> bytes:
    return tree_hash([hashlib.sha256(b"\x00" + each).digest() for each in log])


def write(folder: Path, log: list[bytes], *, origin: str = ORIGIN, seed: bytes = SEED, note: str = "") -> Path:
    """The folder of a log; `note` in place of a checkpoint of its own."""
    leaves = [hashlib.sha256(b"\x00" + each).digest() for each in log]
    put(folder, "checkpoint", (note or note_of(len(log), tree_hash(leaves), origin, seed)).encode())
    put(folder, "vkey", vkey_of(origin, seed).encode() + b"\n")
    put(folder, "entries.ndjson", b"".join(each + b"\n" for each in log))
    for number, width in files_of(len(log), 0):
        bundle = log[256 * number : 256 * number + width]
        put(folder, name_of("tile/entries", number, width), b"".join(struct.pack(">H", len(each)) + each for each in bundle))
    level, row = 0, leaves
    while row:
        for number, width in files_of(len(log), level):
            put(folder, name_of(f"tile/{level}", number, width), b"".join(row[256 * number : 256 * number + width]))
        row = [tree_hash(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]
        level += 1
    return folder


def put(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# Forgeries: each takes an honest log and the checkpoint that was published of it, and writes another folder


def edited(folder: Path, log: list[bytes], note: str) -> int:
    at = len(log) // 2
    write(folder, [*log[:at], entry(at, target="somebody else's"), *log[at + 1 :]], note=note)
    return 0


def edited_in_the_bundle(folder: Path, log: list[bytes], note: str) -> int:
    write(folder, log, note=note)
    at = len(log) // 2
    name = next(name_of("tile/entries", n, w) for n, w in files_of(len(log), 0) if 256 * n <= at < 256 * n + w)
    data = (folder / name).read_bytes()
    put(folder, name, data.replace(b"thing-%d" % at, b"Thing-%d" % at, 1))
    return at


def deleted(folder: Path, log: list[bytes], note: str) -> int:
    at = len(log) // 2
    write(folder, [*log[:at], *log[at + 1 :]], note=note)
    return 0


def reordered(folder: Path, log: list[bytes], note: str) -> int:
    write(folder, [log[-1], *log[1:-1], log[0]], note=note)
    return 0


def truncated(folder: Path, log: list[bytes], note: str) -> int:
    write(folder, log[:-1], note=note)
    return 0


def truncated_and_signed_by_another(folder: Path, log: list[bytes], note: str) -> int:
    """The key in the folder is swapped too, so only whoever has the key from elsewhere can tell."""
    write(folder, log[:-1], seed=b"\x07" * 32)
    return 0


def rewritten(folder: Path, log: list[bytes], note: str) -> int:
    """By whoever has the key: a log of the same size with another root. Only a checkpoint from earlier tells."""
    write(folder, [*log[:-1], entry(len(log) - 1, action="thing.undone")])
    return 0


def rewritten_and_longer(folder: Path, log: list[bytes], note: str) -> int:
    write(folder, [entry(0, action="thing.undone"), *log[1:], entry(len(log))])
    return 0


def shorter(folder: Path, log: list[bytes], note: str) -> int:
    """By whoever has the key: an older state, signed anew."""
    write(folder, log[:-1])
    return 0


def of_another_tenant(folder: Path, log: list[bytes], note: str) -> int:
    write(folder, [*log[:-1], entry(len(log) - 1, tenant="globex")])
    return len(log) - 1


def with_a_file_too_many(folder: Path, log: list[bytes], note: str) -> int:
    write(folder, log, note=note)
    put(folder, "tile/0/999", bytes(8192))
    return len(log)


WITHOUT_MORE: tuple[Callable[[Path, list[bytes], str], int], ...] = (
    edited, edited_in_the_bundle, deleted, reordered, truncated, of_another_tenant, with_a_file_too_many,
)  # fmt: skip
"""Found from the folder alone."""

BY_THE_KEY = (truncated_and_signed_by_another,)
"""Found by whoever has the key from elsewhere."""

BY_MEMORY = (rewritten, rewritten_and_longer, shorter)
"""Found by whoever kept a checkpoint."""


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to
