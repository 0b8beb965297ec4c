"""`netra audit tail | search | prove | erase`: entries as they are written, found again, proven, and without their personal data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..options import TENANT, Place, command
from ..times import parse_time
from . import app
from .door import door_of

LOOK_EVERY_S: Final = 0.5
AT_ONCE: Final = 250
COLUMNS: Final = {"index": "INDEX", "at": "AT", "actor": "ACTOR", "action": "ACTION", "target": "TARGET", "id": "ID"}


@command(app, "tail", TENANT)
async def tail(
    place: Place,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="Begin with so many of the last entries.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")] = False,
    after: Annotated[int | None, typer.Option("--after", metavar="INDEX", min=-1, help="Begin behind this entry instead.")] = None,
) -> None:
    """Print the last entries, one a line, and with --follow those that come. They come by index: none is missed."""
    from ...kernel.clock import SystemClock

    async with door_of(place) as door:
        await door.settle()
        at = after if after is not None else await door.size() - lines - 1
        while found := await door.entries(max(at, -1), AT_ONCE):
            at = _print(place, found)
        while follow:
            found = await door.entries(max(at, -1), AT_ONCE)
            at = _print(place, found) if found else at
            if not found:
                await SystemClock().sleep(LOOK_EVERY_S)


@command(app, "search", TENANT)
async def search(
    place: Place,
    actor: Annotated[str | None, typer.Option("--actor", metavar="A", help="Who did it, exactly.")] = None,
    action: Annotated[str | None, typer.Option("--action", metavar="A", help="What was done, exactly: endpoint.create.")] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="T", help="What it was done to, exactly.")] = None,
    trace_id: Annotated[str | None, typer.Option("--trace", metavar="ID", help="In which trace.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="T", help="Since then: 2h, or a time.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Before then: 10m, or a time.")] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Go on behind this entry.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 100,
) -> None:
    """Find entries: all that is given must hold."""
    wanted = {"actor": actor, "action": action, "target": target, "trace_id": trace_id}
    times = {name: None if text is None else parse_time(text) for name, text in (("since", since), ("until", until))}
    async with door_of(place) as door:
        found = await door.search(wanted | times, after, limit)
    place.output.rows("entries", found, COLUMNS, "No entry is like that.")


@command(app, "prove", TENANT)
async def prove(
    place: Place,
    entry: Annotated[str, typer.Argument(metavar="INDEX", help="The entry's index, or its id.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the receipt to this file, *.tlog-proof.")] = None,
) -> None:
    """Prove that an entry is in the log: a receipt that `netra audit verify FILE --vkey KEY` judges offline."""
    async with door_of(place) as door:
        await door.settle()
        text = await door.proof(entry)
        vkey = (await door.resource("vkey")).decode().strip()
    if out is not None:
        out.write_text(text, encoding="utf-8", newline="")
        place.output.note(f"{out} is the receipt; it is verified by the key {vkey}")
    place.output.document(_shape(text, vkey), text.rstrip("\n"))


@command(app, "erase", TENANT)
async def erase(
    place: Place,
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0, help="The entry's index.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")],
) -> None:
    """Erase the personal data of an entry. Its commitment stays, no hash changes, and an entry says so."""
    async with door_of(place) as door:
        await door.settle()
        erased = await door.erase(index, reason)
    place.output.document(erased, f"the personal data of the entry {index} ({erased['id']}) is erased")


def _print(place: Place, found: list[dict[str, Any]]) -> int:
    """Each of them; the index of the last."""
    for each in found:
        place.output.event(each, f"{each['index']}  {each['at']}  {each['actor']}  {each['action']}  {each['target']}")
    return int(found[-1]["index"])


def _shape(text: str, vkey: str) -> dict[str, Any]:
    """A receipt's parts, for programs."""
    import base64

    import orjson

    from ...observability.audit import note, receipt

    found = receipt.parse(text.encode())
    checkpoint = note.read_note(found.checkpoint)
    return {
        "index": found.index,
        "entry": orjson.loads(found.entry),
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "origin": checkpoint.origin,
        "hashes": [base64.b64encode(each).decode() for each in found.hashes],
        "checkpoint": found.checkpoint,
        "vkey": vkey,
        "receipt": text,
    }
