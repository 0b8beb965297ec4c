"""A backup's checksum, inside the one file that it is of: SQLite itself would not notice a changed byte of a payload.

The digest is the value of a row of `netra_meta`. While the file is made a random word of the same length stands there;
it is found in the closed file's bytes, which nobody could have written on purpose, and the SHA-256 of the whole file with zeros
in its place is written over it. No page moves, because the length stays. To verify, the digest's own place is zeros again.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Final

from ..kernel.chance import Chance
from .errors import Corrupt
from .sqlite_drivers import Connection

NAME: Final = "backup_sha256"
LENGTH: Final = 64
_FORGET: Final = "delete from netra_meta where name = :name"
_SET: Final = "insert into netra_meta (name, value) values (:name, :value)"
_HAS_META: Final = "select 1 from sqlite_master where name = 'netra_meta'"
_GET: Final = "select cast(value as blob) from netra_meta where name = :name"


def reserve(connection: Connection, chance: Chance) -> str:
    """Make room for the digest in a file that is still open; the word that stands there until `stamp`."""
    word = chance.token(LENGTH // 2).hex()
    connection.run(_FORGET, {"name": NAME})
    connection.run(_SET, {"name": NAME, "value": word})
    return word


def stamp(descriptor: int, word: str) -> None:
    """Write the digest in the word's place, in a file that nothing has open but us."""
    place, digest = _digest(descriptor, word)
    if not digest:
        raise Corrupt("the copy cannot be given a checksum: what was just written is not in it")
    os.pwrite(descriptor, digest.encode(), place)


def stored(connection: Connection) -> str:
    """The digest that the file carries; empty for a database that no backup has made."""
    rows = connection.run(_GET, {"name": NAME}) if connection.run(_HAS_META) else []
    return bytes(rows[0][0]).decode(errors="replace") if rows else ""


def verify(descriptor: int, digest: str, file: Path) -> None:
    """`Corrupt`, in the name of `file`, unless the bytes are those that were stamped."""
    if _digest(descriptor, digest)[1] != digest:
        raise Corrupt(f"{file} is damaged: its checksum does not hold", fix="Use another backup, or another copy of this one.")


def forget(connection: Connection) -> None:
    """Take the digest out of a database that begins to live."""
    connection.run(_FORGET, {"name": NAME})


def _digest(descriptor: int, word: str) -> tuple[int, str]:
    """Where the word stands, and the SHA-256 of the file with zeros there; (-1, "") where it stands nowhere, or twice."""
    wanted = (NAME + word).encode()
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        found = data.find(wanted)
        if found < 0 or len(word) != LENGTH or data.find(wanted, found + 1) >= 0:
            return -1, ""
        place = found + len(NAME)
        hashed = hashlib.sha256(view[:place])
        hashed.update(b"0" * LENGTH)
        hashed.update(view[place + LENGTH :])
        return place, hashed.hexdigest()
