"""Answers that hold tokens and are not committed yet: one sealed file each, written before anything else is done with it.

Between the provider's answer and our commit the only copy of the new refresh token is in memory. So its bytes go into a file at once,
in the very turn of the event loop that read them, sealed under a key of the tenant that the lease brought along; then the file is
forced to the disk; then it is parsed and committed; then the file goes. A kill leaves the file, and whoever takes the lease over
commits from it. The folder must outlive the process.

Name: connection and fence, in hex. Content: a JSON line that says what it belongs to, and what AES-GCM made of the answer, bound to
that line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..kernel.chance import Chance
from ..storage.durable_files import sync_folder

_NONCE_BYTES: Final = 12
_SUFFIX: Final = ".answer"


@dataclass(frozen=True, slots=True)
class Spooled:
    """An answer's place in its lineage. `parent_fp` and `generation` are those of the token that was traded for it."""

    tenant: str
    connection: bytes
    holder: bytes
    fence: int
    generation: int
    parent_fp: str
    sent_us: int
    secret: int

    def head(self) -> bytes:
        """The file's first line."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        facts |= {name: facts[name].hex() for name in ("connection", "holder")}
        return orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def of(cls, head: bytes) -> Spooled:
        """The line read again."""
        facts: dict[str, Any] = orjson.loads(head)
        return cls(**{**facts, "connection": bytes.fromhex(facts["connection"]), "holder": bytes.fromhex(facts["holder"])})


class Spool:
    """The folder. Methods block for the time of a small file."""

    def __init__(self, folder: Path, chance: Chance) -> None:
        self.folder = folder
        self._chance = chance

    def open(self) -> None:
        """Make the folder, so that what is written later needs a file only."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(self.folder.parent)

    def write(self, spooled: Spooled, key: bytes, body: bytes) -> Path:
        """Put the answer into its file: from here on a kill does not lose it, and after `sync` a power cut does not either.

        `OSError` where the folder takes no whole file (a full disk).
        """
        head, nonce = spooled.head(), self._chance.token(_NONCE_BYTES)
        path = self.folder / f"{spooled.connection.hex()}-{spooled.fence}-{self._chance.token(4).hex()}{_SUFFIX}"
        draft = path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(head + b"\n" + nonce + AESGCM(key).encrypt(nonce, body, head))
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return path

    def sync(self, path: Path) -> None:
        """Force file and name to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """It is committed."""
        path.unlink(missing_ok=True)

    def of(self, connection: bytes | None = None) -> list[tuple[Path, Spooled]]:
        """What is there, of one connection or of all. A file that says nothing readable is left for people to look at."""
        found = []
        for path in sorted(self.folder.glob(f"{connection.hex() if connection else ''}*{_SUFFIX}")):
            try:
                found.append((path, Spooled.of(path.read_bytes().split(b"\n", 1)[0])))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def read(self, path: Path, key: bytes) -> bytes | None:
        """The answer's bytes; None where the file is gone or does not open."""
        try:
            head, rest = path.read_bytes().split(b"\n", 1)
            return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head)
        except (OSError, ValueError, InvalidTag):
            return None
