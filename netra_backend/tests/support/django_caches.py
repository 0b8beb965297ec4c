"""Django's cache as a test makes it: on a Netra of its own, without a project."""

from __future__ import annotations

from contextlib import contextmanager

from netra_backend import Netra
from netra_backend.integrations.django_cache import NetraCache

from .adopting import settings_of


@contextmanager
def opened(place, tmp_path, **options):
    settings = {**settings_of(tmp_path), "disk_reserve_bytes": 0, "cache_lease": "60s", **options}
    with Netra(place.url, workers=False, environ={}, **settings) as netra:
        yield netra


def cache_of(netra, prefix="", **options):
    """As Django makes it. The ORM's database is named where a test has one."""
    return NetraCache("", {"KEY_PREFIX": prefix, "OPTIONS": {"NETRA": netra, "DATABASE": None, **options}})


def look(netra):
    """Take in what others have committed; whether nothing waits for its number."""
    netra.run_blocking(netra.cache.follower.look())
    return not netra.cache.node.pending
