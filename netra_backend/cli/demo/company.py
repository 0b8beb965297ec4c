"""The company's own program, with Netra as its library, beside the server on the same data: `python -m ...company FOLDER PROVIDER_URL`.

It loads the flights of `FOLDER/flights` as a batch, whose chunks announce late flights by webhook and change what its departure board is
made from; meanwhile it reads that board through the cache, and asks the provider whether the vault's token of this moment is good. It
may be killed at any time: started again it goes on. What it saw it writes into `FOLDER/company-*.ndjson`, for the verdict.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ... import batch
from ...errors import NetraError
from ...kernel.scope import Scope
from ...netra import Netra
from ...observability.kpi.model import Event
from ...resilience.egress import Egress
from ...storage.transaction import Tx
from .ledgers import Book

TENANT: Final = "newark"
CONNECTION: Final = "partner"
RUN_KEY: Final = "the-flights"
LATE: Final = "flight.late"
LATE_MIN: Final = 120
KPI: Final = "late_flights_told"
TOLD_WITHIN: Final = "2s"
LOOK_EVERY_S: Final = 0.05
ASK_EVERY_S: Final = 0.1
TOKEN_LASTS_S: Final = 0.5
"""What a token must last still, for the question whether it is good to arrive in time."""

_SCOPE: Final = Scope(TENANT, "company")
_DICTIONARIES: Final = {"airports": "faa", "planes": "tailnum"}
_AIRPORTS: Final = batch.sql(
    "insert into company_airport (faa) select r.name from rows(:rows, name text) as r where true on conflict do nothing"
)
_PLANES: Final = batch.sql(
    "insert into company_plane (tailnum) select r.name from rows(:rows, name text) as r where true on conflict do nothing"
)
_FLIGHTS: Final = batch.sql(
    """insert into company_flight (flown, carrier, flight, origin, dest, tailnum, late_min)
    select r.flown, r.carrier, r.flight, r.origin, r.dest, r.tailnum, r.late_min
    from rows(:rows, flown text, carrier text, flight int, origin text, dest text, tailnum text, late_min int) as r"""
)
_CARRIERS: Final = batch.sql("select distinct carrier from company_flight")
_LATE_OF: Final = batch.sql("select count(*) from company_flight where late_min >= :least and carrier = :carrier")
_LATE: Final = batch.sql("select count(*) from company_flight where late_min >= :least")
_LOADED: Final = batch.sql("select flown, carrier, flight, origin from company_flight")

Flight = tuple[str, str, int, str, str, str, int]


def departed(row: Mapping[str, str]) -> Flight:
    """A flight as its table wants it; `ValueError` where it has no delay, because it never left."""
    return flight_of(row, int(row["dep_delay"]))


def flight_of(row: Mapping[str, str], late_min: int) -> Flight:
    """One that left, as its table wants it; where the debug session of the demo looks."""
    return (row["time_hour"], row["carrier"], int(row["flight"]), row["origin"], row["dest"], row["tailnum"], late_min)


def digest(keys: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """How many keys there are, and a digest of all of them in order: equal exactly if they are the same."""
    lines = sorted("|".join(map(str, key)) for key in keys)
    return {"count": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


class Company:
    """The program. `flights` is the folder with the input."""

    def __init__(self, netra: Netra, out: Path, provider: str) -> None:
        self._netra = netra
        self._out = out
        self._provider = provider
        self._clock = netra.runtime.clock
        self._job = batch.job("flights", read=_flights, process=departed, write=self._write, partitions=2)
        self._board = netra.cache.cached("board", ttl="10m")(self._count_board)
        self._late_of = netra.cache.cached("late:{carrier}", ttl="10m", depends_on=["carrier:{carrier}"])(self._count_late)
        netra.kpi.define(
            KPI,
            unit="flights",
            value="late_min",
            total=Event(LATE),
            good=Event("webhook.delivered").within(TOLD_WITHIN).by("id"),
        )

    async def work(self) -> None:
        """Load what is to be loaded, or what is left of it, and then go on reading until somebody ends it."""
        await self._netra.write(self._load_dictionaries, tenant=TENANT)
        async with self._netra.transaction(tenant=TENANT) as tx:
            run = await self._netra.batch.start(tx, self._job, {"folder": str(self._out / "flights")}, RUN_KEY)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_board())
            tasks.create_task(self._use_tokens())
            await self._until_over(run)
            await self._tell(run)

    async def _load_dictionaries(self, tx: Tx) -> None:
        for statement, (name, column) in zip((_AIRPORTS, _PLANES), _DICTIONARIES.items(), strict=True):
            lines = (self._out / "flights" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
            place = lines[0].split(",").index(column)
            await tx.execute(statement, rows=[(line.split(",")[place].strip('"'),) for line in lines[1:]])

    async def _write(self, tx: Tx, rows: batch.Rows) -> None:
        """A chunk: its rows, a message for each late flight, and what the board must forget, in one transaction."""
        await tx.execute(_FLIGHTS, rows=list(rows))
        for flown, carrier, flight, origin, _, _, late_min in rows:
            if late_min >= LATE_MIN:
                facts = {"id": f"{flown}|{carrier}|{flight}|{origin}", "carrier": carrier, "late_min": late_min}
                await self._netra.webhooks.send(tx, LATE, facts)
        await self._netra.cache.invalidate(tx, "carriers", *(f"carrier:{carrier}" for carrier in sorted({row[1] for row in rows})))

    async def _count_board(self) -> int:
        self._netra.cache.depends("carriers")
        carriers = await self._read(_CARRIERS)
        return sum([await self._late_of(carrier) for (carrier,) in carriers])

    async def _count_late(self, carrier: str) -> int:
        return int((await self._read(_LATE_OF, least=LATE_MIN, carrier=carrier))[0][0])

    async def _read(self, statement: Any, **values: Any) -> list[Any]:
        async def fetch(tx: Tx) -> list[Any]:
            return list(await tx.all(statement, **values))

        found: list[Any] = await self._netra.database.read(fetch, scope=_SCOPE)
        return found

    async def _read_board(self) -> None:
        with Book(self._out / "company-board.ndjson") as book, self._netra.scope(TENANT, "board"):
            while True:
                truth = int((await self._read(_LATE, least=LATE_MIN))[0][0])
                at_us = self._clock.wall_us()
                book.add({"at_us": at_us, "truth": truth, "shown": await self._board()})
                await self._clock.sleep(LOOK_EVERY_S)

    async def _use_tokens(self) -> None:
        port = urlsplit(self._provider).port or 0
        with Book(self._out / "company-tokens.ndjson") as book:
            async with Egress(self._netra.runtime, allow=("127.0.0.0/8",), ports=(port,)) as egress:
                await self._ask_again_and_again(egress, book)

    async def _ask_again_and_again(self, egress: Egress, book: Book) -> None:
        while True:
            try:
                token = await self._netra.oauth.token(TENANT, CONNECTION, TOKEN_LASTS_S)
            except NetraError as error:  # none that lives: the vault is renewing it, and says when not to ask
                book.add({"at_us": self._clock.wall_us(), "generation": None, "status": None, "reason": error.code})
            else:
                headers = (("authorization", f"Bearer {token.access_token}"),)
                reply = await egress.request("GET", f"{self._provider}/userinfo", headers=headers, tenant=TENANT)
                book.add({"at_us": self._clock.wall_us(), "generation": token.generation, "status": reply.status})
            await self._clock.sleep(ASK_EVERY_S)

    async def _until_over(self, run: str) -> None:
        while (await self._netra.batch.status(run, tenant=TENANT))["state"] in {"queued", "running"}:
            await self._clock.sleep(LOOK_EVERY_S)

    async def _tell(self, run: str) -> None:
        status = await self._netra.batch.status(run, tenant=TENANT)
        letters = await self._netra.batch.failures(run, tenant=TENANT, limit=10**9)
        rows = [letter["payload"] for letter in letters]
        dead = digest((row["time_hour"], row["carrier"], row["flight"], row["origin"]) for row in rows)
        loaded = digest(await self._read(_LOADED))
        kept = {name: status[name] for name in ("run", "state", "total", "done", "failed", "restarts", "seconds")}
        late = int((await self._read(_LATE, least=LATE_MIN))[0][0])
        with Book(self._out / "company-run.ndjson") as book:
            book.add({"at_us": self._clock.wall_us(), **kept, "loaded": loaded, "dead": dead, "late": late})


def _flights(params: Mapping[str, Any]) -> Any:
    return batch.csv(Path(params["folder"]) / "flights.csv")


async def run(out: Path, provider: str) -> None:
    """Until SIGTERM, or until the work fails."""
    netra = Netra(dev=True)
    async with netra:
        await netra.tenant(TENANT)
        company = Company(netra, out, provider)
        working = asyncio.create_task(company.work())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, partial(working.cancel, "ended"))
        sys.stdout.write(json.dumps({"event": "ready"}) + "\n")
        sys.stdout.flush()
        try:
            await working
        except asyncio.CancelledError:
            return


def main() -> None:
    """The program."""
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    importlib.import_module("netra_backend.cli.demo.company").main()  # under its name, as a debug session knows it
