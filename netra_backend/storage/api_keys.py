"""API keys: 160 random bits with a prefix and a checksum, stored as a keyed hash, shown once.

`netra_<op|tk>_<32 digits><6 digits of checksum>`: the prefix lets a secret scanner find a leaked key, the checksum
lets a typo be refused without a look-up. Unknown, expired and revoked keys look alike to the caller: one error, one
look-up by the hash of what was sent. No dot stands in a key, because the Svix SDKs read a region after one.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ..errors import InvalidInput, NotFound
from ..kernel.ids import to_text
from ..kernel.scope import SYSTEM_TENANT
from .audit_append import audit_append, fingerprint
from .statements import Row, Statements
from .transaction import Tx

Q = Statements(__package__)
TABLE: Final = "netra_api_key"
SECRET_BYTES: Final = 20
KEYS_AT_ONCE: Final = 250
SCOPES: Final = (
    "tenant",
    "endpoint:secret",
    "connection:token",
    "webhooks:view",
    "webhooks:replay",
    "webhooks:rotate",
    "webhooks:manage",
    "token:exchange",
    "token:impersonate",
)
"""What a tenant's key may be given. `tenant` is everything but the two disclosures of secrets, `webhooks:*` a part of that:
to look, to send again, to rotate an endpoint's secret, to change endpoints. `token:*` are rights at the token endpoint alone: to act for
somebody and be seen to, and to come as somebody."""
PORTAL: Final = "portal"
"""Marks the key of a portal link among a tenant's keys; it gives no right, and only such a key can log itself out."""
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as it is stored; the secret itself is nowhere."""

    tenant: str
    id: bytes
    name: str
    scopes: tuple[str, ...]
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    of_settings: bytes | None = None
    """Of a session that was begun with the operator's key of the settings: that key's fingerprint."""

    @property
    def is_operator(self) -> bool:
        """Whether it may act for every tenant."""
        return self.tenant == SYSTEM_TENANT

    @property
    def actor(self) -> str:
        """How an audit entry names who used it."""
        return f"key:{to_text('key', self.id)}"

    def is_valid(self, now_us: int) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


def _key(row: Row) -> ApiKey:
    tenant, id_, name, scopes, *times_and_parent = row
    return ApiKey(tenant, id_, name, tuple(orjson.loads(scopes)), *times_and_parent)


def new_secret(random_bytes: bytes, *, operator: bool) -> str:
    """The text of a key from `SECRET_BYTES` random bytes."""
    number = int.from_bytes(random_bytes, "big")
    body = "".join(_DIGITS[number >> shift & 31] for shift in range(8 * SECRET_BYTES - 5, -1, -5))
    head = f"netra_{'op' if operator else 'tk'}_{body}"
    return head + _checksum(head)


def is_well_formed(secret: str) -> bool:
    """Whether the checksum is right, so that a typo costs no look-up."""
    if not (secret.isascii() and secret.startswith("netra_")):
        return False
    return len(secret) > 6 and hmac.compare_digest(_checksum(secret[:-6]), secret[-6:])


def _checksum(head: str) -> str:
    number = zlib.crc32(head.encode())
    return "".join(_DIGITS[number >> shift & 31] for shift in range(25, -1, -5))


def keyed_hash(pepper: bytes, secret: str) -> bytes:
    """What is stored of a key: useless without the pepper, which is sealed."""
    return hmac.digest(pepper, secret.encode(), hashlib.sha256)


async def create(
    tx: Tx, *, tenant: str, pepper: bytes, name: str, scopes: Sequence[str], expires_us: int | None = None, parent: bytes | None = None
) -> tuple[ApiKey, str]:
    """Add a key and return it with its secret, which nobody can read again. It ends with its `parent`, if it has one."""
    unknown = [scope for scope in scopes if scope not in (*SCOPES, PORTAL)]
    if unknown:
        raise InvalidInput(f"no scope is called {unknown[0]!r}", fix=f"Choose among {', '.join(SCOPES)}.")
    secret = new_secret(tx.runtime.chance.token(SECRET_BYTES), operator=tenant == SYSTEM_TENANT)
    key = ApiKey(tenant, tx.new_id(), name, tuple(scopes), tx.now_us, expires_us, None)
    hash_ = keyed_hash(pepper, secret)
    facts: dict[str, Any] = {"name": name, "scopes": list(scopes), "expires_us": expires_us, "hash": fingerprint(hash_)}
    if parent is not None:
        facts["parent"] = parent.hex()
    entry = await audit_append(tx, "api_key.create", key.id, table=TABLE, after=facts, tenant=tenant)
    await tx.execute(
        Q.insert_api_key,
        tenant=tenant,
        id=key.id,
        hash=hash_,
        name=name,
        scopes=orjson.dumps(list(scopes)).decode(),
        now_us=tx.now_us,
        expires_us=expires_us,
        parent=parent,
        audit_id=entry,
    )
    return key, secret


async def by_hash(tx: Tx, hashed: bytes) -> ApiKey | None:
    """The key of that hash, valid or not."""
    row = await tx.one(Q.api_key_by_hash, hash=hashed)
    return _key(row) if row else None


async def page(tx: Tx, tenant: str, after: bytes, limit: int) -> list[ApiKey]:
    """The tenant's keys by id."""
    return [_key(row) for row in await tx.all(Q.list_api_keys, tenant=tenant, after=after, limit=limit)]


async def expire(tx: Tx, tenant: str, key_id: bytes, expires_us: int) -> None:
    """Let a key end at that time: a rotation's overlap, with two live keys."""
    entry = await audit_append(tx, "api_key.expire", key_id, table=TABLE, after={"expires_us": expires_us}, tenant=tenant)
    if not await tx.execute(Q.expire_api_key, tenant=tenant, id=key_id, expires_us=expires_us, audit_id=entry):
        raise NotFound(f"there is no live key {to_text('key', key_id)}")


async def revoke(tx: Tx, tenant: str, key_id: bytes) -> None:
    """End a key now: in this process at once, everywhere within a second."""
    entry = await audit_append(tx, "api_key.revoke", key_id, table=TABLE, after={"revoked": True}, tenant=tenant)
    if not await tx.execute(Q.revoke_api_key, tenant=tenant, id=key_id, now_us=tx.now_us, audit_id=entry):
        raise NotFound(f"there is no live key {to_text('key', key_id)}")


async def revoke_all(tx: Tx, tenant: str) -> None:
    """End every key of a tenant that is itself about to end."""
    after = b""
    while keys := await page(tx, tenant, after, KEYS_AT_ONCE):
        for key in keys:
            if key.is_valid(tx.now_us):  # one that has ended needs no entry of its end
                await revoke(tx, tenant, key.id)
        after = keys[-1].id


async def end_portal(tx: Tx, tenant: str, sessions: Collection[str] | None, expires_us: int) -> int:
    """Let a tenant's portal links end at that time, or those made for these sessions (their names); how many there were."""
    after, ended = b"", 0
    while rows := await tx.all(Q.live_portal_keys, tenant=tenant, after=after, expires_us=expires_us, limit=KEYS_AT_ONCE):
        keys = [_key(row) for row in rows]
        for key in keys:
            if PORTAL in key.scopes and (sessions is None or key.name in sessions):
                await expire(tx, tenant, key.id, expires_us)
                ended += 1
        after = keys[-1].id
    return ended


async def has_operator_key(tx: Tx) -> bool:
    """Whether anybody can act as operator through the database's keys; a session is none, it ends by itself."""
    row = await tx.one(Q.count_operator_keys, tenant=SYSTEM_TENANT, now_us=tx.now_us)
    return row is not None and row[0] > 0
