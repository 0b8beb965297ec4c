"""Who asks: API keys, and the operator's key of the settings.

A key is looked up by its keyed hash, in one step, whether it is unknown, expired or revoked; the answer to all three is
the same 401. Verdicts are cached for half a second, so a revocation holds everywhere within that; in this process it
holds at once, because whoever revokes calls `forget`. Expiry is judged at each request, not when the verdict was made.

What keeps two requests apart in time is only whether a verdict is in the cache, which says that somebody used that
very text half a second ago, and nothing of its validity.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..kernel.scope import SYSTEM_TENANT, system_scope
from ..storage import api_keys
from ..storage.api_keys import ApiKey
from ..storage.sealing import Sealer
from ..storage.transaction import Tx
from .errors import AuthenticationFailed
from .short_cache import ShortCache

if TYPE_CHECKING:
    from ..netra import Netra

PEPPER_PURPOSE: Final = "api-key"
MOST_BYTES: Final = 256
CONFIGURED: Final = "key:configured"
"""How audit entries name the operator's key of the settings, which has no row and no id."""

FINGERPRINT_BYTES: Final = 16
"""Of the configured key's hash: what stands for the id that it has not."""

_SCOPE: Final = system_scope("server")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever holds the key of a request. `tenant` is `*` for an operator; `key_id` is empty where a login let it in."""

    tenant: str
    actor: str
    scopes: frozenset[str]
    key_id: bytes = b""
    expires_us: int | None = None

    @property
    def is_operator(self) -> bool:
        """Whether it may act for every tenant and for the installation."""
        return self.tenant == SYSTEM_TENANT

    def may(self, scope: str) -> bool:
        """Whether it has this scope; an operator has all."""
        return self.is_operator or scope in self.scopes


async def derive_pepper(tx: Tx, sealer: Sealer) -> bytes:
    """The key under which API keys are hashed: sealed with everything else, so a stolen table tests no guess."""
    return await sealer.derive(tx, SYSTEM_TENANT, PEPPER_PURPOSE)


async def ensure_operator_key(netra: Netra) -> str | None:
    """The text of an operator's key made just now, if there was none and none is configured; else None."""
    if netra.settings.operator_key is not None:
        return None
    made: str | None = await netra.database.write(_make_first_key, netra.sealer, scope=_SCOPE)
    return made


async def _make_first_key(tx: Tx, sealer: Sealer) -> str | None:
    pepper = await derive_pepper(tx, sealer)
    if await api_keys.has_operator_key(tx):
        return None
    _, secret = await api_keys.create(tx, tenant=SYSTEM_TENANT, pepper=pepper, name="first operator key", scopes=())
    return secret


class Authenticator:
    """See the module's docstring."""

    def __init__(self, netra: Netra) -> None:
        self._netra = netra
        self._clock = netra.runtime.clock
        self._pepper: bytes | None = None
        self._configured: bytes | None = None
        self._verdicts: ShortCache[bytes, ApiKey | None] = ShortCache(self._clock, self._look_up)

    async def pepper(self) -> bytes:
        """The key of the hashes, derived at the first request."""
        if self._pepper is None:
            pepper: bytes = await self._netra.database.write(derive_pepper, self._netra.sealer, scope=_SCOPE)
            configured = self._netra.settings.operator_key
            self._configured = api_keys.keyed_hash(pepper, configured) if configured is not None else None
            self._pepper = pepper
        return self._pepper

    async def authenticate(self, authorization: bytes | None) -> Principal:
        """Whose key this `Authorization` header carries, or `AuthenticationFailed`."""
        scheme, _, given = (authorization or b"").partition(b" ")
        given = given.strip()
        if scheme.lower() != b"bearer" or not 0 < len(given) <= MOST_BYTES:
            raise AuthenticationFailed
        hashed = api_keys.keyed_hash(self._pepper or await self.pepper(), given.decode("latin-1"))
        if self._configured is not None and hmac.compare_digest(hashed, self._configured):
            return Principal(SYSTEM_TENANT, CONFIGURED, frozenset(), self._configured[:FINGERPRINT_BYTES])
        key = await self._verdicts.get(hashed)
        if key is None or not key.is_valid(self._clock.wall_us()) or not self._is_vouched_for(key):
            raise AuthenticationFailed
        return Principal(key.tenant, key.actor, frozenset(key.scopes), key.id, key.expires_us)

    def forget(self) -> None:
        """A key was changed here."""
        self._verdicts.forget()

    def _is_vouched_for(self, key: ApiKey) -> bool:
        """False for a session of a configured key that is not configured any more: such a key has no row to be revoked in."""
        if key.of_settings is None:
            return True
        return self._configured is not None and hmac.compare_digest(key.of_settings, self._configured[:FINGERPRINT_BYTES])

    async def _look_up(self, hashed: bytes) -> ApiKey | None:
        found: ApiKey | None = await self._netra.database.read(api_keys.by_hash, hashed, scope=_SCOPE)
        return found
