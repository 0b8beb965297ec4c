"""`netra demo`: one story of all five parts on real input, with two processes killed half-way; the ledgers decide."""

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
    certified: Annotated[
        bool,
        typer.Option(
            "--certified",
            help="Connect to the certified oidc-provider of npm, on Node, instead of Netra's own provider; both stand in the repository's "
            "test environment.",
        ),
    ] = False,
    flights: Annotated[int, typer.Option("--flights", min=20, max=100_000, help="At most this many events in the first act.")] = 10_000,
    rows: Annotated[int, typer.Option("--rows", min=500, max=336_776, help="So many flights to load in the second act.")] = 24_000,
) -> int:
    """Play one story of all five parts on real data, with two processes killed half-way.

    An event for each flight that left New York three hours late in 2013 goes to three receivers: one healthy, one that
    fails for a while, one that hangs; the server is killed meanwhile. Then a company's program, which is killed too, loads
    flights as a batch, announces late ones to a partner who is down and wants a token of the vault, and shows a cached board;
    a KPI counts the cost, a debug session looks on, and the audit trail is judged from files alone. On PostgreSQL two workers
    share the database with the server, and a Valkey is beside it. Exit 0 only if every check holds; takes less than three
    minutes.
    """
    from .engines import PostgresEngine, SqliteEngine
    from .provider import CertifiedProvider, OwnProvider
    from .story import Story

    engine = PostgresEngine(out.absolute()) if postgres else SqliteEngine(out.absolute())
    provider = CertifiedProvider() if certified else OwnProvider()
    return await Story(place.output, out, flights, rows, engine, provider).tell()
