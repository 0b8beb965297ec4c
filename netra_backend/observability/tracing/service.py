"""`netra.traces`: one trace, whatever parts and processes it went through."""

from __future__ import annotations

import re
from typing import Any, Final

from ...errors import InvalidInput, NotFound
from ...kernel.scope import SYSTEM_TENANT, Scope, system_scope
from ...storage.database import Database
from . import assembly
from .tracer import Keeper

_TRACE: Final = re.compile(r"[0-9a-f]{32}\Z")
_SCOPE: Final = system_scope("tracing")


class Traces:
    """`netra.traces`."""

    def __init__(self, database: Database, keeper: Keeper) -> None:
        self._database = database
        self._keeper = keeper

    async def get(self, trace_id: str, *, tenant: str | None = None) -> dict[str, Any]:
        """A trace: `{"trace_id","spans":[{"id","parent","links","part","name","start_us","end_us","status","ref"}]}`, by time.

        With `tenant` only what is that tenant's; `NotFound` where there is nothing.
        """
        wanted = trace_id.strip().lower()
        if not _TRACE.match(wanted):
            raise InvalidInput(f"{trace_id[:80]!r} is no trace id", fix="Give its 32 hexadecimal digits.")
        await self._keeper.flush()
        tenants = [tenant] if tenant is not None else [SYSTEM_TENANT, *await self._database.read(assembly.tenants_of, wanted, scope=_SCOPE)]
        spans = []
        for each in dict.fromkeys(tenants):
            scope = _SCOPE if each == SYSTEM_TENANT else Scope(each, "tracing")
            spans += await self._database.read(assembly.spans_of, wanted, scope=scope)
        if not spans:
            raise NotFound(f"there is no trace {wanted}", fix="Spans are kept for 30 days, messages and attempts for their own time.")
        return assembly.put_together(wanted, spans)
