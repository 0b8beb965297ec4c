"""`netra doctor`: is everything in order, and if not, what to do? It reads; it changes, makes and migrates nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..options import DATABASE, Place, command, single
from ..output import NO, OK
from .checks import Check

if TYPE_CHECKING:
    from ...kernel.runtime import Runtime
    from ...kernel.settings import Settings

app = single()
_MARKS = {"ok": "ok  ", "warning": "WARN", "failed": "FAIL"}


@command(app, None, DATABASE)
async def doctor(place: Place) -> int:
    """Check settings, files, database and processes; exit 1 if a check fails."""
    from ..session import new_netra

    netra = new_netra(place, workers=False, role="cli")
    settings = netra.settings
    checks = await look(settings, netra.runtime)
    place.output.document(
        {
            "ok": not any(check.state == "failed" for check in checks),
            "checks": [check.as_dict() for check in checks],
            "settings": settings.masked(),
        },
        _words(checks, settings.masked()),
    )
    return NO if any(check.state == "failed" for check in checks) else OK


async def look(settings: Settings, runtime: Runtime) -> list[Check]:
    """Every check."""
    from ...kernel.settings import unknown_environment
    from . import database, files, shared_cache

    checks = [files.environment(unknown_environment(os.environ)), *files.look(settings, runtime)]
    return [*checks, *await database.look(settings, runtime), *await shared_cache.look(settings)]


async def checks_of(settings: Settings, runtime: Runtime) -> list[dict[str, str]]:
    """The same in JSON's shapes: for the dashboard."""
    return [check.as_dict() for check in await look(settings, runtime)]


def _words(checks: Sequence[Check], settings: dict[str, object]) -> str:
    lines = [f"  {name} = {value}" for name, value in settings.items() if value not in (None, "", [])]
    lines = ["Settings (secrets masked)", *lines, "", "Checks"]
    for check in checks:
        lines.append(f"  {_MARKS[check.state]} {check.name}: {check.detail}")
        lines += [f"       {check.fix}"] if check.fix and check.state != "ok" else []
    return "\n".join(lines)
