"""`netra failpoints`: where a test may kill, raise or pause a process."""

from __future__ import annotations

from .options import JSON, Place, command, single

app = single()


@command(app, None, JSON)
def failpoints(place: Place) -> None:
    """List the places where a test may stop a process.

    With NETRA_TEST_MODE=1, NETRA_FAILPOINT=name[@nth]=kill|raise|pause arms one of them.
    """
    from .. import netra  # noqa: F401  (what declares failpoints is imported by the composition root)
    from ..kernel.failpoints import CATALOGUE

    found = [{"name": name, "meaning": CATALOGUE[name]} for name in sorted(CATALOGUE)]
    place.output.rows("failpoints", found, {"name": "name", "meaning": "when a process stops here"}, "There is none.")
