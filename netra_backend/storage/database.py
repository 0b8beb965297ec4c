"""What the parts know of a database: the doors through which a store function reaches a transaction.

`Sqlite` (`sqlite.py`) and `Postgres` (`postgres.py`) are the implementations; nothing above `storage/` knows which one it talks to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from ..kernel.scope import Scope
from .jobs import BatchVerb
from .transaction import StoreFunction, Tx

Lane = Literal["normal", "urgent", "bulk"]


class Database(Protocol):
    """An open database. Every method may be called from the event loop that opened it."""

    engine: str
    on_unknown_outcome: list[Callable[[], None]]
    """Called (on any thread) when a commit's outcome could not be known: leases held by this process are in doubt."""

    on_wake: list[Callable[[], None]]
    """Called on the loop when another process may have left work; nothing depends on it, for everybody looks anyway."""

    on_notice: list[Callable[[], None]]
    """As `on_wake`, and before it, where somebody has said so and not only committed something."""

    lock_dir: Path
    """Where the processes of this host keep their lock files."""

    async def open(self) -> None:
        """Connect, check the schema, start what runs in the background."""
        ...

    async def close(self) -> None:
        """Finish what waits and disconnect."""
        ...

    async def write(self, fn: StoreFunction, *args: Any, scope: Scope, lane: Lane = "normal") -> Any:
        """Run a store function in a transaction of its own and return its result once that is durable."""
        ...

    async def write_item(self, verb: BatchVerb, item: Any, *, weight: int = 1) -> Any:
        """Hand one item to a verb that takes lists, in the system scope, together with everybody else's items.

        `weight` is how many rows the item stands for: one call of the verb takes no more than about 256.
        """
        ...

    async def read(self, fn: StoreFunction, *args: Any, scope: Scope) -> Any:
        """Run a store function that only reads, on one snapshot; ends with `ReadTimeout` after 5 s."""
        ...

    def transaction(self, scope: Scope) -> AbstractAsyncContextManager[Tx]:
        """Hold a transaction open across awaits; see `held.py` for its price."""
        ...

    def bear(self, node: bytes) -> None:
        """From now on transactions bear this node's name, so that whoever declares it dead can end those that it left open."""
        ...

    def check_intake(self) -> None:
        """Raise `Unavailable` where nothing new may be accepted: trouble with the writer, or a disk nearly full.

        A forked child gets `ForkedRuntime`.
        """
        ...

    def version(self) -> int:
        """A number that is another one after any commit by anybody; cheap enough to ask every 100 ms."""
        ...

    def look_again(self) -> None:
        """On the loop: somebody has committed, and has told us sooner than `version` would."""
        ...
