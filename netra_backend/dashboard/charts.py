"""Drawings: SVG text, made here, coloured by the page's style sheet. Each has a title that says what it shows, for who hears it read.

Numbers only are written into them, and texts through `Markup`'s escaping; no style attribute, which the policy of content would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log10
from typing import Final

from markupsafe import Markup, escape

from .rendering import number, seconds

WIDTH: Final = 720
LEFT: Final = 44
BOTTOM: Final = 18


@dataclass(frozen=True, slots=True)
class Series:
    """One figure over time: its name, the style class that colours it, and a value for each step."""

    name: str
    style: str
    values: Sequence[float]


def _svg(height: int, title: str, body: Iterable[Markup], css: str = "chart", width: int = WIDTH) -> Markup:
    frame = Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="{}"><title>{}</title>{}</svg>')
    keep = "none" if css != "chart" else "xMidYMid meet"
    return frame.format(css, width, height, title, keep, title, Markup().join(body))


def _rect(x: float, y: float, width: float, height: float, style: str, title: str = "") -> Markup:
    """Text by hand, for a page may have hundreds of them; `style` is ours, and the title is escaped."""
    told = f"<title>{escape(title)}</title>" if title else ""
    wide, tall = max(width, 0.0), max(height, 0.0)
    return Markup(f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" class="{style}">{told}</rect>')  # noqa: S704


def _text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> Markup:
    return Markup(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>')  # noqa: S704  (as above)


def nice_top(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... at or above it."""
    if value <= 1:
        return 1.0
    power: float = 10.0 ** int(log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)


def short(value: float) -> str:
    """A figure for an axis, where there is little room: `5k`, `1.5M`."""
    for step, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= step:
            return f"{value / step:.1f}".removesuffix(".0") + letter
    return number(value)


def _axes(top: float, height: int, labels: Sequence[str], unit: str) -> list[Markup]:
    """Two lines of a grid, the values beside them, and the times below."""
    room, drawn = height - BOTTOM, []
    for share in (0.0, 0.5, 1.0):
        y = room - share * (room - 8)
        drawn.append(
            Markup('<line x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}" class="{}"/>').format(LEFT, y, WIDTH, y, "gridline" if share else "axis")
        )
        drawn.append(_text(LEFT - 6, y + 4, f"{short(top * share)}{unit}", "end"))
    step = (WIDTH - LEFT) / max(len(labels) - 1, 1)
    for place, words in enumerate(labels):
        anchor = "start" if place == 0 else "end" if place == len(labels) - 1 else "middle"
        drawn.append(_text(LEFT + place * step, height - 3, words, anchor))
    return drawn


def stacked(title: str, steps: Sequence[str], series: Sequence[Series], height: int = 170) -> Markup:
    """Bars over time, the series upon each other; `steps` name each bar's time."""
    totals = [sum(each.values[at] for each in series) for at in range(len(steps))]
    top, room = nice_top(max(totals, default=0)), height - BOTTOM
    width = (WIDTH - LEFT) / max(len(steps), 1)
    labels = [steps[at] for at in sorted({0, len(steps) // 2, len(steps) - 1})] if steps else []
    drawn = _axes(top, height, labels, "")
    for at, step in enumerate(steps):
        y = float(room)
        told = f"{step}: " + ", ".join(f"{number(each.values[at])} {each.name}" for each in series)
        for each in series:
            tall = each.values[at] / top * (room - 8)
            y -= tall
            if tall:
                drawn.append(_rect(LEFT + at * width + 0.5, y, width - 1, max(tall, 1.0), each.style, told))
    return _svg(height, title, drawn)


def curve(title: str, steps: Sequence[str], values: Sequence[float | None], top: float, unit: str = "", height: int = 150) -> Markup:
    """A line over time, broken where there is no value."""
    room = height - BOTTOM
    width = (WIDTH - LEFT) / max(len(steps) - 1, 1)
    labels = [steps[at] for at in sorted({0, len(steps) // 2, len(steps) - 1})] if steps else []
    drawn, parts, pen = _axes(top, height, labels, unit), [], "M"
    for at, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        dot = "h0.1" if pen == "M" else ""  # a value between two gaps is a point
        parts.append(f"{pen}{LEFT + at * width:.1f} {room - min(value / top, 1.0) * (room - 8):.1f}{dot}")
        pen = "L"
    drawn.append(Markup('<path d="{}" class="stroke"/>').format(" ".join(parts)))
    return _svg(height, title, drawn)


def spark(title: str, values: Sequence[float], style: str = "busy") -> Markup:
    """Small bars without axes."""
    return sparks(title, [Series("", style, values)])


def sparks(title: str, series: Sequence[Series]) -> Markup:
    """Small bars without axes, the series upon each other."""
    totals = [sum(values) for values in zip(*(each.values for each in series), strict=True)]
    top, width, drawn = max(totals, default=0) or 1, 120 / max(len(totals), 1), []
    for at in range(len(totals)):
        y = 24.0
        for each in series:
            tall = each.values[at] / top * 24
            y -= tall
            if tall:
                drawn.append(_rect(at * width, y, width - 0.6, tall, each.style))
    return _svg(24, title, drawn, "strip", 120)


def strip(title: str, marks: Sequence[tuple[str, str]]) -> Markup:
    """One mark for each thing, the oldest first: (style, what it says)."""
    width = WIDTH / max(len(marks), 1)
    drawn = [_rect(at * width + 0.5, 0, width - 1, 24, style, told) for at, (style, told) in enumerate(marks)]
    return _svg(24, title, drawn, "strip")


def phases(title: str, since: float, until: float, found: Sequence[tuple[float, str, str]]) -> Markup:
    """A band from `since` to `until`: from each time on, the oldest first, in a style, with what it says."""
    scale = WIDTH / max(until - since, 1e-9)
    ends = [*(start for start, _, _ in found[1:]), until]
    drawn = [_rect(0, 0, WIDTH, 24, "wait")]
    for (start, style, told), end in zip(found, ends, strict=True):
        if end > since:
            x = (max(start, since) - since) * scale
            drawn.append(_rect(x, 0, max((end - since) * scale - x, 1.0), 24, style, told))  # a moment is seen too
    return _svg(24, title, drawn, "strip")


BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def latencies(title: str, values_s: Sequence[float], height: int = 150) -> Markup:
    """How many took how long, in buckets that grow."""
    edges = [0.0, *BOUNDS_S, float("inf")]
    counts = [sum(low < value <= high or (low == 0 == value) for value in values_s) for low, high in pairwise(edges)]
    names = [seconds(bound) for bound in BOUNDS_S] + [f"> {seconds(BOUNDS_S[-1])}"]
    top, room = nice_top(max(counts, default=0)), height - BOTTOM
    width = (WIDTH - LEFT) / len(counts)
    drawn = _axes(top, height, [], "")
    for at, (name, found) in enumerate(zip(names, counts, strict=True)):
        tall = found / top * (room - 8)
        drawn.append(_rect(LEFT + at * width + 3, room - tall, width - 6, tall, "busy", f"up to {name}: {number(found)}"))
        drawn.append(_text(LEFT + (at + 0.5) * width, height - 3, name, "middle"))
    return _svg(height, title, drawn)


def progress(title: str, parts: Sequence[tuple[float, str]], whole: float | None) -> Markup:
    """A bar filled by its parts, (amount, style); half dim where nobody knows the whole."""
    total = whole or sum(amount for amount, _ in parts) or 1
    drawn, x = [_rect(0, 0, WIDTH, 12, "wait")], 0.0
    for amount, style in parts:
        width = amount / total * WIDTH
        drawn.append(_rect(x, 0, width, 12, style))
        x += width
    return _svg(12, title, drawn, "bar")


NODE_WIDTH: Final = 150
NODE_HEIGHT: Final = 26
GAP_X: Final = 60
GAP_Y: Final = 12
MOST_NODES: Final = 80


def graph(title: str, nodes: Sequence[tuple[str, bool]], edges: Sequence[tuple[str, str]]) -> Markup:
    """What is made from what, from left to right: (name, whether it is kept), (from, to). At most `MOST_NODES` are drawn."""
    shown = dict(nodes[:MOST_NODES])
    drawn_edges = [(a, b) for a, b in edges if a in shown and b in shown]
    layers = _layers(list(shown), drawn_edges)
    columns: dict[int, list[str]] = {}
    for name in shown:
        columns.setdefault(layers[name], []).append(name)
    places = {
        name: (layer * (NODE_WIDTH + GAP_X) + 1, at * (NODE_HEIGHT + GAP_Y) + 1)
        for layer, names in columns.items()
        for at, name in enumerate(names)
    }
    width = (max(columns, default=0) + 1) * (NODE_WIDTH + GAP_X) - GAP_X + 2
    height = max((len(names) for names in columns.values()), default=1) * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2
    drawn = [_edge(places[a], places[b]) for a, b in drawn_edges]
    drawn += [_node(*places[name], name, kept=kept) for name, kept in shown.items()]
    return _svg(height, title, drawn, width=max(width, WIDTH))


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each name's longest way from the left; there is no cycle, and a bound keeps one from hanging us."""
    layers = dict.fromkeys(names, 0)
    for _ in names:
        moved = [(b, layers[a] + 1) for a, b in edges if layers[b] <= layers[a]]
        if not moved:
            break
        for name, layer in moved:
            layers[name] = max(layers[name], min(layer, len(names)))
    return layers


def _edge(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    x1, y1, x2, y2 = start[0] + NODE_WIDTH, start[1] + NODE_HEIGHT / 2, end[0], end[1] + NODE_HEIGHT / 2
    bend = (x2 - x1) / 2
    return Markup('<path class="edge" d="M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}"/>').format(
        x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2
    )


def _node(x: float, y: float, name: str, *, kept: bool) -> Markup:
    short = name if len(name) <= 22 else name[:21] + "…"
    box = Markup('<g><title>{}{}</title><rect x="{}" y="{}" width="{}" height="{}" rx="6" class="{}"/>{}</g>')
    inside = _text(x + NODE_WIDTH / 2, y + NODE_HEIGHT / 2 + 4, short, "middle", "name")
    return box.format(name, "" if kept else " (not kept)", x, y, NODE_WIDTH, NODE_HEIGHT, "node" if kept else "node gone", inside)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, ceil(share * len(ordered)) - 1))] if ordered else None


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a waterfall: what it says, how deep it stands, when it began and ended, how it is coloured."""

    words: str
    depth: int
    start_us: int
    end_us: int
    style: str


LINE: Final = 22
NAMES: Final = 230
MOST_LINES: Final = 200


def waterfall(title: str, bars: Sequence[Bar]) -> Markup:
    """What happened when, one line each, in the order that is given; at most `MOST_LINES`."""
    shown = bars[:MOST_LINES]
    begin = min((bar.start_us for bar in shown), default=0)
    whole = max((bar.end_us for bar in shown), default=0) - begin or 1
    room, drawn = WIDTH - NAMES - 60, []
    for at, bar in enumerate(shown):
        y, x = at * LINE, NAMES + (bar.start_us - begin) / whole * room
        indent = min(bar.depth, 8) * 10
        letters = max(8, (NAMES - indent) // 7)
        short = bar.words if len(bar.words) <= letters else bar.words[: letters - 1] + "…"
        took = seconds(max(0, bar.end_us - bar.start_us) / 1_000_000)
        width = max(2.0, (bar.end_us - bar.start_us) / whole * room)
        line = Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="gridline"/>').format(0, y + LINE, WIDTH, y + LINE)
        drawn += [line, _text(indent, y + 15, short, style="name"), _rect(x, y + 5, width, LINE - 10, bar.style, f"{bar.words}: {took}")]
        drawn.append(_text(min(x + width + 4, WIDTH - 44), y + 15, took))
    return _svg(max(len(shown), 1) * LINE, title, drawn)
