"""Where a world keeps its data: a SQLite file or a PostgreSQL database, and how a test looks at it from outside.

The eyes are not Netra's: a connection of our own that reads a file, or the superuser's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from .postgres import Postgres
from .storage import fresh

Rows = list[tuple[Any, ...]]
Query = Callable[[str], Rows]


class Place(Protocol):
    """A database for processes under test."""

    url: str

    def query(self, sql: str) -> Rows:
        """The rows of a statement that only reads."""
        ...

    def change(self, sql: str) -> None:
        """Change rows behind Netra's back."""
        ...


class File:
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = fresh(path)
        self.url = f"sqlite:///{path}"

    def query(self, sql: str) -> Rows:
        """See `Place`."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    def change(self, sql: str) -> None:
        """See `Place`."""
        with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as connection:
            connection.execute(sql)


class Shared:
    """A database on the tests' PostgreSQL."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url(name)

    def query(self, sql: str) -> Rows:
        """See `Place`."""
        return self.server.query(self.name, sql)

    def change(self, sql: str) -> None:
        """See `Place`."""
        self.server.query(self.name, sql)


def place_of(engine: str, request: pytest.FixtureRequest) -> Shared | None:
    """Where a world on that engine keeps its data: a new database on the tests' PostgreSQL, or None for a file of its own."""
    if engine == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres_server")
    return Shared(server, server.create_database())
