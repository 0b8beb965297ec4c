"""What an installation says of itself: its identity, made once and for ever by whoever opens it first."""

from __future__ import annotations

from typing import Final

from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)
INSTALL_ID: Final = "install_id"


async def known_install_id(tx: Tx) -> str | None:
    """The identity of this database, None where nobody has opened it yet."""
    row = await tx.one(Q.get_meta, name=INSTALL_ID)
    return None if row is None else str(row[0])


async def install_id(tx: Tx) -> str:
    """The identity of this database, by which an adopted connection shows that it leads here."""
    await tx.execute(Q.set_meta_once, name=INSTALL_ID, value=tx.new_id().hex())
    row = await tx.one(Q.get_meta, name=INSTALL_ID)
    assert row is not None
    return str(row[0])
