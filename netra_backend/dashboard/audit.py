"""The pages of the audit trail: who did what, the newest first, and the proof of one entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter

from ..errors import NotFound
from ..kernel.ids import from_text, to_text
from ..kernel.scope import SYSTEM_TENANT, Scope
from ..observability.audit import store
from ..observability.audit.errors import NotSequencedYet, TrailDamaged
from ..storage.statements import Statements
from ..storage.transaction import Tx
from . import places
from .routing import page
from .visits import Visit

Q = Statements(__package__)
router: Final = APIRouter()
LAST: Final = b"\xff" * 16
FILTERS: Final = ("action", "actor", "target")


@dataclass(frozen=True, slots=True)
class Shown:
    """One entry. `before` and `after` are JSON texts."""

    id: bytes
    at_us: int
    actor: str
    action: str
    table: str
    target: str
    outcome: str
    trace_id: str
    before: str | None
    after: str | None


@page(router, "audit", "audit.html", of_tenant=False)
async def audit(visit: Visit) -> dict[str, Any]:
    """Of a tenant, or of what belongs to the installation."""
    wanted = {name: visit.asked(name) for name in FILTERS}
    scope = _scope(visit)

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[Shown]:  # noqa: FBT001  (as `places` asks)
        found: Sequence[Shown] = await visit.netra.database.read(_entries, wanted, at[0] if at else None, limit, back, scope=scope)
        return found

    listed = await places.page(visit, "b", fetch, lambda entry: (entry.id,))
    return {"listed": listed, "wanted": wanted, "log": await visit.netra.database.read(store.find, scope.tenant, scope=scope)}


@page(router, "audit/{entry}", "audit_entry.html", of_tenant=False)
async def entry(visit: Visit) -> dict[str, Any]:
    """One entry, and its receipt: proof that the last signed checkpoint covers it, to be judged offline."""
    scope, id_ = _scope(visit), from_text("aud", visit.named("entry"))
    found: Shown = await visit.netra.database.read(_entry, id_, scope=scope)
    try:
        receipt = await visit.netra.audit.prove(scope, visit.named("entry"))
    except (NotFound, NotSequencedYet, TrailDamaged) as error:
        return {"entry": found, "receipt": None, "why": error.detail or error.title, "damaged": isinstance(error, TrailDamaged)}
    return {"entry": found, "receipt": receipt, "why": "", "damaged": False}


def _scope(visit: Visit) -> Scope:
    """Whose trail is looked at."""
    owner = visit.tenant.tenant if visit.tenant is not None else SYSTEM_TENANT
    return Scope(owner, visit.access.principal.actor, visit.access.trace)


async def _entry(tx: Tx, id_: bytes) -> Shown:
    rows = await tx.all(Q.newest_audit_entries_back, after=before(id_), limit=1, **dict.fromkeys(FILTERS, ""))
    if not rows or rows[0][0] != id_:
        raise NotFound(f"there is no entry {to_text('aud', id_)}")
    return Shown(*rows[0])


def before(id_: bytes) -> bytes:
    """The id in front of this one."""
    return (int.from_bytes(id_, "big") - 1).to_bytes(16, "big") if any(id_) else b""


async def _entries(tx: Tx, wanted: dict[str, str], at: bytes | None, limit: int, back: bool) -> list[Shown]:  # noqa: FBT001  (positional, through `read`)
    if back:
        rows = await tx.all(Q.newest_audit_entries_back, after=at or b"", limit=limit, **wanted)
    else:
        rows = await tx.all(Q.newest_audit_entries, before=at or LAST, limit=limit, **wanted)
    return [Shown(*row) for row in rows]
