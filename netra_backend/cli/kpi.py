"""`netra kpi`: what was promised in business units, what became of it, and why not.

Without `--tenant` the figures are of the whole installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from .options import TENANT, Place, command, group
from .output import NO, OK
from .rest import connected
from .session import opened, scope_of

app = group("Show KPIs in business units: kept, late, lost, and why.")

Since = Annotated[str, typer.Option("--since", metavar="T", help="How long ago, 2h for example, or a time.")]
_COLUMNS: Final = {
    "name": "KPI", "unit": "unit", "total": "promised", "good": "kept", "late": "late", "lost": "lost", "pending": "pending",
    "value_late": "value late", "value_lost": "value lost",
}  # fmt: skip


@command(app, "list", TENANT)
async def list_(place: Place, since: Since = "24h") -> None:
    """List KPIs with their figures."""
    if place.server:
        async with connected(place) as client:
            found = (await client.get(*_of_tenant(place), "kpis", since=since))["data"]
    else:
        async with opened(place) as netra:
            found = await netra.kpi.list(since, tenant=(await scope_of(netra, place)).tenant if place.tenant else None)
    place.output.rows("kpis", found, _COLUMNS, "No KPI is defined.")


@command(app, "show", TENANT)
async def show(place: Place, name: Annotated[str, typer.Argument(metavar="NAME", help="The KPI.")], since: Since = "24h") -> int:
    """Show one KPI: figures, causes with their objects and traces, alerts; exit 1 while one fires."""
    if place.server:
        async with connected(place) as client:
            found = await client.get(*_of_tenant(place), "kpis", name, since=since)
    else:
        async with opened(place) as netra:
            found = await netra.kpi.impact(name, since, tenant=(await scope_of(netra, place)).tenant if place.tenant else None)
    place.output.document(found, words_of(found))
    return NO if found.get("alerts") else OK


@command(app, "report", TENANT)
async def report(place: Place, month: Annotated[str, typer.Option("--month", metavar="M", help="Year and month in UTC, 2026-03.")]) -> None:
    """Report a month of a tenant: promised, kept and missed, in objects and value."""
    tenant = place.the_tenant()
    if place.server:
        async with connected(place) as client:
            found = await client.get("tenants", tenant, "kpi-report", month=month)
    else:
        async with opened(place) as netra:
            found = await netra.kpi.report((await scope_of(netra, place)).tenant, month)
    place.output.document(found, "\n".join(_report_words(found)))


def _of_tenant(place: Place) -> tuple[str, ...]:
    return ("tenants", place.tenant) if place.tenant else ()


def words_of(found: Mapping[str, Any]) -> str:
    """A KPI for people: the figures, then each cause with some of its objects."""
    unit = found["unit"]
    lines = [
        f"{found['name']}: {found['total']} {unit} promised, {found['good']} kept, {found['pending']} pending",
        f"{found['late']} late ({found['value_late']:,.2f}), {found['lost']} lost ({found['value_lost']:,.2f}), {found['tenants']} tenants",
    ]
    lines += [f"  {each['cause'] or 'unknown'}: {each['count']} ({', '.join(each['objects'][:5])})" for each in found["causes"]]
    lines += [f"  alert {each['rule']} fires" for each in found.get("alerts", ())]
    return "\n".join(lines)


def _report_words(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{found['tenant']}, {found['month']}"]
    for each in found["kpis"]:
        lines.append(
            f"{each['name']}: {each['promised']} {each['unit']} promised ({each['value_promised']:,.2f}), {each['kept']} kept "
            f"({each['value_kept']:,.2f}), {each['missed']} missed ({each['value_missed']:,.2f})"
        )
        lines += [f"  {one['key']} {one['result']} {one['value']:,.2f}: {one['cause']}" for one in each["objects"][:20]]
    return lines
