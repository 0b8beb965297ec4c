"""How near this process is to being killed for memory: readings only, actions belong to whoever reads.

The worst of these counts: every control group from ours up to the root (v2 and v1), usage without file cache, against
its limit; the address space against RLIMIT_AS; pressure stall information (PSI), the share of time in which tasks waited
for memory. Without any limit the
machine's own memory is the measure. `memory_limit` replaces all limits, and is compared with the resident memory of
this process and its descendants.

File cache is subtracted because the kernel drops it first; shared memory and tmpfs are not, although the kernel counts
them as files. Resident memory counts pages that forked children share once for each: too high is the safe side.

Files that are absent or unreadable are left out: containers hide half of them. Both roots are parameters, so that tests
bring their own. A reading opens some twenty files (about a millisecond): do it on a timer, not per item.

Sources: the kernel's admin-guide/cgroup-v2, "Memory Interface Files"; cgroup-v1/memory; accounting/psi.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_V1_NO_LIMIT: Final = 1 << 60
_MAX_PROCESSES: Final = 10_000
HYSTERESIS: Final = 0.05
"""A level is left only when the fraction is this far below its threshold, so that the reader does not flutter."""


class Level(IntEnum):
    """What the reading asks for; the numbers are those of the metric `netra_batch_memory_level`."""

    GROW = 0
    HOLD = 1
    HALVE = 2
    PAUSE = 3
    RECYCLE = 4
    ABORT = 5


class Threshold(NamedTuple):
    """From which readings on a level applies; any one suffices. The stalls are per cent of the last 10 s."""

    level: Level
    fraction: float
    psi_some_pct: float | None = None
    psi_full_pct: float | None = None


THRESHOLDS: Final = (
    Threshold(Level.ABORT, 0.95),
    Threshold(Level.RECYCLE, 0.90, psi_full_pct=5.0),
    Threshold(Level.PAUSE, 0.80),
    Threshold(Level.HALVE, 0.70, psi_some_pct=10.0),
    Threshold(Level.HOLD, 0.60),
    Threshold(Level.GROW, 0.0),
)


@dataclass(frozen=True, slots=True)
class Pressure:
    """One reading. `fraction` is used over limit, 0 if no limit is known; `source` names the file or rule that decided."""

    fraction: float
    used_bytes: int
    limit_bytes: int | None
    psi_some_pct: float
    psi_full_pct: float
    source: str

    @property
    def level(self) -> Level:
        """The level of this reading alone."""
        return next(threshold.level for threshold in THRESHOLDS if self._reaches(threshold, 0.0))

    def level_after(self, previous: Level) -> Level:
        """The level with hysteresis: upwards at once, downwards only well below the threshold of `previous`."""
        lowered = next(threshold.level for threshold in THRESHOLDS if self._reaches(threshold, HYSTERESIS))
        return max(self.level, min(previous, lowered))

    def _reaches(self, threshold: Threshold, slack: float) -> bool:
        some, full = threshold.psi_some_pct, threshold.psi_full_pct
        return (
            self.fraction >= threshold.fraction - slack
            or (some is not None and self.psi_some_pct > some)
            or (full is not None and self.psi_full_pct > full)
        )


class _Use(NamedTuple):
    used_bytes: int
    limit_bytes: int
    source: str


class MemoryProbe:
    """Reads the pressure on the process that calls it. Stateless, thread-safe."""

    def __init__(
        self, proc_root: Path = Path("/proc"), cgroup_root: Path = Path("/sys/fs/cgroup"), memory_limit: int | None = None
    ) -> None:
        self._proc = proc_root
        self._cgroups = cgroup_root
        self._limit = memory_limit

    def read(self) -> Pressure:
        """The worst of everything that can be read now."""
        own = self._groups()
        psi = _stalls(self._own_psi_file(own))
        if self._limit is not None:
            uses = [_Use(self.resident_bytes(), self._limit, "memory_limit")]
        else:
            uses = [*self._limited(own), *self._addresses()] or self._machine()
        if not uses:
            return Pressure(0.0, self.resident_bytes(), None, *psi, source="none")
        worst = max(uses, key=lambda use: use.used_bytes / use.limit_bytes)
        return Pressure(worst.used_bytes / worst.limit_bytes, worst.used_bytes, worst.limit_bytes, *psi, source=worst.source)

    def resident_bytes(self) -> int:
        """Resident memory of this process and all its descendants."""
        return sum(self._resident(process) for process in self._family())

    def own_bytes(self) -> int:
        """Resident memory of this process alone."""
        return self._resident("self")

    def oom_kills(self) -> int:
        """How many processes of our own control group the kernel has killed for memory: 0 where it does not say."""
        for folder, is_v2 in self._groups():
            name = "memory.events" if is_v2 else "memory.oom_control"
            fields = _fields(folder / name)
            if "oom_kill" in fields:
                return fields["oom_kill"]
        return 0

    def _groups(self) -> list[tuple[Path, bool]]:
        """Folders of our memory groups, each from ours up to its root, with whether they are of version 2."""
        groups: list[tuple[Path, bool]] = []
        for line in _text(self._proc / "self" / "cgroup").splitlines():
            _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
            if controllers == "":
                # In the hybrid layout v2 is mounted beside the controllers of v1.
                unified = self._cgroups / "unified"
                root = unified if unified.is_dir() else self._cgroups
                groups += [(folder, True) for folder in _upwards(root, path)]
            elif "memory" in controllers.split(","):
                groups += [(folder, False) for folder in _upwards(self._cgroups / "memory", path)]
        return groups

    def _limited(self, groups: list[tuple[Path, bool]]) -> list[_Use]:
        """The uses of the groups that have a limit; one above the machine's memory is none."""
        machine_bytes = _fields(self._proc / "meminfo").get("MemTotal", 0) * 1024 or _V1_NO_LIMIT
        found = (_use_v2(folder) if is_v2 else _use_v1(folder) for folder, is_v2 in groups)
        return [use for use in found if use is not None and 0 < use.limit_bytes <= machine_bytes]

    def _addresses(self) -> list[_Use]:
        """This process's address space, where that has a limit (RLIMIT_AS): beyond it allocations fail."""
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = _fields(self._proc / "self" / "status").get("VmSize", 0) * 1024
        return [_Use(used, limit, "RLIMIT_AS")] if used and limit != resource.RLIM_INFINITY else []

    def _machine(self) -> list[_Use]:
        memory = _fields(self._proc / "meminfo")
        total, available = memory.get("MemTotal", 0), memory.get("MemAvailable")
        return [_Use((total - available) * 1024, total * 1024, "machine")] if total and available is not None else []

    def _own_psi_file(self, groups: list[tuple[Path, bool]]) -> Path:
        """Our own group's stalls where the kernel tells them, else the machine's: an ancestor's hold our siblings' too."""
        own = next((folder / "memory.pressure" for folder, is_v2 in groups if is_v2), None)
        return own if own is not None and own.is_file() else self._proc / "pressure" / "memory"

    def _family(self) -> Iterator[str]:
        waiting, seen = ["self"], 0
        while waiting and seen < _MAX_PROCESSES:
            process = waiting.pop()
            seen += 1
            yield process
            for children in self._proc.glob(f"{process}/task/*/children"):
                waiting += _text(children).split()

    def _resident(self, process: str) -> int:
        return _fields(self._proc / process / "status").get("VmRSS", 0) * 1024


def _upwards(root: Path, path: str) -> list[Path]:
    """The folder of the group and of each ancestor down to `root` that this mount shows.

    In a container the path may be the host's, of which nothing is mounted: then `root` is our group.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in {"/", ".."}]
    folders = (root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
    return [folder for folder in folders if folder.is_dir()]


def _use_v2(folder: Path) -> _Use | None:
    """`memory.high` counts as a limit: above it the kernel stops us to a crawl, which is no better than a kill."""
    limits = [limit for name in ("memory.max", "memory.high") if (limit := _number(folder / name)) is not None]
    used = _number(folder / "memory.current")
    if used is None or not limits:
        return None
    stat = _fields(folder / "memory.stat")
    return _Use(max(0, used - stat.get("inactive_file", 0) - stat.get("active_file", 0)), min(limits), str(folder))


def _use_v1(folder: Path) -> _Use | None:
    """Without `use_hierarchy` seen from here, `hierarchical_memory_limit` still tells of ancestors that are not mounted."""
    stat = _fields(folder / "memory.stat")
    limits = [_number(folder / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit")]
    known = [limit for limit in limits if limit is not None and limit < _V1_NO_LIMIT]
    used = _number(folder / "memory.usage_in_bytes")
    if used is None or not known:
        return None
    return _Use(max(0, used - stat.get("total_inactive_file", 0) - stat.get("total_active_file", 0)), min(known), str(folder))


def _stalls(file: Path) -> tuple[float, float]:
    """The `avg10` of `some` and of `full`, per cent."""
    shares = {"some": 0.0, "full": 0.0}
    for line in _text(file).splitlines():
        kind, _, rest = line.partition(" ")
        share = rest.partition("avg10=")[2].partition(" ")[0]
        if kind in shares and share.replace(".", "", 1).isdecimal():
            shares[kind] = float(share)
    return shares["some"], shares["full"]


def _fields(file: Path) -> dict[str, int]:
    """`name value` or `Name:  value kB` per line."""
    pairs = (line.replace(":", " ", 1).split()[:2] for line in _text(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(file: Path) -> int | None:
    """The file's number; None for `max`, and where there is no such file."""
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
