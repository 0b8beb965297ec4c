"""`netra restore`: a backup in the database's place, the former one kept beside it."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .backup import database_of, described, in_words, installation
from .options import DATABASE, Place, command, single

if TYPE_CHECKING:
    from ..kernel.runtime import Runtime
    from ..kernel.settings import Settings
    from ..storage.sqlite_restore import Restored

app = single()


@command(app, None, DATABASE)
def restore(place: Place, file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `netra backup` made.")]) -> None:
    """Put a backup in the database's place.

    Refused while any process has the database open. The former database stays beside it, under a name with the time in it,
    and restoring that is the way back. What was leased when the backup was made is due again; what came later is not in it.
    """
    from ..storage import sqlite_restore

    settings, runtime = installation(place, "pg_restore")
    database = database_of(settings)
    ring = _ring(settings, runtime)
    started = runtime.clock.monotonic()
    done = sqlite_restore.restore(file.absolute(), database, runtime, driver=settings.sqlite_driver or "apsw", proc_root=settings.proc_root)
    seconds = round(runtime.clock.monotonic() - started, 3)
    missing = [root for root in done.found.root_keys if root not in ring]
    document = {
        "database": str(database),
        "file": str(file.absolute()),
        "former": None if done.former is None else str(done.former),
        "bytes": done.bytes,
        "seconds": seconds,
        "epoch": done.epoch,
        "has_checksum": done.has_checksum,
        "missing_root_keys": missing,
    }
    place.output.document(document | described(done.found), f"{database} is {file} now: {in_words(done.found)}")
    _advise(place, settings, done, missing)


def _ring(settings: Settings, runtime: Runtime) -> Container[str]:
    """The ids of this installation's root keys. Looked at before anything is changed, and never made here."""
    from ..storage.sealing import load_root_keys

    return load_root_keys(settings.root_keys, runtime.chance) if settings.root_keys.exists() else ()


def _advise(place: Place, settings: Settings, done: Restored, missing: list[str]) -> None:
    if done.was_interrupted:
        place.output.note("An earlier restore had been interrupted before it took effect; what it left is removed.")
    if not done.has_checksum:
        place.output.note("The file had no checksum, as `netra backup` gives one: its structure was checked, not every byte.")
    if done.former is not None:
        place.output.note(f"The former database is {done.former}: `netra restore` of it is the way back, deleting it is up to you.")
    if missing:
        place.output.note(
            f"Root keys {', '.join(missing)} are not in {settings.root_keys}: put them there before the first start. "
            "Without them the secrets stay sealed, and nothing can be signed."
        )
    place.output.note("API keys and secrets that were revoked or rotated after the backup are valid again: repeat that.")
