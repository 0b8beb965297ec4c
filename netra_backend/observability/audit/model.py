"""Records of the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .note import Checkpoint, VerifierKey


@dataclass(frozen=True, slots=True)
class Log:
    """One tenant's log: a tree of `size` entries, of which `signed_size` are under the last signed checkpoint.

    `epoch` is 0 and `origin` empty before the first checkpoint; `minimum` is the index of the first entry that is kept.
    """

    tenant: str
    size: int
    root: bytes
    epoch: int
    origin: str
    signed_size: int
    checkpoint: str
    minimum: int
    public_key: bytes
    sealed: bytes
    updated_us: int

    @property
    def vkey(self) -> VerifierKey:
        """Who signs it."""
        return VerifierKey(self.origin, self.public_key)


@dataclass(frozen=True, slots=True)
class Signing:
    """A checkpoint that is remembered outside the database and is to stand in it: signed while the log was as `before`.

    `lost` is the checkpoint that this database does not continue, where a new epoch was opened for that.
    """

    before: Log
    epoch: int
    checkpoint: Checkpoint
    note: str
    lost: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the trail. Times are microseconds since the epoch; `before` and `after` hold no secret.

    `personal` is the commitment to personal data in hex, where there was any. `index` is its place in the log, where that was asked for.
    """

    id: bytes
    at_us: int
    actor: str
    action: str
    table: str
    target: str
    outcome: str
    trace_id: str
    span_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    personal: str | None
    index: int | None = None
