"""Opens the database for one command: as itself (role `cli`), without workers, over the command line's SQLite library."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kernel.scope import Scope, system_scope
from .options import Place, actor

if TYPE_CHECKING:
    from ..kernel.runtime import Runtime
    from ..kernel.settings import Settings
    from ..netra import Netra


def new_netra(place: Place, *, workers: bool, role: str, dev: bool = False, runtime: Runtime | None = None, **given: Any) -> Netra:
    """Netra on the place's database, not started yet; `CannotStart` names every bad setting. Of `given` settings None says nothing."""
    from ..netra import Netra

    settings: dict[str, Any] = {**place.settings(), **{name: value for name, value in given.items() if value is not None}}
    url = settings.pop("database_url", None)
    made = Netra(url, workers=workers, role=role, config=place.config, dev=dev, runtime=runtime, **settings)
    if made.settings.batch_jobs:
        look_here()
    return made


def look_here() -> None:
    """Find the caller's own modules in the folder that the command is given in, as `python -m` does."""
    if os.getcwd() not in sys.path:  # noqa: PTH109  (as the interpreter itself spells it)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Netra]:
    """Netra for one command."""
    made = new_netra(place, workers=False, role="cli")
    _tell_if_new(place, made.settings)
    async with made as netra:
        yield netra


def _tell_if_new(place: Place, settings: Settings) -> None:
    """A slip in the folder's name begins another installation, empty: whoever wonders where his tenants are should see that."""
    file = Path(settings.database_url.removeprefix("sqlite:///"))
    if settings.engine == "sqlite" and not file.exists():
        place.output.note(f"There was no database at {file}: a new installation begins there.")


async def scope_of(netra: Netra, place: Place) -> Scope:
    """The scope of the place's tenant, which must exist: a slip in its name makes no new customer here."""
    from ..storage import tenants

    found = await netra.database.read(tenants.get, place.the_tenant(), scope=operator())
    return Scope(found.tenant, actor())


def operator() -> Scope:
    """The scope of what serves the whole installation."""
    return system_scope(actor())
