"""Captures are deleted when their session has been over for as long as they are kept; the session and its audit entries stay."""

from __future__ import annotations

from typing import Final

from ...kernel.scope import Scope, system_scope
from ...storage.database import Database
from . import store
from .model import US

AT_ONCE: Final = 100
_SCOPE: Final = system_scope("debug")


async def retire(database: Database, now_us: int, keep_s: float) -> int:
    """Delete what has outlived its time, each session in a transaction of its tenant; how many records."""
    gone, after_us = 0, 0
    before_us = now_us - int(keep_s * US)
    while found := await database.read(store.outlived, after_us, before_us, AT_ONCE, scope=_SCOPE):
        for tenant, id_, ended_us in found:
            gone += await database.write(store.forget, id_, scope=Scope(tenant, "debug"), lane="bulk")
            after_us = ended_us
    return gone
