"""Seeing what a session records: as it comes, or all of it in one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InvalidInput
from ..options import TENANT, Place, command
from . import app
from .door import entered
from .sessions import SessionRef

LONGEST_LINE = 400


@command(app, "watch", TENANT)
async def watch(
    place: Place,
    session: SessionRef,
    after: Annotated[int, typer.Option("--after", metavar="SEQ", min=0, help="Go on behind this record.")] = 0,
    count: Annotated[int, typer.Option("--count", min=0, help="End after this many; 0 goes on until the session is over.")] = 0,
) -> None:
    """Follow a session until it is over: what was recorded before, then what comes."""
    shown = 0
    async with entered(place) as door:
        async for records in door.watch(session, after):
            for record in records:
                place.output.event(record, words_of(record))
                shown += 1
                if shown == count:
                    return


@command(app, "export", TENANT)
async def export(
    place: Place,
    session: SessionRef,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A new file; stdout if left out.")] = None,
) -> None:
    """Write all of a session into one JSON document, for a bug report."""
    import orjson

    if out is not None and out.exists():
        raise InvalidInput(f"{out} exists already", fix="Name a new file.")
    async with entered(place) as door:
        found = await door.export(session)
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    if out is None:
        place.output.document(found, text.decode())
        return
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # a customer's data: nobody else's to read
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    place.output.document({"file": str(out), "records": len(found["records"])}, f"{len(found['records'])} records in {out}")


def words_of(record: dict[str, Any]) -> str:
    """A record in a line, for people."""
    data = record["data"]
    words = {"log": _log, "http": _http, "snapshot": _snapshot}.get(record["kind"], str)(data)
    return f"{record['at']}  {record['kind']:<8}  {words}"[:LONGEST_LINE]


def _log(data: dict[str, Any]) -> str:
    return f"{data.get('level')} {data.get('logger')}: {data.get('message')}"


def _http(data: dict[str, Any]) -> str:
    answer = data.get("answer", {})
    told = answer.get("status") or " ".join(str(answer[name]) for name in ("error", "detail", "fix") if answer.get(name))
    body = str(answer.get("body") or "")[:120]
    return f"{'->' if data.get('direction') == 'out' else '<-'} {data.get('method')} {data.get('url')}: {told} {body}"


def _snapshot(data: dict[str, Any]) -> str:
    return f"{data.get('at')} line {data.get('line')}: " + ", ".join(
        f"{name}={value!r}" for name, value in data.get("variables", {}).items()
    )
