"""The dead letters of a run as the input of its child run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import store
from .errors import NotExact
from .feed import Feed
from .model import Again, Cursor, DeadLetter, Malformed, Part, Run
from .readers import Read, Reader, Source

PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class FailureReader:
    """Items that JSON can say come from their dead letters, the others from where `reader` found them in the first place."""

    run: Run
    reader: Reader

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """One partition: they are few."""
        del partitions
        return [Part(None, await source.database.read(store.count_failures, self.run.id, scope=source.scope))]

    async def read(self, source: Source, spec: Any, cursor: Cursor) -> AsyncIterator[Read]:
        """See `Reader.read`; the cursor is (partition, offset) of the last dead letter."""
        del spec
        place = (-1, -1) if cursor is None else (cursor[0], cursor[1])
        while True:
            letters: list[DeadLetter] = await source.database.read(store.failures, self.run.id, place, PAGE, scope=source.scope)
            for letter in letters:
                place = (letter.partition, letter.offset)
                yield place, Again(letter.payload if letter.exact else await self._found(source, letter), letter.key)
            if len(letters) < PAGE:
                return

    async def _found(self, source: Source, letter: DeadLetter) -> Any:
        spec = await source.database.read(store.spec, self.run.id, letter.partition, scope=source.scope)
        feed = Feed(self.reader.read(source, spec, letter.place), source.threads)
        try:
            for _, item in (await feed.take(1)).pairs:
                return item.item if isinstance(item, Again) else item
        finally:
            await feed.close()
        return Malformed(str(letter.payload), NotExact(f"the item {letter.key} is not where it was").detail)
