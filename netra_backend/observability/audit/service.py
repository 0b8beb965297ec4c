"""The audit trail as the rest of Netra sees it: entries of the user's own, proofs, files for a stranger, erasure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ...errors import InvalidInput, NotFound
from ...kernel.ids import from_text, to_text
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage.audit_append import FACTS_BYTES, audit_append, facts_that_fit
from ...storage.database import Database
from ...storage.transaction import Tx
from . import reading, store
from .errors import NothingToErase, NotSequencedYet
from .model import Entry, Log
from .receipt import Receipt
from .sequencer import Sequencer
from .verifying import CHECKPOINT, MINIMUM, VKEY

Q = store.Q

SALT_BYTES: Final = 32
LONGEST_ACTION: Final = 128
LONGEST_TARGET: Final = 512
LONGEST_REASON: Final = 1_000
SETTLE_WITHIN_S: Final = 30.0
SETTLE_LOOK_S: Final = 0.05
ERASED: Final = "audit.erased"
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+\Z", re.ASCII)
_SYSTEM: Final = system_scope("audit")
_OWN: Final = ("audit.", "log.")
"""Actions by which a log speaks of itself; nobody else may write those."""


class Audit:
    """`netra.audit`."""

    def __init__(self, database: Database, runtime: Runtime, sequencer: Sequencer) -> None:
        self.sequencer = sequencer
        self._database = database
        self._runtime = runtime

    # Writing

    async def record(
        self,
        tx: Tx,
        action: str,
        target: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        personal: Mapping[str, Any] | None = None,
    ) -> str:
        """Write an entry of your own in the caller's transaction, and return its id: it is in the trail iff that commits.

        `action` is `noun.verb` in lower case, of at most 128 characters, not one that begins with `audit.` or `log.`; `target` what it
        was done to, of at most 512. `before` and `after` say what changed, 60,000 bytes of JSON together: no secrets, and no personal
        data, for an entry is kept for ever. `personal` is what may have to be erased: only SHA-256(salt || data) of it is in the entry,
        and `erase` takes the data away without a change to any hash. Raises `InvalidInput` where one of them is not so.
        """
        _check(action, target, before, after)
        async with tx.verb():
            if personal is None:
                return to_text("aud", await audit_append(tx, action, target, before=before, after=after))
            salt, data = self._runtime.chance.token(SALT_BYTES), _json("personal", personal)
            commitment = hashlib.sha256(salt + data.encode()).hexdigest()
            entry = await audit_append(tx, action, target, before=before, after=after, personal=commitment)
            await tx.execute(Q.insert_personal, entry_id=entry, salt=salt, data=data)
            return to_text("aud", entry)

    async def erase(self, scope: Scope, index: int, reason: str) -> Entry:
        """Erase the personal data of the entry at an index, with an entry that says so and why; the entry whose data is gone.

        No hash and no root changes. Raises `NothingToErase` where there is none, `NotFound` where there is no such entry.
        """
        if not reason.strip() or len(reason) > LONGEST_REASON:
            raise InvalidInput(f"the reason is empty, or longer than {LONGEST_REASON} characters", fix="Say why, for the audit trail.")
        erased: Entry = await self._database.write(_erase, index, reason, scope=scope)
        return erased

    # Looking

    async def entries(self, scope: Scope, after: int = -1, limit: int = 100) -> list[Entry]:
        """The entries behind an index, by index: dense, so that whoever remembers the last one misses none."""
        found: list[Entry] = await self._read(scope, reading.by_index, after, limit)
        return found

    async def search(self, scope: Scope, wanted: reading.Filter, after: bytes = b"", limit: int = 100) -> list[Entry]:
        """The entries that a filter leaves, by id, behind `after`; those too that have no index yet."""
        found: list[Entry] = await self._read(scope, reading.search, wanted, after, limit)
        return found

    async def personal(self, scope: Scope, id_: str) -> dict[str, Any] | None:
        """The personal data of an entry, None where it has none or it was erased; that it was read is an entry itself."""
        found: dict[str, Any] | None = await self._database.write(_read_personal, from_text("aud", id_), scope=scope)
        return found

    async def log(self, scope: Scope) -> Log:
        """The tenant's log; `NotFound` before its first signed checkpoint."""
        found: Log | None = await self._read(scope, store.find, scope.tenant)
        if found is None or not found.checkpoint:
            raise NotFound("this tenant has no signed checkpoint yet", fix=NotSequencedYet.fix)
        return found

    async def resource(self, scope: Scope, path: str) -> bytes:
        """One file of the log as C2SP tlog-tiles name them: `checkpoint`, `tile/...`; and `vkey`, `minimum-index`.

        `NotFound` for a tile that the last signed checkpoint does not cover, `EntryPruned` for entries that were given away.
        """
        log = await self.log(scope)
        if path == CHECKPOINT:
            return log.checkpoint.encode()
        if path == VKEY:
            return log.vkey.text.encode() + b"\n"
        if path == MINIMUM:
            return f"{log.minimum}\n".encode()
        data: bytes = await self._read(scope, reading.resource, log, path)
        return data

    async def prove(self, scope: Scope, which: int | str) -> Receipt:
        """The receipt of the entry at an index, or with an id: it and a proof that the last signed checkpoint covers it."""
        log = await self.log(scope)
        receipt: Receipt = await self._read(scope, reading.prove, log, which)
        return receipt

    async def settle(self, scope: Scope) -> None:
        """Return once every entry that is committed by now is under a signed checkpoint; `NotSequencedYet` after 30 s.

        Each step waits for what the one before has seen, and no more: whoever goes on writing keeps nobody waiting.
        """
        ends = self._runtime.clock.monotonic() + SETTLE_WITHIN_S
        await self._until(ends, store.is_in_stream, await self._read(_SYSTEM, store.last_waiting))
        await self._until(ends, store.is_sequenced, await self._read(_SYSTEM, store.last_in_stream))
        log: Log | None = await self._read(_SYSTEM, store.find, scope.tenant)
        await self._until(ends, store.is_signed, scope.tenant, log.size if log is not None else 0)

    async def _until(self, ends: float, holds: Any, *args: Any) -> None:
        while not await self._read(_SYSTEM, holds, *args):
            if self._runtime.clock.monotonic() > ends:
                raise NotSequencedYet(f"after {SETTLE_WITHIN_S:g} s not every entry is under a checkpoint")
            await self.sequencer.drain()
            await self._runtime.clock.sleep(SETTLE_LOOK_S)

    async def _read(self, scope: Scope, fn: Any, *args: Any) -> Any:
        return await self._database.read(fn, *args, scope=scope)


def _check(action: str, target: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
    if not _ACTION.match(action) or len(action) > LONGEST_ACTION:
        raise InvalidInput(f"{action[:80]!r} is no action", fix="Write noun.verb, of a-z, 0-9 and '_': `invoice.approve`.")
    if action.startswith(_OWN):
        raise InvalidInput(f"{action!r} is how a log speaks of itself", fix="Name it otherwise: nothing may begin with audit. or log.")
    if not target or len(target) > LONGEST_TARGET or "\0" in target:
        raise InvalidInput(f"a target is text of 1 to {LONGEST_TARGET} characters", fix="Name what it was done to, by its id.")
    size = sum(len(_json(name, value)) for name, value in (("before", before), ("after", after)) if value is not None)
    if size > FACTS_BYTES or facts_that_fit(before, after) != _texts(before, after):
        raise InvalidInput(
            f"before and after are larger than {FACTS_BYTES} bytes", fix="Record what changed; of large values a digest, as the trail does."
        )


def _texts(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    return (None if before is None else _json("before", before)), (None if after is None else _json("after", after))


def _json(name: str, value: Mapping[str, Any]) -> str:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is not a mapping", fix="Give a dictionary of what JSON can say.")
    try:
        return orjson.dumps(dict(value), option=orjson.OPT_SORT_KEYS).decode()
    except TypeError as error:  # orjson's own error is one
        raise InvalidInput(f"{name} is not JSON: {error}", fix="Give a dictionary of what JSON can say.") from error


async def _erase(tx: Tx, index: int, reason: str) -> Entry:
    found = await reading.entry_at(tx, index)
    if not await tx.execute(Q.delete_personal, entry_id=found.id):
        raise NothingToErase(f"the entry {index} has no personal data" + (" any more" if found.personal else ""))
    await audit_append(tx, ERASED, to_text("aud", found.id), after={"index": index, "reason": reason})
    return found


async def _read_personal(tx: Tx, id_: bytes) -> dict[str, Any] | None:
    row = await tx.one(Q.get_personal, entry_id=id_)
    if row is None:
        return None
    await audit_append(tx, "audit.personal.read", to_text("aud", id_))
    salt, data = row
    return {"salt": salt.hex(), "data": orjson.loads(data)}
