"""What KPIs ask of webhooks: the messages behind events, and why one has not arrived."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ..kernel.ids import to_text
from ..kernel.witnesses import LONGEST_WORDS, Dependency, MessageFacts, MessageKey
from ..storage.statements import Statements
from ..storage.transaction import Tx
from .intake import message_of

Q = Statements(__package__)

PREFIX: Final = "webhooks."


class Witness:
    """`kernel.witnesses.Messages` and `Dependencies`, from the tables of webhooks."""

    async def facts(self, tx: Tx, keys: Collection[MessageKey]) -> Mapping[MessageKey, MessageFacts]:
        """See `Messages.facts`."""
        found = [message_of(row) for row in await tx.all(Q.messages_by_id, rows=sorted(keys))]
        return {(m.tenant, m.id): MessageFacts(m.event_type, m.payload, m.trace.trace_id, m.deliver_at_us) for m in found}

    async def causes(self, tx: Tx, keys: Collection[MessageKey]) -> Mapping[MessageKey, str]:
        """The worst of what its deliveries say; a message that goes nowhere says that."""
        said: dict[MessageKey, tuple[int, str]] = {}
        for tenant, message, endpoint, state, number, reason, phase in await tx.all(Q.standing_of_messages, rows=sorted(keys)):
            words = _words(to_text("ep", endpoint), state, number, reason or "", phase)
            said[tenant, message] = max(said.get((tenant, message), (0, "")), words)
        return {key: said[key][1][:LONGEST_WORDS] if key in said else "no endpoint wanted it" for key in keys}

    async def troubles(self, tx: Tx, wanted: Collection[Dependency]) -> Mapping[Dependency, str]:
        """Any endpoint of the tenant whose breaker is not closed stands for a tag or a type; for an endpoint, only itself."""
        asked = [each for each in wanted if each[1].startswith(PREFIX)]
        if not asked:
            return {}
        tenants = sorted({(tenant,) for tenant, _ in asked})
        unwell: dict[str, list[str]] = {}
        for tenant, endpoint in await tx.all(Q.parked_endpoints, rows=tenants):
            unwell.setdefault(tenant, []).append(to_text("ep", endpoint))
        found = {}
        for tenant, name in asked:
            kind, _, which = name.removeprefix(PREFIX).partition(":")
            parked = [each for each in unwell.get(tenant, ()) if kind != "endpoint" or each == which]
            if parked:
                found[tenant, name] = f"breaker open {parked[0]}"
        return found


def _words(endpoint: str, state: str, number: int, reason: str, phase: str) -> tuple[int, str]:
    """How bad it is, and in words."""
    if state == "dead":
        return 6, f"dead letter at {endpoint}: {reason}"
    if state == "skipped":
        return 5, f"skipped at {endpoint}: {reason}"
    if state == "cancelled":
        return 4, f"cancelled at {endpoint}: {reason}"
    if state != "delivered" and phase != "closed":
        return 3, f"breaker open {endpoint}"
    if state != "delivered" and number:
        return 2, f"failing at {endpoint}: {reason}"
    return (0, f"delivered at {endpoint}") if state == "delivered" else (1, f"waiting at {endpoint}")
