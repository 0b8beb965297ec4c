"""What can be wrong with the trail, and what to do."""

from __future__ import annotations

from ...errors import Conflict, NetraError, Unavailable


class NotSequencedYet(Unavailable):
    """The entry is written, and not in the log yet."""

    code = "not_sequenced_yet"
    fix = "Entries come into the log and under a signed checkpoint within a second while a process with workers runs: repeat the question."


class EntryPruned(NetraError):
    """The entry was given away when its time of retention was over; its hash is kept."""

    code = "entry_pruned"
    status = 410
    fix = "Look into an export that was made before; NETRA_AUDIT_KEEP says how long entries stay."


class TrailDamaged(NetraError):
    """An entry in the database is not the one that was hashed into the log: somebody went round Netra."""

    code = "trail_damaged"
    fix = "Keep a copy of the database for inspection, and compare with an export from earlier (`netra audit verify`)."


class NothingToErase(Conflict):
    """The entry has no personal data, or it is erased already."""

    code = "nothing_to_erase"
    fix = "Check the index: `personal` of an entry is null where it never had any."
