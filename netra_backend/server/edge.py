"""What every route of one server shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import FastAPI

from .auth import Authenticator
from .directory import Directory
from .metrics import Gauges
from .streams import Streams

if TYPE_CHECKING:
    from ..netra import Netra

Doctor = Callable[[], Awaitable[Sequence[Mapping[str, str]]]]
"""Tells what `netra doctor` finds: `{"name", "state", "detail", "fix"}` for each check."""

Guest = Callable[[FastAPI], None]
"""Adds routes of its own."""


@dataclass(slots=True, eq=False)
class Edge:
    """One server over one Netra. `draining` is set once it accepts no more connections."""

    netra: Netra
    authenticator: Authenticator
    directory: Directory
    gauges: Gauges
    dev: bool = False
    draining: bool = False
    doctor: Doctor | None = None
    streams: Streams = field(default_factory=Streams)

    @classmethod
    def over(cls, netra: Netra, *, dev: bool = False, doctor: Doctor | None = None) -> Edge:
        """The edge of an entered Netra."""
        return cls(netra, Authenticator(netra), Directory(netra), Gauges(netra), dev, doctor=doctor)
