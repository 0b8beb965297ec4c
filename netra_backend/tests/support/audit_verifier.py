"""A second judge of exported audit logs and of receipts, written from the specifications alone and sharing no line with the product.

RFC 6962 section 2.1 by its recursive definition, C2SP tlog-tiles (with pruning), signed-note, tlog-checkpoint and tlog-proof. It answers yes
or no, and why not. It is a program of its own, for which this file and `cryptography` are enough:

    python audit_verifier.py FOLDER|RECEIPT [--vkey FILE] [--seen CHECKPOINT]...

prints `holds`, or why not, and exits 0 or 1.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519


class Forged(Exception):
    """It does not hold."""


def demand(holds: object, why: str) -> None:
    if not holds:
        raise Forged(why)


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of leaf hashes, without recursion over slices of a whole log: by levels, with the odd node carried up."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = leaves
    while len(level) > 1:
        paired = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def path_of(number: int) -> str:
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    return "/".join(parts)


def files_of(size: int, level: int) -> list[tuple[int, int]]:
    """Number and width of the tiles of a level."""
    count = size // 256**level
    return [(n, min(256, count - 256 * n)) for n in range((count + 255) // 256)]


def name_of(prefix: str, number: int, width: int) -> str:
    return f"{prefix}/{path_of(number)}" + ("" if width == 256 else f".p/{width}")


def load(folder: Path, name: str) -> bytes:
    path = folder / name
    demand(path.is_file(), f"{name} is missing")
    return path.read_bytes()


def signed_head(note: str, line: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint, under the key of that line."""
    demand(line.endswith("\n") and line.count("\n") == 1, "vkey is one line")
    name, key_id, blob = line[:-1].split("+", 2)
    key = base64.b64decode(blob, validate=True)
    demand(base64.b64encode(key).decode() == blob, "vkey is canonical")
    demand(len(key) == 33 and key[0] == 1, "an Ed25519 key")
    demand(hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_id, "the key's id")
    split = note.rindex("\n\n")
    body, lines = note[: split + 1], note[split + 2 :].splitlines(keepends=True)
    signed = False
    for each in lines:
        demand(each.startswith("— ") and each.endswith("\n") and "\r" not in each, "a signature line")
        who, signature = each[2:-1].split(" ")
        raw = base64.b64decode(signature, validate=True)
        demand(base64.b64encode(raw).decode() == signature, "a signature is canonical")
        if who == name and raw[:4].hex() == key_id:
            ed25519.Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], body.encode())
            signed = True
    demand(signed, "nobody has signed")
    origin, size, root, *more = body[:-1].split("\n")
    demand(origin == name and not more, "origin")
    demand(size.isdigit() and str(int(size)) == size, "size")
    return origin, int(size), base64.b64decode(root, validate=True)


def judge(folder: Path, earlier: list[tuple[int, bytes]] = (), vkey: str = "") -> str | None:
    """None if the export holds, else why not. `earlier` are sizes and roots that were seen before, `vkey` the key from elsewhere."""
    return _words(lambda: _judge(folder, earlier, vkey))


def judge_receipt(receipt: bytes, vkey: str) -> str | None:
    """None if a checkpoint under that key covers the receipt's entry, else why not."""
    return _words(lambda: _judge_receipt(receipt.decode("utf-8", "strict"), vkey))


def _words(work) -> str | None:
    try:
        work()
    except Forged as why:
        return str(why)
    except (InvalidSignature, ValueError, UnicodeDecodeError, struct.error, KeyError, TypeError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _judge(folder: Path, earlier: list[tuple[int, bytes]], vkey: str) -> None:
    line = load(folder, "vkey").decode("utf-8", "strict")
    demand(not vkey or vkey == line, "another key")
    origin, size, root = signed_head(load(folder, "checkpoint").decode("utf-8", "strict"), line)
    tenant = origin.split("/")[-2]
    minimum = given_away(folder, size)
    leaves, entries, expected = [], [], set()
    for number, width in files_of(size, 0):
        name = name_of("tile/entries", number, width)
        if 256 * number < minimum:
            hashes = load(folder, name_of("tile/0", number, width))
            leaves += [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
            continue
        expected.add(name)
        data, at, found = load(folder, name), 0, 0
        while at < len(data):
            (length,) = struct.unpack_from(">H", data, at)
            body = data[at + 2 : at + 2 + length]
            demand(len(body) == length, f"{name} ends inside an entry")
            entries.append(body)
            leaves.append(hashlib.sha256(b"\x00" + body).digest())
            at, found = at + 2 + length, found + 1
        demand(found == width, f"{name} has {found} entries")
    demand(len(leaves) == size, "leaves")
    level, row = 0, leaves
    while row:
        for number, width in files_of(size, level):
            name = name_of(f"tile/{level}", number, width)
            expected.add(name)
            demand(load(folder, name) == b"".join(row[256 * number : 256 * number + width]), f"{name} differs")
        row = [tree_hash(row[i : i + 256]) for i in range(0, len(row) - 255, 256)]
        level += 1
    demand(tree_hash(leaves) == root, "the root differs")
    demand(load(folder, "entries.ndjson") == b"".join(each + b"\n" for each in entries), "entries.ndjson differs")
    demand({str(p.relative_to(folder)) for p in (folder / "tile").rglob("*") if p.is_file()} == expected, "files that do not belong")
    said = [json.loads(each) for each in entries]
    demand(all(each["tenant"] == tenant for each in said), "another tenant's entry")
    demand(not minimum or any(each["action"] == "log.prune" and each["after"]["minimum"] == minimum for each in said), "nobody gave away")
    for old, old_root in earlier:
        demand(old <= size and tree_hash(leaves[:old]) == old_root, f"the first {old} entries are others")


def given_away(folder: Path, size: int) -> int:
    """How many of the oldest entries are not there any more: whole bundles."""
    if not (folder / "minimum-index").exists():
        return 0
    text = load(folder, "minimum-index").decode("ascii", "strict")
    minimum = int(text)
    demand(text == f"{minimum}\n" and minimum % 256 == 0 and 0 < minimum <= size, "minimum-index")
    return minimum


def _judge_receipt(receipt: str, vkey: str) -> None:
    proof, note = receipt.split("\n\n", 1)
    head, extra, index, *path = proof.split("\n")
    demand(head == "c2sp.org/tlog-proof@v1" and extra.startswith("extra ") and index.startswith("index "), "a tlog-proof")
    origin, size, root = signed_head(note, vkey)
    number = int(index[6:])
    demand(index == f"index {number}" and 0 <= number < size, "index")
    raw = [base64.b64decode(each, validate=True) for each in (extra[6:], *path)]
    demand([base64.b64encode(each).decode() for each in raw] == [extra[6:], *path], "canonical")
    entry, hashes = raw[0], raw[1:]
    demand(root_above(hashlib.sha256(b"\x00" + entry).digest(), number, size, hashes) == root, "the root differs")
    demand(json.loads(entry)["tenant"] == origin.split("/")[-2], "another tenant's entry")


def root_above(leaf: bytes, number: int, size: int, path: list[bytes]) -> bytes:
    """The root that PATH(number, D[size]) leads to, by the recursive definition."""
    if size == 1:
        demand(not path, "too many hashes")
        return leaf
    half = 1
    while 2 * half < size:
        half *= 2
    demand(path, "too few hashes")
    if number < half:
        return hashlib.sha256(b"\x01" + root_above(leaf, number, half, path[:-1]) + path[-1]).digest()
    return hashlib.sha256(b"\x01" + path[-1] + root_above(leaf, number - half, size - half, path[:-1])).digest()


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", type=Path)
    parser.add_argument("--vkey", type=Path)
    parser.add_argument("--seen", type=Path, action="append", default=[])
    given = parser.parse_args(argv)
    key = given.vkey.read_text(encoding="utf-8") if given.vkey else ""
    if given.what.is_file():
        found = judge_receipt(given.what.read_bytes(), key)
    else:
        line = key or (given.what / "vkey").read_text(encoding="utf-8")
        seen = [signed_head(each.read_text(encoding="utf-8"), line)[1:] for each in given.seen]
        found = judge(given.what, seen, key)
    sys.stdout.write(f"{found or 'holds'}\n")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
