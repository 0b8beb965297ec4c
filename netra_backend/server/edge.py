"""What every route of one server shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .auth import Authenticator
from .directory import Directory
from .metrics import Gauges

if TYPE_CHECKING:
    from ..netra import Netra


@dataclass(slots=True, eq=False)
class Edge:
    """One server over one Netra. `draining` is set once it accepts no more connections."""

    netra: Netra
    authenticator: Authenticator
    directory: Directory
    gauges: Gauges
    dev: bool = False
    draining: bool = False

    @classmethod
    def over(cls, netra: Netra, *, dev: bool = False) -> Edge:
        """The edge of an entered Netra."""
        return cls(netra, Authenticator(netra), Directory(netra), Gauges(netra), dev)
