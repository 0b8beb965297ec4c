"""Which tenant a path means: by id, uid or name, from a cache that is at most half a second old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..kernel.scope import system_scope
from ..storage import tenants
from ..storage.tenants import Tenant
from .short_cache import ShortCache

if TYPE_CHECKING:
    from ..netra import Netra

MOST_CHARACTERS: Final = 256
_SCOPE: Final = system_scope("server")


class Directory:
    """Tenants by reference. `forget` after each change of one."""

    def __init__(self, netra: Netra) -> None:
        self._netra = netra
        self._cache: ShortCache[str, Tenant | None] = ShortCache(netra.runtime.clock, self._look_up)

    async def get(self, reference: str) -> Tenant | None:
        """The tenant, or None."""
        return await self._cache.get(reference) if len(reference) <= MOST_CHARACTERS else None

    def forget(self) -> None:
        """A tenant was changed here."""
        self._cache.forget()

    async def _look_up(self, reference: str) -> Tenant | None:
        found: Tenant | None = await self._netra.database.read(tenants.find, reference, scope=_SCOPE)
        return found
