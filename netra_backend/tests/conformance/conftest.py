"""The contract suite runs over every engine, and on SQLite under a watch: no query on a tenant's table without its tenant."""

from __future__ import annotations

import pytest

from netra_backend.storage import sqlite

from ..support import storage
from ..support.catalogue import STATEMENTS
from ..support.isolation.watched import Watched, statements_in
from ..support.storage import EVERY_ENGINE, with_its_server


@pytest.fixture(params=EVERY_ENGINE)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn."""
    return with_its_server(request)


@pytest.fixture(autouse=True)
def tenants_are_named(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """See `Watched`."""
    own = {id(statement) for statement in STATEMENTS.values()}
    by_hand = frozenset(each.sqlite for module in (request.module, storage) for each in statements_in(module) if id(each) not in own)
    connect = sqlite.connect
    monkeypatch.setattr(sqlite, "connect", lambda *arguments: Watched(connect(*arguments), by_hand))
