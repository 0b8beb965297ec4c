"""Checks of the shared cache tier, where there is one: whether it answers, is new enough, and keeps what must be kept."""

from __future__ import annotations

from typing import Final

from ...kernel.settings import Settings
from .checks import Check, judged

OLDEST: Final = {"Redis": (6, 2), "Valkey": (7, 2)}


async def look(settings: Settings) -> list[Check]:
    """Nothing without NETRA_CACHE_URL."""
    if settings.cache_url is None:
        return []
    from ...cache.valkey import POLICY_FIX, forgets, server_facts
    from ...errors import NetraError

    try:
        name, version, policy = await server_facts(settings.cache_url)
    except NetraError as error:
        return [Check("shared cache", "failed", str(error), error.fix)]
    except Exception as error:  # noqa: BLE001  (whatever the client says: it is not to be had)
        advice = "Start it, or correct NETRA_CACHE_URL; until then each process caches for itself, and nothing is wrong but slower."
        return [Check("shared cache", "warning", f"it does not answer: {str(error) or type(error).__name__}", advice)]
    words = ".".join(map(str, version))
    oldest = ".".join(map(str, OLDEST[name]))
    return [
        judged("shared cache", f"{name} {words}", good=version >= OLDEST[name], fix=f"Upgrade it to {name} {oldest} or later."),
        judged(
            "shared cache's eviction",
            f"maxmemory-policy is {policy}" + (", which may evict what the tier must not forget" if forgets(policy) else ""),
            good=not forgets(policy),
            fix=POLICY_FIX,
        ),
    ]
