"""One outgoing request under way: what was judged, how far it came, and what stopped it.

It travels in a context variable, because the library between us and the socket offers no other way through: aiohttp
calls our resolver and connector in the requesting task, and our socket factory in it or in a child of it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from .addresses import EgressRules
from .egress_error import EgressDenied, EgressError

Phase = Literal["look-up", "connect", "answer", "body"]


@dataclass(slots=True)
class Exchange:
    """`phase` is what is being waited for; `peer` the address in use, once known; `stopped` why we ended it ourselves."""

    tenant: str
    port: int
    rules: EgressRules
    wire_limit: int
    pinned: frozenset[str] = frozenset()
    phase: Phase = "look-up"
    peer: str = ""
    sent: bool = False
    arrived: int = 0
    stopped: EgressError | None = None

    def judge(self, address: str) -> None:
        """Raise and remember `EgressDenied` if this address may not be used at this port."""
        refusal = self.rules.refusal(address, self.port)
        if refusal is not None:
            self.stopped = EgressDenied(refusal, address=address, port=self.port)
            raise self.stopped


CURRENT: ContextVar[Exchange] = ContextVar("netra_egress_exchange")
