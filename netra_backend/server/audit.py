"""Routes of the audit trail: entries, and the log's files as C2SP tlog-tiles serve them.

`/api/v1/tenants/{tenant}/audit` is the prefix of a tenant's log, `/api/v1/audit` that of the installation's own: checkpoint, tiles and
bundles of entries stand below it, so that a client of that specification reads them here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ..errors import NotFound
from ..kernel.ids import from_text, to_text
from ..kernel.scope import Scope
from ..observability.audit.model import Entry
from ..observability.audit.reading import EVER_US, Filter
from ..observability.audit.service import LONGEST_REASON
from ..observability.audit.verifying import CHECKPOINT, MINIMUM, VKEY
from .access import Access
from .errors import InvalidMembers, problem
from .filters import epoch_us
from .models import Time
from .pagination import DEFAULT_LIMIT, Limit
from .render import timestamp
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1", tags=["Audit"])

After = Annotated[
    str | None,
    Query(
        pattern=r"^(-1|[0-9]{1,15}|aud_[0-9a-z]{26})$",
        description="The last entry that is known: its index (-1 for none), behind which entries come in the order of the log, or its id.",
    ),
]
Equal = Annotated[str | None, Query(max_length=512, description="Only entries of which this is so.")]
Rest = Annotated[str, Path(description="`<L>/<N>[.p/<W>]`, or `entries/<N>[.p/<W>]`.")]
Which = Annotated[str, Path(max_length=64, description="An entry's index, or its id.")]
_TEXT: Final = "text/plain; charset=utf-8"
_BYTES: Final = "application/octet-stream"
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_SOON: Final = "private, max-age=1"


class EraseIn(BaseModel):
    """Whose personal data goes, by the entry's index, and why."""

    model_config = ConfigDict(extra="forbid")

    index: Annotated[int, Field(ge=0, le=2**53)]
    reason: Annotated[str, Field(min_length=1, max_length=LONGEST_REASON)]


@router.get("/tenants/{tenant}/audit", operation_id="netra.audit.list")
async def list_audit(
    caller: Caller,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    actor: Equal = None,
    action: Equal = None,
    target: Equal = None,
    trace_id: Equal = None,
    since: Annotated[Time | None, Query(description="Written at that time or later.")] = None,
    until: Annotated[Time | None, Query(description="Written before then.")] = None,
) -> Response:
    """A tenant's audit entries. `index` is the place in the log, null for some tenths of a second.

    With an index in `after` they come in the order of the log: whoever goes on behind the last one misses none. Otherwise they come by id,
    those of the last moment too, and may be filtered.
    """
    times = (0 if since is None else epoch_us(since, "since"), EVER_US if until is None else epoch_us(until, "until"))
    return answer(await _list(caller, caller.scope, Filter(actor, action, target, trace_id, *times), after, limit))


@router.get("/audit", operation_id="netra.audit.list-installation")
async def list_own_audit(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Response:
    """The audit entries of what belongs to the installation: operators' keys, event types."""
    return answer(await _list(caller, caller.system_scope, Filter(), after, limit))


@router.get("/tenants/{tenant}/audit/checkpoint", operation_id="netra.audit.checkpoint")
async def checkpoint(caller: Caller) -> Response:
    """The log's last signed checkpoint (C2SP tlog-checkpoint)."""
    return await _file(caller, caller.scope, CHECKPOINT, _TEXT, _SOON)


@router.get("/tenants/{tenant}/audit/vkey", operation_id="netra.audit.vkey")
async def vkey(caller: Caller) -> Response:
    """The key that its checkpoints are verified by, `name+id+key` (C2SP signed-note)."""
    return await _file(caller, caller.scope, VKEY, _TEXT, _SOON)


@router.get("/tenants/{tenant}/audit/minimum-index", operation_id="netra.audit.minimum-index")
async def minimum_index(caller: Caller) -> Response:
    """The index of the first entry that is kept."""
    return await _file(caller, caller.scope, MINIMUM, _TEXT, _SOON)


@router.get("/tenants/{tenant}/audit/tile/{rest:path}", operation_id="netra.audit.tile")
async def tile(caller: Caller, rest: Rest) -> Response:
    """A tile of hashes, or a bundle of entries (C2SP tlog-tiles); it never changes."""
    return await _file(caller, caller.scope, f"tile/{rest}", _BYTES, _FOR_EVER)


@router.get("/tenants/{tenant}/audit/proof/{entry}", operation_id="netra.audit.prove")
async def proof(caller: Caller, entry: Which) -> Response:
    """The receipt of one entry (C2SP tlog-proof, the entry as `extra`): it verifies offline."""
    return await _proof(caller, caller.scope, entry)


@router.post("/tenants/{tenant}/audit/erase", operation_id="netra.audit.erase")
async def erase(caller: Caller, body: EraseIn) -> Response:
    """Erase the personal data of an entry. No hash changes, and an entry says so."""
    erased = await caller.edge.netra.audit.erase(caller.scope, body.index, body.reason)
    return answer(entry_out(erased))


@router.get("/tenants/{tenant}/audit/personal/{entry}", operation_id="netra.audit.personal")
async def personal(caller: Caller, entry: Annotated[str, Path(max_length=64, description="An entry's id.")]) -> Response:
    """The personal data of an entry with its salt, which its commitment is made of; that it was read is an entry."""
    found = await caller.edge.netra.audit.personal(caller.scope, entry)
    if found is None:
        raise NotFound("the entry has no personal data, or it is erased")
    return answer(found)


@router.get("/audit/checkpoint", operation_id="netra.audit.checkpoint-installation")
async def own_checkpoint(caller: Caller) -> Response:
    """The last signed checkpoint of the installation's own log."""
    return await _file(caller, caller.system_scope, CHECKPOINT, _TEXT, _SOON)


@router.get("/audit/vkey", operation_id="netra.audit.vkey-installation")
async def own_vkey(caller: Caller) -> Response:
    """The key of the installation's own log."""
    return await _file(caller, caller.system_scope, VKEY, _TEXT, _SOON)


@router.get("/audit/minimum-index", operation_id="netra.audit.minimum-index-installation")
async def own_minimum_index(caller: Caller) -> Response:
    """The index of the first entry that is kept of the installation's own log."""
    return await _file(caller, caller.system_scope, MINIMUM, _TEXT, _SOON)


@router.get("/audit/tile/{rest:path}", operation_id="netra.audit.tile-installation")
async def own_tile(caller: Caller, rest: Rest) -> Response:
    """A tile or a bundle of entries of the installation's own log."""
    return await _file(caller, caller.system_scope, f"tile/{rest}", _BYTES, _FOR_EVER)


@router.get("/audit/proof/{entry}", operation_id="netra.audit.prove-installation")
async def own_proof(caller: Caller, entry: Which) -> Response:
    """The receipt of one entry of the installation's own log."""
    return await _proof(caller, caller.system_scope, entry)


async def _file(caller: Access, scope: Scope, path: str, kind: str, caching: str) -> Response:
    return Response(await caller.edge.netra.audit.resource(scope, path), 200, {"cache-control": caching}, kind)


async def _proof(caller: Access, scope: Scope, entry: str) -> Response:
    receipt = await caller.edge.netra.audit.prove(scope, entry)
    return Response(receipt.text, 200, {"cache-control": _SOON}, _TEXT)


async def _list(caller: Access, scope: Scope, wanted: Filter, after: str | None, limit: int) -> dict[str, Any]:
    audit = caller.edge.netra.audit
    if after is not None and not after.startswith("aud_"):
        if wanted != Filter():
            raise InvalidMembers([problem(["query", "after"], "entries are filtered by id, not by index: give an entry's id")])
        found, by = await audit.entries(scope, int(after), limit + 1), "index"
    else:
        found, by = await audit.search(scope, wanted, from_text("aud", after) if after is not None else b"", limit + 1), "id"
    data = [entry_out(each) for each in found[:limit]]
    return {"data": data, "after": str(data[-1][by]) if data else after, "done": len(found) <= limit}


def entry_out(each: Entry) -> dict[str, Any]:
    """One entry."""
    return {
        "id": to_text("aud", each.id),
        "index": each.index,
        "at": timestamp(each.at_us),
        "actor": each.actor,
        "action": each.action,
        "table": each.table or None,
        "target": each.target,
        "outcome": each.outcome,
        "trace_id": each.trace_id or None,
        "before": each.before,
        "after": each.after,
        "personal": each.personal,
    }
