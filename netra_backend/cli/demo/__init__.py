"""`netra demo`: the main job on real input, with a server killed half-way and two bad receivers; the ledgers decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import JSON, Place, command, single

app = single()


@command(app, None, JSON)
async def demo(
    place: Place,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where ledgers, report and data go; a former demo there is replaced.")
    ] = Path("build/demo"),
    postgres: Annotated[
        bool,
        typer.Option(
            "--postgres",
            help="On PostgreSQL, with three processes: on a server that ends with the demo, or on the empty database whose owner "
            "NETRA_MIGRATE_URL names.",
        ),
    ] = False,
    flights: Annotated[int, typer.Option("--flights", min=20, max=100_000, help="At most this many events.")] = 10_000,
) -> int:
    """Run the main job on real data, with a process killed half-way.

    An event for each flight that left New York three hours late in 2013 goes to three receivers: one healthy, one that
    fails for a while, one that hangs. On PostgreSQL two workers share the database with the server that is killed. Exit 0
    only if every check holds; takes less than two minutes.
    """
    from .engines import PostgresEngine, SqliteEngine
    from .story import Story

    engine = PostgresEngine(out.absolute()) if postgres else SqliteEngine(out.absolute())
    return await Story(place.output, out, flights, engine).tell()
