"""The keys that Netra signs its own tokens with: sealed, published before they sign, published until nothing they signed lives.

A key's life follows from two instants alone, so every process agrees on it without asking: it is published from when it was made,
signs from `signs_from_us` until the next one does, and is published on until `KEPT_S` after that. The first key signs at once; a later
one only after `AHEAD_S`, so that whoever keeps our key set for less than that never meets a key that he cannot know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from ...kernel.failpoints import declare
from ...kernel.scope import SYSTEM_TENANT
from ...storage.audit_append import audit_append, fingerprint
from ...storage.sealing import Place, Sealer
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx
from ..jws import encoded
from ..keys import Keys

Q = Statements(__package__)
TABLE: Final = "netra_signing_key"
ALGORITHM: Final = "ES256"
US: Final = 1_000_000
AHEAD_S: Final = 3600
KEPT_S: Final = 2 * 3600
AGE_S: Final = 30 * 86400
MADE: Final = declare("sso.key_made_before_commit", "a signing key is written, nothing is committed, and nobody has seen it")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair."""

    kid: str
    signs_from_us: int
    created_us: int
    public: Mapping[str, Any]
    pair: ECKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ring:
    """All of them as of one moment, the oldest first."""

    keys: Sequence[SigningKey]

    def signing(self, now_us: int) -> SigningKey:
        """The one that signs now."""
        return [key for key in self.keys if key.signs_from_us <= now_us][-1]

    def published(self, now_us: int) -> list[dict[str, Any]]:
        """The public ones that somebody may need (RFC 7517 section 5)."""
        ends = [*(key.signs_from_us + KEPT_S * US for key in self.keys[1:]), None]
        return [dict(key.public) for key, end in zip(self.keys, ends, strict=True) if end is None or now_us < end]

    def verifying(self, now_us: int) -> Keys:
        """The same, to judge our own tokens by."""
        return Keys.of({"keys": self.published(now_us)})

    def is_old(self, now_us: int) -> bool:
        """Whether it is time for another one."""
        return now_us - self.keys[-1].created_us >= AGE_S * US

    def sign(self, claims: Mapping[str, Any], now_us: int, *, kind: str = "at+jwt") -> str:
        """A compact JWS of the claims (RFC 9068 section 2.1)."""
        key = self.signing(now_us)
        header = {"alg": ALGORITHM, "kid": key.kid, "typ": kind}
        signed = encoded(orjson.dumps(header)) + b"." + encoded(orjson.dumps(claims))
        return (signed + b"." + encoded(JWSRegistry.algorithms[ALGORITHM].sign(signed, key.pair))).decode()


async def ring(tx: Tx, sealer: Sealer) -> Ring:
    """The installation's keys; the first is made by whoever asks first."""
    found = await _all(tx, sealer)
    if not found:
        await _make(tx, sealer, tx.now_us)
        found = await _all(tx, sealer)
    return Ring(found)


async def rotate(tx: Tx, sealer: Sealer) -> Ring:
    """Make the next key, which signs in an hour."""
    await ring(tx, sealer)
    await _make(tx, sealer, tx.now_us + AHEAD_S * US)
    return Ring(await _all(tx, sealer))


async def _make(tx: Tx, sealer: Sealer, signs_from_us: int) -> None:
    id_ = tx.new_id()
    pair = ECKey.generate_key("P-256", {"kid": id_.hex(), "use": "sig", "alg": ALGORITHM})
    sealed = await sealer.seal(tx, SYSTEM_TENANT, Place(TABLE, id_, "private"), orjson.dumps(pair.as_dict(private=True)))
    after = {"kid": id_.hex(), "signs_from_us": signs_from_us, "sealed": fingerprint(sealed)}
    entry = await audit_append(tx, "signing_key.create", id_, table=TABLE, after=after)
    await tx.execute(Q.insert_signing_key, id=id_, sealed=sealed, signs_from_us=signs_from_us, now_us=tx.now_us, audit_id=entry)
    tx.runtime.failpoints.hit(MADE)


async def _all(tx: Tx, sealer: Sealer) -> list[SigningKey]:
    rows = await tx.all(Q.list_signing_keys, after_us=tx.now_us - (AGE_S * 3) * US)
    return [await _key(tx, sealer, row) for row in rows]


async def _key(tx: Tx, sealer: Sealer, row: Row) -> SigningKey:
    id_, sealed, signs_from_us, created_us = row
    raw = await sealer.unseal(tx, SYSTEM_TENANT, Place(TABLE, id_, "private"), sealed)
    pair = ECKey.import_key(orjson.loads(raw))
    return SigningKey(id_.hex(), signs_from_us, created_us, pair.as_dict(private=False), pair)
