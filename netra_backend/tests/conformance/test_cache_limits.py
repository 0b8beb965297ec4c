"""Loads that are late, fail, or are cancelled: what their callers are given, and whoever comes after them."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.cache.errors import LoadTimeout
from netra_backend.errors import Unavailable

from ..support.storage import eventually
from .test_cache import Source, age, invalidate, opened


@pytest.fixture
async def netra(engine, prepared):
    async with opened(engine, prepared, 1) as (netra,):
        with netra.scope(tenant="acme"):
            yield netra


async def test_after_its_hard_limit_a_load_is_begun_anew_and_nobody_joins_the_one_that_hangs(netra):
    never = asyncio.Event()
    with pytest.raises(LoadTimeout):
        await netra.cache.get_or_load("k", never.wait, ttl=60, hard_timeout=0.05)
    await eventually(lambda: not len(netra.cache.loader.flights))
    assert await netra.cache.get_or_load("k", lambda: "loaded", ttl=60, hard_timeout=60) == "loaded"


@pytest.mark.parametrize("limits", [{}, {"soft_timeout": 60}, {"hard_timeout": 60}], ids=str)
async def test_a_loader_that_fails_with_a_time_out_has_failed_and_is_no_late_one(netra, limits):
    source = Source()
    options = {"ttl": 60, "fail_safe": 600, "depends_on": ["org:7"], **limits}

    async def timed_out():
        raise TimeoutError("the database took too long")

    with pytest.raises(TimeoutError, match="the database"):
        await netra.cache.get_or_load("card", timed_out, **options)
    await netra.cache.get_or_load("card", source.read, **options)
    age(netra, "card", 90)
    assert (await netra.cache.get_or_load("card", timed_out, info=True, **options)).stale


@pytest.mark.parametrize("limits", [{"soft_timeout": 0.05}, {"hard_timeout": 0.05}, {"soft_timeout": 0.05, "hard_timeout": 60}], ids=str)
async def test_a_load_that_is_late_serves_what_is_past_its_ttl_and_no_worse(netra, limits):
    source, never = Source(), asyncio.Event()
    options = {"ttl": 60, "fail_safe": 600, "depends_on": ["org:7"]}
    await netra.cache.get_or_load("card", source.read, **options)
    age(netra, "card", 90)
    loaded = await netra.cache.get_or_load("card", never.wait, info=True, **options, **limits)
    assert (loaded.value, loaded.stale) == ({"v": 1}, True)


async def test_a_load_whose_older_value_is_invalidated_meanwhile_is_waited_for_beyond_its_soft_limit(netra, monkeypatch):
    source, loader, is_late = Source(), netra.cache.loader, asyncio.Event()
    options = {"ttl": 60, "fail_safe": 600, "depends_on": ["org:7"]}
    await netra.cache.get_or_load("card", source.read, **options)
    age(netra, "card", 90)
    still = loader._still
    monkeypatch.setattr(loader, "_still", lambda entry: is_late.set() or still(entry))

    async def slow():
        source.value = 2
        await netra.write(invalidate, netra)
        await is_late.wait()
        return await source.read()

    assert await netra.cache.get_or_load("card", slow, soft_timeout=0.5, **options) == {"v": 2}


async def test_a_loader_that_is_cancelled_inside_ends_its_load_and_cancels_nobody_who_waits(netra):
    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(Unavailable):
        await netra.cache.get_or_load("k", cancelled, ttl=60)
    assert await netra.cache.get_or_load("k", lambda: 1, ttl=60) == 1
