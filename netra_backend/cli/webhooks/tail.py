"""`netra webhooks tail`: the tenant's events as they are committed, from the log's `events` stream.

The stream is dense and ordered, so a reader that remembers the last `seq` misses nothing: `--after SEQ` goes on there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from ..options import TENANT_DATABASE, Place, command
from ..output import iso
from . import app

STREAM: Final = "events"
AT_ONCE: Final = 500
LOOK_EVERY_S: Final = 0.05


@command(app, "tail", TENANT_DATABASE)
async def tail(
    place: Place,
    after: Annotated[
        int | None, typer.Option("--after", metavar="SEQ", min=0, help="Go on after this number; from now on, if left out.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=0, help="End after this many; 0 goes on until interrupted.")] = 0,
) -> None:
    """Follow what happens: messages stored, deliveries made, failed and given up."""
    from ...storage import log
    from ..session import opened, operator, scope_of

    place.the_tenant()
    async with opened(place) as netra:
        tenant = (await scope_of(netra, place)).tenant
        seq = after if after is not None else await netra.database.read(log.last_seq, STREAM, scope=operator())
        place.output.note(f"Following {tenant} after {seq}; Ctrl-C ends it.")
        shown, version = 0, -1
        while not count or shown < count:
            now = netra.database.version()
            entries = await netra.database.read(log.read_after, STREAM, seq, AT_ONCE, scope=operator()) if now != version else []
            version = version if entries else now  # there may be more: look again at once
            for entry in entries:
                for event in _of_tenant(entry, tenant):
                    place.output.event(event, _words(event))
                    shown += 1
                    if shown == count:
                        return
                seq = entry.seq
            if not entries:
                await netra.runtime.clock.sleep(LOOK_EVERY_S)


def _of_tenant(entry: Any, tenant: str) -> Iterator[dict[str, Any]]:
    from ...kernel.ids import to_text

    for owner, item in entry.items:
        if owner == tenant:
            ids = {
                name: to_text(prefix, bytes.fromhex(item[name]))
                for name, prefix in (("message", "msg"), ("endpoint", "ep"))
                if name in item
            }
            yield {"seq": entry.seq, "at": iso(entry.at_us), **item, **ids}


def _words(event: dict[str, Any]) -> str:
    where = f" to {event['endpoint']}, attempt {event['number']}" if "endpoint" in event else ""
    return f"{event['at']}  {event['type']}  {event.get('message', '')}{where}"
