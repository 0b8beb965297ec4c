"""The demo's second act: the company's own program beside the server, and what the other parts make of its work.

1. a provider whose tokens live two seconds, and a partner's receiver that is down and wants such a token; the operator connects the
   company to the provider as a user's browser would, and looks into the company's production by a debug session
2. the company's program starts: it loads flights as a batch; each late one is announced to the partner in its chunk's transaction, and
   takes out of the cache what the departure board is made from
3. in the middle of it SIGKILL ends the program; started again it goes on
4. when everything is loaded, the KPI says what it costs that the partner is down; then the partner is healed
5. when the server has stopped, the company's audit trail is exported, and judged from the exported files alone
"""

from __future__ import annotations

import os
import shutil
import signal
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from ...kernel.clock import Clock
from ...resilience.egress import Egress, Reply
from ..rest import RestClient
from .company import CONNECTION, KPI, TENANT, TOLD_WITHIN
from .engines import NETRA
from .flights import data_file
from .ledgers import Book, Watch
from .processes import Child, answer_of
from .provider import Provider, walked

RECEIVER: Final = "netra_backend.testing.endpoint"
COMPANY: Final = "netra_backend.cli.demo.company"
PARTNER: Final = "company-partner.ndjson"
RUNS: Final = "company-run.ndjson"
MOST_SECONDS: Final = "300"
LOGPOINT: Final = {"at": f"{COMPANY}:flight_of", "where": "late_min >= 240"}
LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True)
class Stage:
    """What the second act has of the first one."""

    out: Path
    environ: dict[str, str]
    stack: AsyncExitStack
    clock: Clock
    url: str
    """The server's."""
    rest: RestClient
    provider: Provider
    egress: Callable[[str], Awaitable[Egress]]
    """A client that may ask the host and port of a URL."""
    say: Callable[[str], None]
    note: Callable[..., None]


def prepare(out: Path, rows: int) -> None:
    """The company's input: the first rows of the year, and the airports and planes that are known."""
    folder = out / "flights"
    folder.mkdir()
    packed = data_file()
    for name in ("airports", "planes"):
        shutil.copy(packed.with_name(f"{name}.csv"), folder)
    with zipfile.ZipFile(packed) as archive, archive.open("flights.csv") as lines:
        (folder / "flights.csv").write_bytes(b"".join(islice(lines, rows + 1)))


class SecondAct:
    """See the module's docstring. `play` while the server runs, `check_trail` when it has stopped."""

    def __init__(self, stage: Stage, secret: str, rows: int) -> None:
        self._stage = stage
        self._rows = rows
        self._secret = secret
        self._told = Watch(stage.out / PARTNER)

    async def play(self) -> None:
        """All of it, up to the end of the company's program."""
        stage = self._stage
        provider = await self._child(stage.provider.module, stage.provider.options(f"{stage.url}/oauth/callback"), "provider.log")
        partner = await self._child(
            RECEIVER, ("--behaviour", "503", "--ledger", str(stage.out / PARTNER), "--secret", self._secret, "--port", "0"), "partner.log"
        )
        provider_url = str(provider.said[-1]["url"])
        await self._connect(provider.said[-1])
        await self._make_endpoint(str(partner.said[-1]["url"]))
        session = await self._look()
        company = await self._company(provider_url)
        stage.say(f"the company's program (pid {company.pid}) loads flights and announces each late one to its partner, who is down")
        await self._until_in_the_middle(provider_url, company)
        stage.note("killed_company", pid=company.pid, **await self._progress())
        stage.say(f"KILL -9 {company.pid}: the company's program is gone, in the middle of its batch")
        await company.kill()
        company = await self._company(provider_url)
        await self._until(self._is_loaded, company)
        (run,) = [orjson.loads(line) for line in (stage.out / RUNS).read_bytes().splitlines()]
        stage.say(f"loaded {run['done']:,} flights, {run['failed']:,} are dead letters, {run['restarts']} restarts")
        await self._count_the_cost(partner, run["late"])
        await self._end_session(session)
        stage.note("provider", stats=await self._stats(provider_url))
        stage.note("stopped_company", exit_code=await company.stop())
        for child in (partner, provider):
            await child.stop()

    async def check_trail(self) -> None:
        """Export the company's trail, and judge the export without the database."""
        stage = self._stage
        trail = stage.out / "trail"
        await answer_of(NETRA, ("audit", "export", "--tenant", TENANT, "--out", str(trail), "--json"), stage.environ)
        bare = {name: value for name, value in os.environ.items() if not name.startswith("NETRA_")}
        verdict = await answer_of(NETRA, ("audit", "verify", str(trail), "--vkey", str(trail / "vkey"), "--json"), bare)
        stage.note("trail", **verdict)
        stage.say(f"the company's audit trail holds, judged from its files alone: {verdict['size']} entries")

    async def _child(self, module: str, options: tuple[str, ...], log: str) -> Child:
        child = Child(module, (*options, "--max-seconds", MOST_SECONDS), self._stage.out / log, os.environ)
        return await self._stage.stack.enter_async_context(child)

    async def _company(self, provider_url: str) -> Child:
        child = Child(COMPANY, (str(self._stage.out), provider_url), self._stage.out / "company.log", self._stage.environ)
        await self._stage.stack.enter_async_context(child)
        self._stage.note("company", pid=child.pid)
        return child

    async def _connect(self, provider: dict[str, Any]) -> None:
        """Authorization code with PKCE; the provider consents at once, and the browser is this process."""
        rest, client = self._stage.rest, self._stage.provider.registration(provider)
        await rest.post("tenants", body={"name": "The company", "uid": TENANT})
        await rest.ask("PUT", ("tenants", TENANT, "oauth", "clients", "idp"), body=orjson.dumps(client))
        begun = await rest.post("tenants", TENANT, "connections", body={"name": CONNECTION, "client": "idp"})
        page = await walked(self._fetch, begun["authorize_url"])
        self._stage.note("connected", status=page.status, provider=self._stage.provider.module)
        self._stage.say(f"connected to {self._stage.provider.words}")

    async def _fetch(self, url: str, headers: Sequence[tuple[str, str]] = ()) -> Reply:
        egress = await self._stage.egress(url)
        return await egress.request("GET", url, headers=headers, tenant=TENANT, read_limit=2**24)

    async def _stats(self, provider_url: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads((await self._fetch(f"{provider_url}/stats")).body)
        return found

    async def _until_in_the_middle(self, provider_url: str, company: Child) -> None:
        """Until a third is loaded; with a strict provider, until something is, and the token has just been renewed.

        That one would take back all that it granted if the kill took an answer away.
        """
        if not self._stage.provider.is_strict:
            await self._until(partial(self._is_so_far, 3), company)
            return
        await self._until(partial(self._is_so_far, self._rows), company)
        before = len((await self._stats(provider_url))["requests"])

        async def has_renewed() -> bool:
            now = await self._stats(provider_url)
            return len(now["requests"]) > before and not now["in_flight"]

        await self._until(has_renewed, company)
        await self._stage.clock.sleep(LOOK_EVERY_S)  # for the answer's way into the vault; the next renewal is a second away

    async def _make_endpoint(self, url: str) -> None:
        body = {"url": url, "uid": "partner", "secret": self._secret, "auth": {"connection": CONNECTION}}
        await self._stage.rest.post("app", TENANT, "endpoint", body=body)

    async def _look(self) -> str:
        body = {"reason": "why does the partner hear nothing?", "ttl": "10m", "capture": ["http"], "logpoints": [LOGPOINT]}
        made = await self._stage.rest.post("tenants", TENANT, "debug", "sessions", body=body)
        return str(made["session"])

    async def _end_session(self, session: str) -> None:
        path = ("tenants", TENANT, "debug", "sessions", session)
        await self._stage.rest.ask("DELETE", path)
        exported = await self._stage.rest.get(*path, "export")
        with Book(self._stage.out / "company-debug.ndjson") as book:
            book.add(*exported["records"])
        self._stage.say(f"a debug session of this tenant saw {len(exported['records']):,} exchanges and variables, and nothing of others")

    async def _count_the_cost(self, partner: Child, late: int) -> None:
        """What the business loses while the partner is down, and what is left of that when it has come back."""
        stage = self._stage
        down = await self._figures(late)
        causes = ", ".join(sorted({each["cause"].partition(" ")[0] for each in down["causes"]})) or "none"
        stage.note("partner_down", **{name: down[name] for name in ("total", "good", "late", "lost", "value_late")})
        stage.say(f"KPI: {down['late']:,} of {down['total']:,} late flights were not told within {TOLD_WITHIN}, which are")
        stage.say(f"{down['value_late']:,.0f} minutes of delay that nobody knows of; why: {causes}")
        partner.signal(signal.SIGUSR1)
        stage.note("healed", receiver="partner")
        await self._until(lambda: self._is_told(late), partner)
        told = await self._figures(late)
        stage.note("partner_back", **{name: told[name] for name in ("total", "good", "late", "lost", "value_late")})
        stage.say(f"the partner is healed and has heard of all {told['total']:,}; {told['lost']} are lost")

    async def _figures(self, late: int) -> dict[str, Any]:
        """What the KPI says once it has counted so many, each as late."""
        while (found := await self._stage.rest.get("tenants", TENANT, "kpis", KPI, since="1h"))["late"] != late:
            await self._stage.clock.sleep(LOOK_EVERY_S)
        return dict(found)

    async def _is_told(self, count: int) -> bool:
        return self._told.look() >= count

    async def _progress(self) -> dict[str, int]:
        found = await self._stage.rest.get("tenants", TENANT, "batch", "runs")
        return {name: found["data"][0][name] if found["data"] else 0 for name in ("done", "failed")}

    async def _is_so_far(self, parts: int) -> bool:
        """Whether one of so many parts is loaded."""
        now = await self._progress()
        return parts * (now["done"] + now["failed"]) >= self._rows

    async def _is_loaded(self) -> bool:
        return (self._stage.out / RUNS).exists() and (self._stage.out / RUNS).read_bytes().endswith(b"\n")

    async def _until(self, holds: Callable[[], Awaitable[bool]], child: Child) -> None:
        while not await holds():
            child.check()
            await self._stage.clock.sleep(LOOK_EVERY_S)
