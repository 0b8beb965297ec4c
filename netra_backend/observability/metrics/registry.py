"""The counters, gauges and histograms of one process, and how they are written down for Prometheus.

A series is known by its name and labels as its caller spells them, which is one look-up; the order of the labels is made one when it is
shown. Tenants come and go, and a series is kept for ever by whoever scrapes it: at most `tenants` of them have series of their own, all
others together are `_other`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A series: its name, and its labels by name."""

OTHER: Final = "_other"
TENANTS: Final = 200
BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Registry:
    """`kernel.runtime.Metrics`. A name has the same labels wherever it is used. Any thread."""

    def __init__(self, *, tenants: int = TENANTS) -> None:
        self.help: dict[str, str] = {}
        self._most_tenants = tenants
        self._tenants: set[str] = set()
        self._counters: dict[Key, list[float]] = {}
        self._gauges: dict[Key, float] = {}
        self._histograms: dict[Key, list[float]] = {}
        self._lock = threading.Lock()

    def know(self, series: Mapping[str, Iterable[Mapping[str, str]]], words: Mapping[str, str]) -> None:
        """Counters that stand at zero from the start: an alert on a series that does not exist never fires."""
        self.help |= words
        for name, each in series.items():
            for labels in each:
                self.count(name, 0, **labels)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        if "tenant" in labels:
            self._cap(labels)
        key = (name, tuple(labels.items()))
        with self._lock:
            try:
                self._counters[key][0] += amount  # the key is hashed once
            except KeyError:
                self._counters[key] = [float(amount)]

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        if "tenant" in labels:
            self._cap(labels)
        with self._lock:
            self._gauges[name, tuple(labels.items())] = float(value)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration to a histogram."""
        if "tenant" in labels:
            self._cap(labels)
        key = (name, tuple(labels.items()))
        with self._lock:
            kept = self._histograms.get(key)
            if kept is None:
                kept = self._histograms[key] = [0.0] * (len(BOUNDS_S) + 2)
            kept[bisect_left(BOUNDS_S, seconds)] += 1
            kept[-1] += seconds

    def _cap(self, labels: dict[str, str]) -> None:
        tenant = labels["tenant"]
        if tenant in self._tenants:
            return
        if len(self._tenants) < self._most_tenants:
            self._tenants.add(tenant)
        else:
            labels["tenant"] = OTHER

    def totals(self) -> dict[Key, float]:
        """What only grows, by series: counters, and the buckets, sums and counts of histograms."""
        with self._lock:
            counters = [(key, cell[0]) for key, cell in self._counters.items()]
            histograms = [(key, [*kept]) for key, kept in self._histograms.items()]
        found: dict[Key, float] = {}
        for (name, labels), amount in counters:
            key = (name, tuple(sorted(labels)))
            found[key] = found.get(key, 0.0) + amount
        for (name, labels), kept in histograms:
            for key, amount in _of_histogram(name, labels, kept):
                found[key] = found.get(key, 0.0) + amount
        return found

    def gauges(self) -> dict[Key, float]:
        """What stands for now, by series."""
        with self._lock:
            gauges = [*self._gauges.items()]
        return {(name, tuple(sorted(labels))): value for (name, labels), value in gauges}

    def render(self, others: Mapping[Key, float] | None = None) -> bytes:
        """The exposition of this process's series, with what `others` have added to what only grows."""
        totals = self.totals()
        for key, amount in (others or {}).items():
            totals[key] = totals.get(key, 0.0) + amount
        return exposition(totals, self.gauges(), self.help)


def _of_histogram(name: str, labels: Labels, kept: list[float]) -> Iterable[tuple[Key, float]]:
    seen = 0.0
    for bound, amount in zip([*map(str, BOUNDS_S), "+Inf"], kept[:-1], strict=True):
        seen += amount
        yield (f"{name}_bucket", tuple(sorted((*labels, ("le", bound))))), seen
    yield (f"{name}_sum", tuple(sorted(labels))), kept[-1]
    yield (f"{name}_count", tuple(sorted(labels))), seen


def exposition(totals: Mapping[Key, float], gauges: Mapping[Key, float], words: Mapping[str, str]) -> bytes:
    """Prometheus' text format, version 0.0.4: each family once, its series by their labels."""
    families: dict[str, tuple[str, list[str]]] = {}
    for kind, series in (("counter", totals), ("gauge", gauges)):
        for (name, labels), value in sorted(series.items(), key=lambda each: (each[0][0], _place(each[0][1]))):
            family, of = _family(name, kind)
            families.setdefault(family, (of, []))[1].append(_line(name, labels, value))
    parts = []
    for family, (kind, lines) in sorted(families.items()):
        parts.append(f"# HELP {family} {words.get(family, family).translate(_HELP_ESCAPES)}\n# TYPE {family} {kind}\n")
        parts += lines
    return "".join(parts).encode()


def _family(name: str, kind: str) -> tuple[str, str]:
    for ending in ("_bucket", "_sum", "_count"):
        if kind == "counter" and name.endswith(f"_seconds{ending}"):
            return name.removesuffix(ending), "histogram"
    return name, kind


def _place(labels: Labels) -> list[tuple[str, float, str]]:
    """Buckets stand by their bound, everything else by its words."""
    return [(name, float(value) if name == "le" else 0.0, value) for name, value in labels if name != "le"] + [
        (name, float(value), value) for name, value in labels if name == "le"
    ]


def _line(name: str, labels: Labels, value: float) -> str:
    if not labels:
        return f"{name} {value!r}\n"
    words = ",".join([f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels])
    return f"{name}{{{words}}} {value!r}\n"
