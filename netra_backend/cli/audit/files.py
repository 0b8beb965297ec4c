"""`netra audit export | verify`: a log as files, and what anybody can say of such files without us."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import UsageError
from ..options import JSON, TENANT, Place, command
from ..output import NO, OK
from . import app
from .door import door_of


@command(app, "export", TENANT)
async def export(
    place: Place, out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make; it must not exist, or be empty.")]
) -> None:
    """Write the tenant's log to a folder: checkpoint, key, tiles, entries. It verifies by itself, here or by others' tools."""
    from ...observability.audit import exporting

    async with door_of(place) as door:
        await door.settle()
        done = await exporting.export(door.resource, out)
    document = {
        "folder": str(done.folder),
        "origin": done.checkpoint.origin,
        "size": done.checkpoint.size,
        "root": done.checkpoint.root.hex(),
        "minimum": done.minimum,
        "bytes": done.bytes,
    }
    place.output.document(document, f"{out}: {done.checkpoint.size} entries of {done.checkpoint.origin}, {done.bytes} bytes")
    place.output.note("Keep its checkpoint and key apart: a later export is judged against them.")


@command(app, "verify", JSON)
def verify(
    place: Place,
    path: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an export, or the file of a receipt.")],
    vkey: Annotated[Path | None, typer.Option("--vkey", metavar="FILE", help="The key that you trust; left out, the folder's own.")] = None,
    earlier: Annotated[
        list[Path] | None, typer.Option("--checkpoint", metavar="FILE", help="A checkpoint kept from earlier; may be repeated.")
    ] = None,
) -> int:
    """Judge an export from its files alone: every hash, the signature, and that it continues what was kept. Exit 1 if it does not hold.

    It needs no database, no network and no secret. `first_bad` is the index of the first entry that cannot be relied on.
    """
    from ...observability.audit import verifying

    if not path.exists():
        raise UsageError(f"there is no {path}", fix="Give the folder that `netra audit export` made, or a receipt.")
    key = None if vkey is None else _read(vkey).decode("utf-8", "replace")
    if path.is_dir():
        verdict = verifying.verify(path, key, [_read(each).decode("utf-8", "replace") for each in earlier or ()])
    elif key is None:
        raise UsageError("a receipt is judged by a key", fix="Give --vkey FILE: the `vkey` of an export, or the server's /audit/vkey.")
    else:
        verdict = verifying.verify_receipt(_read(path), key)
    if vkey is None:
        place.output.note("The folder's own key was believed: give --vkey with one that you have from elsewhere.")
    words = f"{verdict.size} entries of {verdict.origin} hold, root {verdict.root}"
    if not verdict.ok:
        words = (
            f"it does not hold from entry {verdict.first_bad} on" + (f", {verdict.file}" if verdict.file else "") + f": {verdict.reason}"
        )
    place.output.document(verdict.as_dict(), words)
    return OK if verdict.ok else NO


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", fix="Name a file that exists and may be read.") from error
