"""Whether what is remembered of audit logs outside the database fits what the database says of them."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ...kernel.settings import Settings
from ...observability.audit import store
from ...observability.audit.memory import Memory
from ...observability.audit.model import Log
from ...observability.audit.settings import AuditSettings
from ...storage import meta
from ...storage.database import Database
from ..session import operator
from .checks import Check

AT_ONCE: Final = 500
SHOWN: Final = 3
_FIX: Final = (
    "If the database was restored this is as it should be: such a log goes on under a new origin, and an entry says so. Otherwise look "
    "where NETRA_AUDIT_MEMORY is, and whether every host sees the same one."
)


async def look(database: Database, settings: Settings) -> Check:
    """One look at every log that was signed; nothing is written."""
    install_id = await database.read(meta.known_install_id, scope=operator())
    if install_id is None:
        return Check("audit trail", "ok", "no log yet")
    memory = Memory(AuditSettings.of(settings, install_id).memory)
    found: Counter[str] = Counter()
    odd: list[str] = []
    after = ""
    while logs := await database.read(store.logs, after, AT_ONCE, scope=operator()):
        for log in logs:
            words = _judge(log, memory)
            found[words] += 1
            odd += [f"{log.tenant} {words}"] if words else []
        after = logs[-1].tenant
    detail = f"{found.total()} logs, {found['']} of them continue what {memory.folder} remembers"
    if odd:
        more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
        return Check("audit trail", "warning", f"{detail}; {', '.join(odd[:SHOWN])}{more}", _FIX)
    return Check("audit trail", "ok", detail)


def _judge(log: Log, memory: Memory) -> str:
    """What is odd about it; nothing if it will be signed on under its origin, as far as sizes and origins tell."""
    remembered = memory.recall(log.tenant)
    kept = remembered.checkpoint
    if remembered.is_damaged:
        return "has a damaged file there"
    if kept is None:
        return "is not remembered" if log.signed_size else ""
    if kept.size > log.size:
        return f"has {log.size} entries and is remembered with {kept.size}"
    return "is remembered under another origin" if remembered.epoch == log.epoch and kept.origin != log.origin else ""
