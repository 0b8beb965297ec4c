"""The shared tier's scripts as plain Python: what the explorer and the simulated network use in place of a server.

`test_cache_shared.py` runs the same calls, in orders that Hypothesis makes up, on the scripts in a real server and on this, and
compares the answers; so what is found with the model holds for the scripts.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TierModel:
    """See the module's docstring. Each guard is a method of its own, to be taken away."""

    epoch: str = ""
    history: str = ""
    pos: int = 0
    floor: int = 0
    inv: dict[str, int] = field(default_factory=dict)
    entries: dict[str, tuple[str, int, Any, tuple[str, ...]]] = field(default_factory=dict)

    def is_dense(self, seq: int) -> bool:
        return seq == self.pos + 1

    def is_of_this_life(self, epoch: str) -> bool:
        return epoch == self.epoch

    def is_remembered(self, p: int) -> bool:
        return p >= self.floor

    def is_passed(self, deps: tuple[str, ...], p: int) -> bool:
        return any(self.inv.get(name, 0) > p for name in deps)

    def apply(self, history: str, fresh: str, first: int, events: list[list[str]], last: int, *, anew: bool, most: int) -> tuple[str, int]:
        """The rows from `first` on, or a new life under the epoch `fresh`; epoch and position afterwards."""
        if not self.epoch or self.history != history or anew:
            self.inv.clear()
            self.epoch, self.history, self.pos, self.floor = fresh, history, last, last
            return self.epoch, self.pos
        for seq, names in enumerate(events, first):
            if self.is_dense(seq):
                self.inv.update(dict.fromkeys(names, seq))
                self.pos = seq
        for seq, name in sorted((seq, name) for name, seq in self.inv.items())[: max(0, len(self.inv) - most)]:
            del self.inv[name]
            self.floor = max(self.floor, seq)
        return self.epoch, self.pos

    def fill(self, epoch: str, p: int, name: str, value: Any, deps: tuple[str, ...]) -> bool:
        """Keep a value, unless something has passed it."""
        if not self.epoch or not self.is_of_this_life(epoch) or not self.is_remembered(p) or self.is_passed(deps, p):
            return False
        self.entries[name] = (epoch, p, value, deps)
        return True

    def read(self, name: str) -> tuple[str, str, int, tuple[str, int, Any, tuple[str, ...]] | None] | None:
        """Epoch, history, position and the entry, if it may be served; None where the tier knows nothing at all."""
        if not self.epoch:
            return None
        found = self.entries.get(name)
        if found is not None:
            epoch, p, _, deps = found
            if not self.is_of_this_life(epoch) or not self.is_remembered(p) or self.is_passed(deps, p):
                found = None
        return self.epoch, self.history, self.pos, found

    def copied(self) -> TierModel:
        """A state of its own, to go on from or back to."""
        twin = copy.copy(self)
        twin.inv, twin.entries = dict(self.inv), dict(self.entries)
        return twin

    def key(self) -> Any:
        """What tells two states apart."""
        return self.epoch, self.history, self.pos, self.floor, tuple(sorted(self.inv.items())), tuple(sorted(self.entries.items()))
