"""Opens the database for one command: as itself (role `cli`), without workers, over the command line's SQLite library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..kernel.scope import Scope, system_scope
from .options import Place, actor

if TYPE_CHECKING:
    from ..kernel.runtime import Runtime
    from ..netra import Netra


def new_netra(place: Place, *, workers: bool, role: str, dev: bool = False, runtime: Runtime | None = None, **given: Any) -> Netra:
    """Netra on the place's database, not started yet; `CannotStart` names every bad setting. Of `given` settings None says nothing."""
    from ..netra import Netra

    settings: dict[str, Any] = {**place.settings(), **{name: value for name, value in given.items() if value is not None}}
    url = settings.pop("database_url", None)
    return Netra(url, workers=workers, role=role, config=place.config, dev=dev, runtime=runtime, **settings)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Netra]:
    """Netra for one command."""
    async with new_netra(place, workers=False, role="cli") as netra:
        yield netra


async def scope_of(netra: Netra, place: Place) -> Scope:
    """The scope of the place's tenant, which must exist: a slip in its name makes no new customer here."""
    from ..storage import tenants

    found = await netra.database.read(tenants.get, place.the_tenant(), scope=operator())
    return Scope(found.tenant, actor())


def operator() -> Scope:
    """The scope of what serves the whole installation."""
    return system_scope(actor())
