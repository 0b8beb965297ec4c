"""The route of events: what happens to a tenant, in order, for whoever follows it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from ..observability.events import following
from .render import timestamp
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1/tenants/{tenant}/events", tags=["Events"])

After = Annotated[
    int | None, Query(ge=0, le=2**62, description="The `after` of the last answer; left out, nothing is told but where the log ends.")
]


@router.get("", operation_id="netra.events.list")
async def list_events(caller: Caller, after: After = None) -> Response:
    """The tenant's events behind `after`: messages stored, deliveries made, failed and given up, refreshes, runs, events of its own.

    `done` says that this is all for now. Whoever asks again with the `after` of the answer misses none.
    """
    seen = await caller.read(following.look, caller.tenant.tenant, after, scope=caller.system_scope)
    return answer({"data": [event_out(each) for each in seen.events], "after": seen.after, "done": seen.done})


def event_out(event: dict[str, Any]) -> dict[str, Any]:
    """One event, with its time as text."""
    return {"seq": event["seq"], "at": timestamp(event["at_us"]), **{name: event[name] for name in event if name not in {"seq", "at_us"}}}
