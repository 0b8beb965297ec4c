"""What of the settings concerns batches, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..kernel.settings import Settings

TARGET_S: Final = {"sqlite": 0.05, "postgresql": 1.0}
"""How long a chunk's transaction may take: on SQLite it holds the one writer, and everybody else waits for it."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """See `kernel.settings_model` for what each means and does when set badly."""

    jobs: tuple[str, ...] = ()
    slots: int = 4
    target_s: float = TARGET_S["sqlite"]
    keep_s: float = 30 * 86_400.0
    weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> BatchSettings:
        """The part of all settings that batches use."""
        return cls(settings.batch_jobs, settings.batch_slots, TARGET_S[settings.engine], settings.batch_keep, dict(settings.batch_weights))
