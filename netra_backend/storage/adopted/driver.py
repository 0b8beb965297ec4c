"""What `AdoptedTx` needs of a caller's connection. One implementation per kind; none begins or commits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from ...errors import NetraError
from ..statements import Row, Statement


class Driver(ABC):
    """One caller's connection. A synchronous kind never suspends in any of these."""

    asynchronous: ClassVar[bool] = False
    drops_hooks: ClassVar[bool] = False
    """Whether the framework lets go of what `on_commit` was given at a rollback, and not before."""
    recipe: ClassVar[str]
    """How its user begins a transaction."""

    @property
    @abstractmethod
    def engine(self) -> Literal["sqlite", "postgresql"]:
        """What it is connected to."""

    @property
    @abstractmethod
    def connection(self) -> Any:
        """The database driver's own connection."""

    @property
    def handle(self) -> Any:
        """What the caller handed over."""
        return self.connection

    async def ready(self) -> None:
        """Bring a framework as far as its own begin, where it begins lazily."""
        return

    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether a transaction is open; raises `TransactionFailed` where it can only be rolled back."""

    @abstractmethod
    def begins_by_itself(self) -> bool:
        """Whether the caller's library opens a transaction before our first statement, as the caller has set it up to."""

    async def pause(self) -> None:
        """Let others have the lock that this connection waits for."""
        return

    @abstractmethod
    async def control(self, sql: str) -> None:
        """A statement of the session: savepoints, roles, settings."""

    @abstractmethod
    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """The statement's rows, as plain tuples whatever row factory the caller has set."""

    @abstractmethod
    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """How many rows it changed."""

    def on_commit(self, callback: Callable[[], None]) -> None:  # noqa: B027  (most kinds have no such hook)
        """Have it called after the caller's commit, where the framework can tell."""

    @abstractmethod
    def translated(self, error: Exception) -> NetraError:
        """The library's error in Netra's words."""
