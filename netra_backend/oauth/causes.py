"""What KPIs ask of the vault: which connections of a tenant keep somebody waiting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ..kernel.witnesses import LONGEST_WORDS, Dependency
from ..storage.statements import Statements
from ..storage.transaction import Tx

Q = Statements(__package__)

PREFIX: Final = "oauth."


class Witness:
    """`kernel.witnesses.Dependencies`, from the tables of the vault."""

    async def troubles(self, tx: Tx, wanted: Collection[Dependency]) -> Mapping[Dependency, str]:
        """`oauth.provider:NAME` is any connection of the registration or the preset of that name, `oauth.connection:NAME` that one."""
        asked = [each for each in wanted if each[1].startswith(PREFIX)]
        if not asked:
            return {}
        said: dict[Dependency, str] = {}
        for tenant, name, client, preset, state, reason, failures in await tx.all(
            Q.connections_in_trouble, rows=sorted({(tenant,) for tenant, _ in asked}), now_us=tx.now_us
        ):
            words = _words(name, state, reason or "", failures)[:LONGEST_WORDS]
            for place in (f"connection:{name}", f"provider:{client}", f"provider:{preset}"):
                said.setdefault((tenant, PREFIX + place), words)
        return {each: said[each] for each in asked if each in said}


def _words(name: str, state: str, reason: str, failures: int) -> str:
    if state != "active":
        return f"connection {name} is {state}: {reason}" if reason else f"connection {name} is {state}"
    return f"refresh of {name} is failing" if failures else f"{name} waits for a refresh"
