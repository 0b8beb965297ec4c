"""Netra with debug sessions, as tests use it: started, followed until what they recorded is in the table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ...netra import Netra
from .adopting import settings_of
from .storage import database_url

RECEIVER = "http://127.0.0.1:9/hook"
"""Nobody listens there."""


@asynccontextmanager
async def opened(folder: Path, *, workers: bool = False, **settings: Any) -> AsyncIterator[Netra]:
    """Netra on the folder's database, on any engine."""
    options = {**settings_of(folder), "disk_reserve_bytes": 0, **settings}
    async with Netra(database_url(folder), workers=workers, environ={}, dev=True, **options) as netra:
        yield netra


async def look(netra: Netra, tenant: str = "acme", **asked: Any) -> str:
    """A session's id; this process listens from now on."""
    made = await netra.debug.start(tenant=tenant, **{"reason": "test", **asked})
    return str(made["session"])


async def seen(netra: Netra, session: str, tenant: str = "acme") -> list[dict[str, Any]]:
    """Everything that the session has recorded so far, this process's rings included."""
    for live in netra.debug.hub.lives:
        await netra.debug.hub._flush(live)
    found = await netra.debug.export(session, tenant=tenant)
    return list(found["records"])


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The data of the records of one kind."""
    return [record["data"] for record in records if record["kind"] == kind]
