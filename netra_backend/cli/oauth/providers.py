"""`netra oauth providers`: which providers are known, and what each does with refresh tokens."""

from __future__ import annotations

from ..options import JSON, Place, command
from . import app


@command(app, "providers", JSON)
def providers(place: Place) -> None:
    """List known providers: whether refresh tokens change, for how long an old one is taken again, and who says so.

    `provider` in a registration's file fills in the rest; a member of the file wins.
    """
    from ...oauth.providers import listed

    columns = {"provider": "provider", "title": "title", "rotation": "rotation", "replay_window_s": "replay s", "source": "source"}
    place.output.rows("providers", listed(), columns, "There is none.")
