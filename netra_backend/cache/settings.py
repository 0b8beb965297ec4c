"""What the cache reads of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..kernel.settings import Settings
from ..kernel.sizes import MIB


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Times in seconds; see the setting of the same name for what each means."""

    lease_s: float = 1.0
    transaction_s: float = 5.0
    max_bytes: int = 64 * MIB
    loads: int = 64
    url: str | None = None
    memory_limit: int | None = None
    proc_root: Path = Path("/proc")
    cgroup_root: Path = Path("/sys/fs/cgroup")
    hit_ratio_least: float = 0.0
    error_ratio_most: float = 0.2
    load_p99_most_s: float = 0.0
    l2_error_ratio_most: float = 0.2
    l2_p99_most_s: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> CacheSettings:
        """The cache's part of the settings."""
        return cls(
            lease_s=settings.cache_lease,
            transaction_s=settings.transaction_timeout,
            max_bytes=settings.cache_max_bytes,
            loads=settings.cache_loads,
            url=settings.cache_url,
            memory_limit=settings.memory_limit,
            proc_root=settings.proc_root,
            cgroup_root=settings.cgroup_root,
            hit_ratio_least=settings.cache_hit_ratio_least,
            error_ratio_most=settings.cache_error_ratio_most,
            load_p99_most_s=settings.cache_load_most,
            l2_error_ratio_most=settings.cache_l2_error_ratio_most,
            l2_p99_most_s=settings.cache_l2_most,
        )
