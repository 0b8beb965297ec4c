"""Fixtures of the fault tests that kill and stop processes."""

from __future__ import annotations

import pytest

from ..support.places import Shared
from ..support.world import World
from ..support.zygote import Zygote


@pytest.fixture(scope="session")
def zygote():
    """One warm process for the whole run."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def fresh_world(zygote, tmp_path):
    """A world of the test's own."""
    world = World(zygote, tmp_path)
    yield world
    world.close()


@pytest.fixture
def shared_world(zygote, tmp_path, postgres_server, postgres_database):
    """A world of the test's own on PostgreSQL."""
    world = World(zygote, tmp_path, place=Shared(postgres_server, postgres_database))
    yield world
    world.close()
