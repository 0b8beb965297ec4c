"""Signed notes and checkpoints, to the letter of C2SP signed-note and tlog-checkpoint, with Ed25519 (RFC 8032).

A checkpoint is three lines (origin, size, root) and a signature of them. Whoever has the verifier key `name+id+key` can judge it; the
name is the origin. What is not written in the one way that there is to write it is refused, so that no byte can be changed unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .merkle import HASH_BYTES

ED25519: Final = b"\x01"
KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 4 + 64
_MOST_SIGNATURES: Final = 64
_VKEY: Final = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})\Z")
_SIZE: Final = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)


class MalformedNote(ValueError):
    """It is not written as the specification writes it; the words say where."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: who it is, how many entries it has, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """Who may sign: a name and a public key."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The first four bytes of SHA-256(name || 0x0A || 0x01 || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    @property
    def text(self) -> str:
        """`name+id+key`."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key of its one line."""
        match = _VKEY.match(text.removesuffix("\n"))
        key = decode(match[3]) if match else b""
        if match is None or len(key) != 1 + KEY_BYTES or key[:1] != ED25519:
            raise MalformedNote("the verifier key is not name+id+key of Ed25519")
        found = cls(match[1], key[1:])
        if found.id.hex() != match[2]:
            raise MalformedNote("the verifier key's id is not that of its name and key")
        return found

    def has_signed(self, text: str, signature: bytes) -> bool:
        """Whether this is its signature of the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def sign(checkpoint: Checkpoint, seed: bytes) -> str:
    """The signed note; the key's name is the origin. `seed` is the private key, 32 bytes."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = VerifierKey(checkpoint.origin, key.public_key().public_bytes_raw())
    signature = base64.b64encode(name.id + key.sign(checkpoint.text.encode())).decode()
    return f"{checkpoint.text}\n\u2014 {name.name} {signature}\n"


def public_of(seed: bytes) -> bytes:
    """The public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def open_note(note: str, key: VerifierKey) -> Checkpoint:
    """The checkpoint, if that key has signed it; else `MalformedNote`. Signatures of others are passed over, as they must be."""
    text, signatures = _parts(note)
    known = [signature for name, signature in signatures if name == key.name and signature[:4] == key.id]
    if not known or not all(key.has_signed(text, signature[4:]) for signature in known):
        raise MalformedNote("the checkpoint is not signed by that key")
    return _checkpoint(text)


def read_note(note: str) -> Checkpoint:
    """The checkpoint of a note whose signature is not asked for: one of our own."""
    return _checkpoint(_parts(note)[0])


def _parts(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n") or any(character < " " and character != "\n" for character in note):
        raise MalformedNote("the checkpoint is no signed note")
    signatures = [_signature(line) for line in lines[:-1].split("\n")]
    if len(signatures) > _MOST_SIGNATURES:
        raise MalformedNote("the checkpoint has too many signatures")
    return text + "\n", signatures


def _signature(line: str) -> tuple[str, bytes]:
    words = line.split(" ")
    signature = decode(words[2]) if len(words) == 3 else b""
    if len(words) != 3 or words[0] != "\u2014" or not words[1] or "+" in words[1] or len(signature) <= 4:
        raise MalformedNote("a line of the checkpoint is no signature")
    return words[1], signature


def _checkpoint(text: str) -> Checkpoint:
    lines = text[:-1].split("\n")
    root = decode(lines[2]) if len(lines) >= 3 else b""
    if len(lines) < 3 or not all(lines) or not _SIZE.match(lines[1]) or len(root) != HASH_BYTES:
        raise MalformedNote("the checkpoint is not origin, size and root")
    return Checkpoint(lines[0], int(lines[1]), root)


def decode(text: str) -> bytes:
    """Standard base 64 in the one form that encodes its bytes; nothing where it is not that."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if base64.b64encode(found).decode() == text else b""
