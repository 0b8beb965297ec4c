"""`netra.kpi`: declare KPIs, ask what became of the promises."""

from __future__ import annotations

import asyncio
import calendar
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ...errors import CannotStart, InvalidInput, NetraError
from ...kernel.durations import parse_duration
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage.database import Database
from . import alerts, model, slo, store
from .evaluation import minute_of
from .model import LOST_AFTER_S, MICRO, Definition, Event

Since = str | float | datetime
"""How long ago (`2h`, or seconds), or the moment itself."""

ScopeOf = Callable[[str | None], Awaitable[Scope]]
_SCOPE: Final = system_scope("kpi")


class Kpi:
    """One declared KPI. `depends_on` and `slo` add to its declaration; what it is now is written before anything is asked."""

    def __init__(self, kpis: Kpis, name: str) -> None:
        self.name = name
        self._kpis = kpis

    def depends_on(self, *names: str) -> Kpi:
        """What it depends on, where causes are looked for: `webhooks.tag:billing`, `oauth.provider:stripe`, `batch.job:invoicing`."""
        self._kpis.change(self.name, depends_on=model.dependencies(names))
        return self

    def slo(self, target: float, window: str | float = "30d", min_events: int = 50, page_if_bad: int | None = None) -> Kpi:
        """Promise this share good over this window; alerts are operational events `kpi.alert`. See `slo.py` for the rules."""
        self._kpis.change(self.name, slo=model.slo(target, window, min_events, page_if_bad))
        return self

    async def impact(self, since: Since = "24h", *, tenant: str | None = None) -> dict[str, Any]:
        """See `Kpis.impact`."""
        return await self._kpis.impact(self.name, since, tenant=tenant)


class Kpis:
    """`netra.kpi`. Definitions are the installation's, figures each tenant's."""

    def __init__(self, runtime: Runtime, scope_of: ScopeOf) -> None:
        self._runtime = runtime
        self._scope_of = scope_of
        self._declared: dict[str, Definition] = {}
        self._written: dict[str, Definition] = {}
        self._writing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing: set[asyncio.Task[None]] = set()

    async def start(self, database: Database, file: Path | None = None) -> None:
        """Write what was declared before, and what the file says."""
        self._database = database
        self._loop, self._written = asyncio.get_running_loop(), {}
        for name, definition in read_file(file).items() if file is not None else ():
            self._declared.setdefault(name, definition)
        await self.flush()

    async def stop(self) -> None:
        """Write what is not written yet."""
        self._loop = None
        await asyncio.gather(*self._flushing, return_exceptions=True)

    def define(
        self,
        name: str,
        *,
        unit: str,
        total: Event | str,
        good: Event | str,
        value: str | None = None,
        lost_after: str | float = LOST_AFTER_S,
    ) -> Kpi:
        """Declare a KPI: `total` is the event that promises an object, `good` the one that keeps it.

        `value` is the member of `total`'s data that says what one is worth. What has not come `lost_after` its deadline is lost,
        before that it is late. Counted from its first declaration on; declared otherwise it is counted anew. Raises `InvalidInput`.
        """
        made = model.define(name, unit=unit, total=total, good=good, value=value, lost_after=lost_after)
        former = self._declared.get(name)
        if former is not None:
            made = replace(made, depends_on=former.depends_on, slo=former.slo)
        self._declared[name] = made
        self._flush_soon()
        return Kpi(self, name)

    def change(self, name: str, **parts: Any) -> None:
        """Add to a declaration."""
        self._declared[name] = replace(self._declared[name], **parts)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin_flush)

    def _begin_flush(self) -> None:
        task = asyncio.ensure_future(self._flush_quietly())
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except NetraError as error:
            self._runtime.log.warning("a KPI could not be written yet, the next question tries again: %s", error)

    async def flush(self) -> None:
        """Write every declaration that is not written as it is now."""
        async with self._writing:
            wanted = [each for name, each in sorted(self._declared.items()) if self._written.get(name) != each]
            if wanted:
                await self._database.write(store.define, wanted, scope=_SCOPE)
                self._written |= {each.name: each for each in wanted}

    async def list(self, since: Since = "24h", *, tenant: str | None = None) -> list[dict[str, Any]]:
        """Every KPI with its figures since then, of a tenant or of all; see `impact`."""
        await self.flush()
        found = await self._database.read(store.definitions, scope=_SCOPE)
        return [await self._impact(each, since, tenant) for each in found]

    async def impact(self, name: str, since: Since = "24h", *, tenant: str | None = None) -> dict[str, Any]:
        """What was promised since then and what became of it, of a tenant or of all.

        `{"name","unit","total","good","late","lost","value_lost","tenants","causes":[{"cause","count","objects","traces"}]}`, and
        `pending`, `value` (promised), `value_late`, `burn` by window where it has an SLO, and the `alerts` that fire.
        """
        await self.flush()
        return await self._impact(await self._database.read(store.named, name, scope=_SCOPE), since, tenant)

    async def _impact(self, definition: Definition, since: Since, tenant: str | None) -> dict[str, Any]:
        now_us = self._runtime.clock.wall_us()
        window = minute_of(moment_us(since, now_us)), now_us + model.MINUTE_US
        scope = _SCOPE if tenant is None else await self._scope_of(tenant)
        sums = await self._database.read(store.figures, [definition.id], *window, scope=scope)
        made = shape(definition, sums)
        made["tenants"] = await self._database.read(store.tenants_concerned, definition.id, *window, scope=scope)
        made["causes"] = await self._database.read(store.causes, definition.id, *window, scope=scope)
        if definition.slo is not None and tenant is None:
            judged = await self._database.read(alerts.burns, definition, scope=_SCOPE)
            made["slo"] = definition.slo.to_json()
            made["burn"] = {rule.name: round(slo.burn(definition.slo, judged[rule.long_us]), 3) for rule in slo.RULES}
            rows = await self._database.read(_alerts, definition.id, scope=_SCOPE)
            made["alerts"] = [{"rule": rule, "since_us": since_us} for rule, firing, since_us in rows if firing]
        return made

    async def report(self, tenant: str, month: str) -> dict[str, Any]:
        """A month of one tenant, to be sent to it: for each KPI what was promised, kept and missed, in objects and value.

        `month` is `2026-03`, in UTC. `{"tenant","month","kpis":[{"name","unit","promised","kept","missed","late","lost","objects"}]}`,
        with `value_promised`, `value_kept` and `value_missed`; `objects` names what was missed, the first thousand.
        """
        await self.flush()
        scope = await self._scope_of(tenant)
        since_us, until_us = month_us(month)
        rows = []
        for each in await self._database.read(store.definitions, scope=_SCOPE):
            ids = await self._database.read(store.versions, each.name, scope=_SCOPE)
            sums = await self._database.read(store.figures, ids, since_us, until_us, scope=scope)
            missed = [one for id_ in ids for one in await self._database.read(store.missed, id_, since_us, until_us, scope=scope)]
            rows.append(_of_month(each, sums, missed))
        return {"tenant": scope.tenant, "month": month, "kpis": rows}


async def _alerts(tx: Any, id_: bytes) -> Any:
    return await tx.all(store.Q.alerts, kpi=id_)


def shape(definition: Definition, sums: Mapping[str, int]) -> dict[str, Any]:
    """The JSON of a KPI's figures."""
    judged = sums["good"] + sums["late"] + sums["lost"]
    return {
        "name": definition.name,
        "unit": definition.unit,
        "total": sums["total"],
        "good": sums["good"],
        "late": sums["late"],
        "lost": sums["lost"],
        "pending": sums["total"] - judged,
        "value": sums["value"] / MICRO,
        "value_good": sums["value_good"] / MICRO,
        "value_late": sums["value_late"] / MICRO,
        "value_lost": sums["value_lost"] / MICRO,
        "depends_on": list(definition.depends_on),
    }


def _of_month(definition: Definition, sums: Mapping[str, int], missed: list[dict[str, Any]]) -> dict[str, Any]:
    objects = [{**each, "value": each["value"] / MICRO} for each in missed]
    return {
        "name": definition.name,
        "unit": definition.unit,
        "promised": sums["total"],
        "kept": sums["good"],
        "missed": sums["late"] + sums["lost"],
        "late": sums["late"],
        "lost": sums["lost"],
        "value_promised": sums["value"] / MICRO,
        "value_kept": sums["value_good"] / MICRO,
        "value_missed": (sums["value_late"] + sums["value_lost"]) / MICRO,
        "objects": objects[:1000],
    }


def moment_us(since: Since, now_us: int) -> int:
    """The moment in microseconds."""
    if isinstance(since, datetime):
        return int(since.timestamp() * MICRO)
    try:
        return now_us - int(parse_duration(since) * MICRO)
    except InvalidInput:
        if not isinstance(since, str):
            raise
    try:
        at = datetime.fromisoformat(since)
    except ValueError:
        raise InvalidInput(
            f"{since[:40]!r} is no time", fix="Write how long ago, 90m or 2h for example, or a time as 2026-03-01T12:00:00Z."
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * MICRO)


def month_us(month: str) -> tuple[int, int]:
    """The month's beginning and the next one's, in UTC."""
    try:
        begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInput(f"{month[:40]!r} is no month", fix="Write year and month: 2026-03.") from None
    days = calendar.monthrange(begin.year, begin.month)[1]
    since_us = int(begin.timestamp()) * MICRO
    return since_us, since_us + days * 86_400 * MICRO


def read_file(path: Path) -> dict[str, Definition]:
    """The KPIs of a TOML file, its tables `[kpi.NAME]`; `CannotStart` says what is wrong with it."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("kpi", {})
        return {name: model.of_table(name, table) for name, table in tables.items()}
    except (OSError, tomllib.TOMLDecodeError, InvalidInput, TypeError, AttributeError) as error:
        fix = error.fix if isinstance(error, InvalidInput) else "See docs/kpis.md for an example."
        raise CannotStart(f"the KPIs of {path} cannot be read: {error}", fix=fix) from error
