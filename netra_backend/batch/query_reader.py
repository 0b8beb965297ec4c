"""Rows of a keyset query: each page begins behind the last key of the one before, and none behind the bound of the run's start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import InvalidInput
from ..storage.statements import Row, Statement, statement
from ..storage.transaction import Tx
from .model import Cursor, Part
from .readers import Read, Source, ranges

PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class QueryReader:
    """See the module's docstring; made by `batch.query`."""

    page: Statement
    bounds: Statement
    start: Any

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """Ranges of keys up to the greatest one there is now; whole numbers only can be cut."""
        lowest, highest = (await source.database.read(_rows, self.bounds, _given(self.bounds, source), scope=source.scope))[0]
        if highest is None:
            return [Part([self.start, self.start])]
        if not isinstance(highest, int) or partitions == 1:
            return [Part([self.start, highest])]
        edges = ranges(min(lowest, highest) - 1, highest, partitions)
        return [Part([after, until]) for after, until in edges]

    async def read(self, source: Source, spec: Any, cursor: Cursor) -> AsyncIterator[Read]:
        """See `Reader.read`: tuples, of which the first column is the key; the cursor is the last key."""
        after, until = spec
        after = after if cursor is None else cursor
        given = _given(self.page, source)
        while True:
            params = {**given, "after": after, "until": until, "limit": PAGE}
            rows: list[Row] = await source.database.read(_rows, self.page, params, scope=source.scope)
            for row in rows:
                yield row[0], row
            if len(rows) < PAGE:
                return
            after = rows[-1][0]


async def _rows(tx: Tx, wanted: Statement, params: dict[str, Any]) -> list[Row]:
    return await tx.all(wanted, **params)


def _given(wanted: Statement, source: Source) -> dict[str, Any]:
    """Those of the run's parameters that the statement names."""
    return {name: value for name, value in source.params.items() if name in wanted.params}


def query(page: str, bounds: str, *, start: Any = 0) -> QueryReader:
    """Rows of the run's own database, by the key in their first column.

    `page` is a select with `:after`, `:until` and `:limit`: `select id, name from customer where id > :after and id <= :until order
    by id limit :limit`. `bounds` gives the lowest and the highest key, once, when the run is planned: `select min(id), max(id)
    from customer`. `start` comes before every key: 0 for whole numbers above 0, "" for text. Other parameters are the run's.
    """
    wanted = statement(page)
    if missing := {"after", "until", "limit"} - set(wanted.params):
        raise InvalidInput(f"the query names no {', '.join(sorted(missing))}", fix="It needs :after, :until and :limit.")
    return QueryReader(wanted, statement(bounds), start)
