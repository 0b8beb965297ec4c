"""What of the settings concerns webhooks, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..kernel.backoff import WEBHOOKS, Schedule
from ..kernel.settings import Settings
from .model import Rules


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """See `kernel.settings_model` for what each means and does when set badly."""

    schedule: Schedule = field(default_factory=lambda: WEBHOOKS)
    timeout_s: float = 15.0
    connect_timeout_s: float = 5.0
    deadline_s: float = 96 * 3600.0
    keep_s: float = 90 * 24 * 3600.0
    in_flight: int = 10
    in_flight_total: int = 1000
    breaker_failures: int = 10
    breaker_open_s: float = 30.0
    payload_max_bytes: int = 1024 * 1024
    strict_event_types: bool = False
    svix_strict: bool = False
    svix_headers: bool = True
    release_check_s: float = 5.0
    quota_rate: int | None = None
    quota_queue: int | None = None
    failing_warnings_s: tuple[float, ...] = (3600.0, 24 * 3600.0, 4 * 24 * 3600.0)
    disable_after_s: float = 5 * 24 * 3600.0
    disable_attempts: int = 20

    @property
    def rules(self) -> Rules:
        """When a failing endpoint is warned of, and when it is disabled."""
        return Rules(
            tuple(int(after_s * 1e6) for after_s in self.failing_warnings_s), int(self.disable_after_s * 1e6), self.disable_attempts
        )

    @classmethod
    def of(cls, settings: Settings) -> WebhookSettings:
        """The part of all settings that webhooks use."""
        return cls(
            schedule=settings.schedule,
            timeout_s=settings.webhooks_timeout,
            connect_timeout_s=settings.webhooks_connect_timeout,
            deadline_s=settings.webhooks_deadline,
            keep_s=settings.webhooks_keep,
            in_flight=settings.webhooks_in_flight,
            in_flight_total=settings.webhooks_in_flight_total,
            breaker_failures=settings.webhooks_breaker_failures,
            breaker_open_s=settings.webhooks_breaker_open,
            payload_max_bytes=settings.payload_max_bytes,
            strict_event_types=settings.event_types == "strict",
            svix_strict=settings.svix_strict,
            svix_headers=settings.svix_headers,
            release_check_s=settings.release_check_s,
            quota_rate=settings.webhooks_quota_rate,
            quota_queue=settings.webhooks_quota_queue,
            failing_warnings_s=settings.webhooks_failing_warnings,
            disable_after_s=settings.webhooks_disable_after,
            disable_attempts=settings.webhooks_disable_attempts,
        )
