"""What of the settings concerns single sign-on, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from ...kernel.settings import Settings


@dataclass(frozen=True, slots=True)
class SsoSettings:
    """See `kernel.settings_model` for what each means and does when set badly."""

    dwell_s: float = 300.0
    window_s: float = 30.0
    return_s: float = 120.0
    idle_s: float = 1800.0
    life_s: float = 12 * 3600.0
    backup_life_s: float = 3600.0
    public_url: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> SsoSettings:
        """The part of all settings that single sign-on uses."""
        return cls(
            settings.sso_dwell,
            settings.sso_window,
            settings.sso_return,
            settings.sso_idle,
            settings.sso_life,
            settings.sso_backup_life,
            settings.public_url.rstrip("/") if settings.public_url else None,
        )

    @property
    def probe_s(self) -> float:
        """Between two probes of an issuer that is not known to be well."""
        return self.window_s / 3
