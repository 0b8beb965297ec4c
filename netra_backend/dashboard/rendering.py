"""Templates, and how figures and times are written on pages: for people, with the exact value beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..kernel.ids import to_text
from .counting import MOST
from .visits import Right, Visit

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
US: Final = 1_000_000
_LAST_US: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
LONGEST_SHOWN: Final = 16 * 1024

NAVIGATION: Final[tuple[tuple[str, str, Right], ...]] = (
    ("overview", "Overview", "webhooks:view"),
    ("webhooks", "Webhooks", "webhooks:view"),
    ("connections", "Connections", "tenant"),
    ("batches", "Batches", "tenant"),
    ("cache", "Cache", "tenant"),
    ("kpis", "KPIs", "tenant"),
    ("audit", "Audit", "tenant"),
    ("traces", "Traces", "tenant"),
    ("debug", "Debug", "operator"),
    ("tenants", "Tenants", "operator"),
    ("settings", "Settings", "operator"),
)
"""The parts of the dashboard: name in the address, name on the page, what it takes to see it."""


def render(visit: Visit, template: str, values: Mapping[str, Any]) -> str:
    """The whole page."""
    here = visit.request.url.path.split("/")[2]
    frame = {
        "visit": visit,
        "here": here,
        "navigation": [each for each in NAVIGATION if visit.shows(each[2])],
        "tenant": visit.tenant,
        "csrf": visit.access.csrf,
        "now_us": visit.now_us,
        "to": lambda path, **query: address(visit, path, query),
        "api": lambda path: f"/api/v1{path}",
    }
    return environment().get_template(template).render(**frame, **values)


def render_plain(template: str, values: Mapping[str, Any]) -> str:
    """A page that shows nobody's data."""
    return environment().get_template(template).render(**values)


def address(visit: Visit, path: str, query: Mapping[str, Any]) -> str:
    """Where a link of this visit leads: an operator stays with the tenant that is looked at."""
    chosen = {name: str(value) for name, value in query.items() if value not in (None, "")}
    if visit.is_operator and visit.tenant is not None and "tenant" not in query:
        chosen["tenant"] = visit.tenant.uid or visit.tenant.tenant
    return f"/ui/{path}" + (f"?{urlencode(chosen)}" if chosen else "")


@cache
def environment() -> Environment:
    """Everything that is not Markup is escaped; a name that is missing is an error."""
    made = Environment(
        loader=PackageLoader(__package__, "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = (moment, ago, number, count, size, seconds, percent, text_id, pretty, words, action)
    made.filters.update({each.__name__: each for each in shown})
    return made


def moment(at_us: int | None) -> Markup:
    """A time in UTC to the second; the exact one for machines."""
    if at_us is None:
        return Markup("&mdash;")
    at = _EPOCH + timedelta(microseconds=max(0, min(at_us, _LAST_US)))
    exact = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(exact, at.strftime("%Y-%m-%d %H:%M:%S"))


def ago(at_us: int | None, now_us: int) -> Markup:
    """How long ago that was, or in how long it will be; the time itself for machines and on hovering."""
    if at_us is None:
        return Markup("&mdash;")
    at = _EPOCH + timedelta(microseconds=max(0, min(at_us, _LAST_US)))
    exact = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    distance = seconds(abs(now_us - at_us) / US)
    told = f"{distance} ago" if at_us <= now_us else f"in {distance}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(exact, at.strftime("%Y-%m-%d %H:%M:%S"), told)


def seconds(value: float | None) -> str:
    """A duration in its two largest units."""
    if value is None:
        return "—"
    if value < 1:
        return f"{value * 1000:.0f} ms" if value >= 0.001 or value == 0 else "< 1 ms"
    if value < 10:
        return f"{value:.1f}".removesuffix(".0") + " s"
    left, parts = round(value), list[str]()
    for length, unit in _UNITS:
        if left >= length or parts:
            parts.append(f"{left // length} {unit}")
            left %= length
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def number(value: float | None) -> str:
    """With commas between thousands."""
    return "—" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def count(value: int | None, most: int = MOST) -> str:
    """A figure that is counted up to a bound and no further."""
    return number(value) if value is None or value <= most else f"more than {most:,}"


def size(value: int) -> str:
    """Bytes in binary units."""
    amount, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):  # noqa: B007  (the unit that it stops at)
        if amount < 1024:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def percent(part: float, whole: float) -> str:
    """A share; a dash where there is no whole, and 100 % only where nothing is missing."""
    if not whole:
        return "—"
    share = 100 * part / whole
    return f"{min(share, 99.9) if part < whole else share:.1f} %"


def text_id(value: bytes, kind: str) -> str:
    """`msg_...` of a row's id."""
    return to_text(kind, value)


def words(value: str) -> str:
    """`reauth_required` as people write it."""
    return value.replace("_", " ")


def action(name: str) -> str:
    """`endpoint.secret.create` as an attribute's value."""
    return re.sub(r"[^a-z0-9.]+", ".", name.lower())


def pretty(text: str) -> str:
    """JSON with its lines broken; anything else as it is. The beginning, where it is long."""
    shown = text
    if len(text) <= LONGEST_SHOWN:
        with suppress(ValueError):
            shown = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    return shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + f"\n… and {len(text) - LONGEST_SHOWN:,} characters more"
