"""What races are about: each version of a key is a number in a table of the tests, raised in the transaction that invalidates.

A read is stale if it shows less than what had been committed one bound before it was asked, or, in the writing process, less than that process
had committed itself.
"""

from __future__ import annotations

from typing import Any

from ....storage.statements import parse
from .. import storage

S = parse("""-- name: value_of
select value from tally where name = :name;
""")


async def raised(tx: Any, netra: Any, key: str) -> int:
    """A new version, and its invalidation, in one transaction."""
    row = await tx.one(storage.Q.raise_tally, name=key)
    await netra.cache.invalidate(tx, key)
    return int(row[0])


async def version_of(tx: Any, key: str) -> int:
    """The committed version."""
    row = await tx.one(S["value_of"], name=key)
    return int(row[0]) if row else 0
