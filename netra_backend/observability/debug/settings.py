"""What of the settings concerns debug sessions, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from ...kernel.settings import Settings


@dataclass(frozen=True, slots=True)
class DebugSettings:
    """See `kernel.settings_model` for what `keep_s` means. The others are one session's in one process, for a second each (D7).

    `cpu` is a share of one processor; `burst_s` is how many seconds' worth may be spent at once.
    """

    keep_s: float = 7 * 24 * 3600.0
    hits: float = 200.0
    bytes: float = 512 * 1024.0
    cpu: float = 0.01
    burst_s: float = 5.0
    ring: int = 500

    @classmethod
    def of(cls, settings: Settings) -> DebugSettings:
        """The part of all settings that debug sessions use."""
        return cls(settings.debug_keep)
