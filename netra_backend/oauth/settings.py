"""What of the settings concerns the vault, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..kernel.settings import Settings

SPOOL: str = "oauth-spool"
"""The folder of answers that are not committed yet, in the data folder."""


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """See `kernel.settings_model` for what each means and does when set badly."""

    spool: Path
    http_timeout_s: float = 10.0
    lease_ttl_s: float = 30.0
    breaker_failures: int = 10
    breaker_open_s: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> OAuthSettings:
        """The part of all settings that the vault uses."""
        return cls(
            settings.data.absolute() / SPOOL,
            settings.oauth_http_timeout,
            settings.oauth_lease_ttl,
            settings.oauth_breaker_failures,
            settings.oauth_breaker_open,
        )

    @property
    def deadline_s(self) -> float:
        """What one request may take: a third of the lease at most, so that a lease outlasts it whatever is set."""
        return min(self.http_timeout_s, self.lease_ttl_s / 3)

    @property
    def fence_s(self) -> float:
        """The age of a lease at which nothing is sent any more: what is left must hold a whole request and its commit."""
        return self.lease_ttl_s - self.deadline_s - self.lease_ttl_s / 6
