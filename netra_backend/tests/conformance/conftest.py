"""The contract suite runs over every engine."""

from __future__ import annotations

import pytest

from ..support.storage import EVERY_ENGINE, with_its_server


@pytest.fixture(params=EVERY_ENGINE)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn."""
    return with_its_server(request)
