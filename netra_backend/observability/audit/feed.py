"""Entries on their way to endpoints of kind `audit`: those that take the event type `audit.entry` by name.

A cursor on the stream `audit`, behind the sequencer's, tells whose logs have grown; a cursor for each endpoint says up to which index it
was sent. A tenant's entries become messages, and the endpoint's cursor moves, in one transaction: so each entry is one message to each such
endpoint, in the order of the log, whoever is killed, and from there on has the retries and signatures of every message. An endpoint begins
with the entry that made it. One that takes every event type gets none: a trail is sent where somebody asked for it.

Webhooks are a sibling: what is known of them here is `Receivers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from ...errors import NetraError
from ...kernel.failpoints import declare
from ...kernel.ids import least_of_time, to_text
from ...kernel.rounds import Rounds
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage import log
from ...storage.database import Database
from ...storage.membership import Membership
from ...storage.transaction import Tx
from . import reading, store
from .model import Entry

TYPE: Final = "audit.entry"
LEASE: Final = "audit.feed"
CURSOR: Final = "audit.feed"
OF_ENDPOINTS: Final = "audit.index"
"""What stands for a stream in the cursors of endpoints: indices of a tenant's log."""

LOOK_EVERY_S: Final = 0.3
ROWS_AT_ONCE: Final = 50
ENTRIES_AT_ONCE: Final = 100
_SCOPE: Final = system_scope("audit")

FED: Final = declare("audit.fed_before_commit", "entries are messages to an endpoint of kind audit, nothing is committed")


class Receivers(Protocol):
    """Where entries go, and how."""

    async def of_tenant(self, tx: Tx) -> Sequence[Any]:
        """The tenant's endpoints that take `audit.entry`; each has an `id`, and `created_us`."""
        ...

    async def send(self, tx: Tx, receiver: Any, event_type: str, payload: dict[str, Any]) -> None:
        """Store a message to that one."""
        ...


class Feed:
    """See the module's docstring. `look` sends what there is by now, if this process may; `rounds` looks again and again."""

    def __init__(self, database: Database, runtime: Runtime, membership: Membership, receivers: Receivers) -> None:
        self._database = database
        self._membership = membership
        self._receivers = receivers
        self._ahead = 0
        self._behind: frozenset[str] = frozenset()
        cannot = "audit entries could not be sent to their endpoints"
        self.rounds = Rounds(runtime, self.look, cannot, LOOK_EVERY_S, changes=database.version)

    async def look(self) -> None:
        """Send to every tenant's receivers what its log has grown by; a tenant that takes nothing now keeps no other one waiting."""
        while not self._membership.quiet and await self._database.read(_is_behind, scope=_SCOPE):
            rows = await self._database.write(_waiting, self._membership.id, self._ahead, scope=_SCOPE)
            if rows is None:  # another process sends, from where the cursor stands
                self._ahead, self._behind = 0, frozenset()
                return
            behind = self._behind
            tenants = behind.union(*(tenants for _, tenants in rows))
            failures = {tenant: error for tenant in sorted(tenants) if (error := await self._fed(tenant)) is not None}
            self._ahead, self._behind = (rows[-1][0] if rows else self._ahead), frozenset(failures)
            if not failures and (rows or behind):
                await self._database.write(log.move_cursor, CURSOR, store.STREAM, self._ahead, scope=_SCOPE)
            if failures and not rows:
                raise next(iter(failures.values()))
            if not rows:
                return

    async def _fed(self, tenant: str) -> NetraError | None:
        """Send a tenant's next entries, all that there are; why that could not be."""
        try:
            while await self._database.write(self._feed, scope=Scope(tenant, "audit"), lane="bulk"):
                continue
        except NetraError as error:
            return error
        return None

    async def _feed(self, tx: Tx) -> bool:
        """The next entries of one tenant to each of its receivers; whether there may be more."""
        more = False
        for receiver in await self._receivers.of_tenant(tx):
            name = f"{CURSOR}/{receiver.id.hex()}"
            next_index = await log.cursor(tx, name) or await _made_at(tx, receiver)
            found = await reading.by_index(tx, next_index - 1, ENTRIES_AT_ONCE)
            for each in found:
                await self._receivers.send(tx, receiver, TYPE, payload_of(tx.tenant, each))
            if found and found[-1].index is not None:
                await log.move_cursor(tx, name, OF_ENDPOINTS, found[-1].index + 1)
            more = more or len(found) == ENTRIES_AT_ONCE
        tx.runtime.failpoints.hit(FED)
        return more


async def _made_at(tx: Tx, receiver: Any) -> int:
    """The index of the entry that made the endpoint; the log's end where that entry is gone."""
    made = reading.Filter(action="endpoint.create", target=receiver.id.hex(), since_us=receiver.created_us)
    found = await reading.search(tx, made, least_of_time(receiver.created_us), 1)
    if found and found[0].index is not None:
        return found[0].index
    whole = await store.find(tx, tx.tenant)
    return whole.size if whole is not None else 0


async def _is_behind(tx: Tx) -> bool:
    """Whether there are sequenced entries that were not looked at yet; `_waiting` writes even where there are none."""
    return await log.cursor(tx, store.CURSOR) > await log.cursor(tx, CURSOR)


async def _waiting(tx: Tx, node: bytes, ahead: int) -> list[tuple[int, list[str]]] | None:
    """Rows of the stream that are sequenced and not fed yet, by number: whose entries they hold. None without the lease.

    Those up to `ahead` were fed to all but tenants of whom is known that they are behind: for them the cursor waits.
    """
    if not await log.has_lead(tx, LEASE, node):
        return None
    until = await log.cursor(tx, store.CURSOR)
    rows = await log.read_after(tx, store.STREAM, max(ahead, await log.cursor(tx, CURSOR)), ROWS_AT_ONCE)
    return [(row.seq, [tenant for tenant, _ in row.items]) for row in rows if row.seq <= until]


def payload_of(tenant: str, each: Entry) -> dict[str, Any]:
    """What is sent of an entry: its members as they are hashed, and its index."""
    return {
        "index": each.index,
        "id": to_text("aud", each.id),
        "tenant": tenant,
        "at_us": each.at_us,
        "actor": each.actor,
        "action": each.action,
        "table": each.table,
        "target": each.target,
        "outcome": each.outcome,
        "trace_id": each.trace_id,
        "before": each.before,
        "after": each.after,
        "personal": each.personal,
    }
