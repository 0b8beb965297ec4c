"""A process that has grown too large makes way for a fresh one: the same command, in the same process id."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from .options import Place


def replaced(place: Place) -> NoReturn:
    """Begin the same command anew (exec). Everything is given back and closed before; what it has committed is where it goes on."""
    place.output.note("Memory is nearly at its end: a fresh process goes on.")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "netra_backend.cli.main", *sys.argv[1:]])  # noqa: S606  (ourselves)
