"""Secrets at rest: AES-256-GCM under a data key per tenant, which a ring of root keys wraps.

The ring is a file of `id:base64` lines: the first seals, all unseal. Adding a line in front and running the re-wrap
moves every data key to the new root key while everything goes on; no sealed value changes. The additional data of a
value is tenant|table|row|field|version, so a value copied to another row or tenant does not open.

A sealed value: one format byte, four bytes of data key version, 12 of nonce, then ciphertext and tag.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import CannotStart, NetraError
from ..kernel import debugging
from ..kernel.chance import Chance
from ..kernel.scope import SYSTEM_TENANT
from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_FORMAT: Final = 1
_HEAD: Final = 5


class CannotUnseal(NetraError):
    """A sealed value does not open: it was moved, changed, or its root key is not in the ring."""

    code = "cannot_unseal"
    fix = "Put the root key that sealed it back into the ring (NETRA_ROOT_KEYS)."


class WrongRootKeys(CannotStart):
    """These root keys do not open this installation's secrets."""

    code = "wrong_root_keys"
    fix = "Put the installation's own root.keys in their place: from another of its hosts, or from its backup (NETRA_ROOT_KEYS)."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret stands: part of what authenticates it."""

    table: str
    row: bytes | str
    field: str

    def additional_data(self, tenant: str, version: int) -> bytes:
        """tenant|table|row|field|version."""
        row = self.row.hex() if isinstance(self.row, bytes) else self.row
        return f"{tenant}|{self.table}|{row}|{self.field}|{version}".encode()


class RootKeys:
    """The ring; the first key seals."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise CannotStart("the ring of root keys is empty", fix="Put one `id:base64` line of 32 bytes into the file.")
        self._keys = dict(keys)
        self.sealing_id = next(iter(self._keys))

    def __contains__(self, root_id: object) -> bool:
        """Whether the ring has a root key of that id."""
        return root_id in self._keys

    def get(self, root_id: str) -> AESGCM:
        """The root key of that id."""
        if root_id not in self._keys:
            raise CannotUnseal(f"root key {root_id!r} is not in the ring", root_id=root_id)
        return AESGCM(self._keys[root_id])


def load_root_keys(path: Path, chance: Chance) -> RootKeys:
    """Read the ring, making it (mode 0600) where there is none yet."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _make_root_keys(path, chance)
    return RootKeys(_parse(path.read_text(encoding="ascii", errors="replace"), path))


def _make_root_keys(path: Path, chance: Chance) -> None:
    """Put a new ring there, whole and durable before anything is sealed; of two processes at once, one wins."""
    draft = path.with_name(f"{path.name}.{chance.token(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"r1:{base64.b64encode(chance.token(KEY_BYTES)).decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parse(text: str, path: Path) -> dict[str, bytes]:
    keys = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, encoded = line.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:  # binascii.Error is one, and so is a byte that is not ASCII
            key = b""
        if not name or len(key) != KEY_BYTES:
            raise CannotStart(f"line {number} of {path} is not id:base64 of 32 bytes", fix="Restore the file from its backup.")
        keys[name] = key
    return keys


class Sealer:
    """Seals and unseals in a transaction, because the tenant's data key is a row.

    Unwrapped data keys are not kept: one read inside a transaction that rolls back would never have existed.
    """

    def __init__(self, roots: RootKeys) -> None:
        self.roots = roots

    async def prove(self, tx: Tx) -> None:
        """Raise where the ring is another installation's; of an installation without secrets it becomes the one.

        A host that was given no root keys has made some of its own. Without this its workers would claim what they cannot sign.
        """
        try:
            await self._newest(tx, SYSTEM_TENANT)
        except CannotUnseal as error:
            raise WrongRootKeys(f"{WrongRootKeys.__doc__} ({error})") from error

    async def seal(self, tx: Tx, tenant: str, place: Place, secret: bytes) -> bytes:
        """The sealed form of `secret` for exactly this tenant and place."""
        debugging.held(secret)
        version, key = await self._newest(tx, tenant)
        nonce = tx.runtime.chance.token(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, secret, place.additional_data(tenant, version))
        return bytes([_FORMAT]) + version.to_bytes(4, "big") + nonce + sealed

    async def unseal(self, tx: Tx, tenant: str, place: Place, sealed: bytes) -> bytes:
        """The secret, or `CannotUnseal`."""
        if len(sealed) < _HEAD + NONCE_BYTES or sealed[0] != _FORMAT:
            raise CannotUnseal(f"{place.table}.{place.field} of tenant {tenant} is not a sealed value")
        version = int.from_bytes(sealed[1:_HEAD], "big")
        key = await self._key(tx, tenant, version)
        nonce, body = sealed[_HEAD : _HEAD + NONCE_BYTES], sealed[_HEAD + NONCE_BYTES :]
        try:
            secret = AESGCM(key).decrypt(nonce, body, place.additional_data(tenant, version))
        except InvalidTag as error:
            raise CannotUnseal(f"{place.table}.{place.field} of tenant {tenant} does not open") from error
        debugging.held(secret)
        return secret

    async def derive(self, tx: Tx, tenant: str, purpose: str) -> bytes:
        """A key for one purpose that outlives every re-wrap: from the tenant's first data key."""
        await self._newest(tx, tenant)
        return hmac.new(await self._key(tx, tenant, 1), purpose.encode(), hashlib.sha256).digest()

    async def rewrap(self, tx: Tx, limit: int) -> int:
        """Move up to `limit` data keys to the ring's first root key; the number moved, 0 when nothing is left to us."""
        rows = await tx.all(Q.data_keys_under_other_roots, root_id=self.roots.sealing_id, limit=limit)
        moved = 0
        for tenant, version, root_id, wrapped in rows:
            key = self._unwrap(tenant, version, root_id, wrapped)
            moved += await tx.execute(
                Q.rewrap_data_key,
                tenant=tenant,
                version=version,
                old_root_id=root_id,
                root_id=self.roots.sealing_id,
                wrapped=self._wrap(tx, tenant, version, key),
            )
        return moved

    async def rewrap_progress(self, tx: Tx) -> tuple[int, int]:
        """How many data keys there are, and how many are under the first root key."""
        row = await tx.one(Q.count_data_keys, root_id=self.roots.sealing_id)
        return (int(row[0]), int(row[1])) if row else (0, 0)

    async def _newest(self, tx: Tx, tenant: str) -> tuple[int, bytes]:
        row = await tx.one(Q.newest_data_key, tenant=tenant)
        if row is None:
            # Two first secrets at once: the primary key decides, and both read the row that won.
            fresh = tx.runtime.chance.token(KEY_BYTES)
            wrapped = self._wrap(tx, tenant, 1, fresh)
            await tx.execute(
                Q.insert_data_key,
                tenant=tenant,
                version=1,
                root_id=self.roots.sealing_id,
                wrapped=wrapped,
                created_us=tx.now_us,
            )
            row = await tx.one(Q.newest_data_key, tenant=tenant)
        if row is None:
            raise CannotUnseal(f"tenant {tenant} has no data key")
        version, root_id, wrapped = row
        return version, self._unwrap(tenant, version, root_id, wrapped)

    async def _key(self, tx: Tx, tenant: str, version: int) -> bytes:
        row = await tx.one(Q.get_data_key, tenant=tenant, version=version)
        if row is None:
            raise CannotUnseal(f"tenant {tenant} has no data key of version {version}")
        return self._unwrap(tenant, version, *row)

    def _wrap(self, tx: Tx, tenant: str, version: int, key: bytes) -> bytes:
        nonce = tx.runtime.chance.token(NONCE_BYTES)
        return nonce + self.roots.get(self.roots.sealing_id).encrypt(nonce, key, f"{tenant}|{version}".encode())

    def _unwrap(self, tenant: str, version: int, root_id: str, wrapped: bytes) -> bytes:
        nonce, body = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return self.roots.get(root_id).decrypt(nonce, body, f"{tenant}|{version}".encode())
        except InvalidTag as error:
            raise CannotUnseal(f"the data key of tenant {tenant} does not open under root key {root_id}") from error
