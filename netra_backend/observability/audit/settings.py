"""The part of all settings that the audit trail uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...kernel.settings import Settings

ORIGIN: Final = "netra.invalid"
"""Where no host's name is set: a name that no host can have (RFC 2606), and the installation's id makes it unique."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """`memory` is the folder outside the database; `origin` what the names of logs begin with; `keep_s` None keeps entries for ever."""

    memory: Path
    origin: str
    keep_s: float | None = None

    @classmethod
    def of(cls, settings: Settings, install_id: str) -> AuditSettings:
        """As the installation is set."""
        origin = settings.audit_origin or f"{ORIGIN}/{install_id}"
        return cls(settings.audit_memory.absolute() / install_id, origin, settings.audit_keep or None)
