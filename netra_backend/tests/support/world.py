"""A database file, a receiver and any number of processes under test on them, each of which may be killed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import ledgers
from .ledgers import Counts, Target
from .places import File, Place
from .zygote import Child, Zygote, until

TENANT = "acme"
TTL_S = 1.0
ORDERED = "slow"
"""The endpoint that orders by key: where requests last, so that two of one line would be seen to overtake each other."""
FAST = {
    "lease_ttl": f"{TTL_S}s",
    "webhooks_schedule": "50ms,50ms,100ms,100ms,200ms,200ms,500ms,500ms",
    "webhooks_timeout": "1s",
    "webhooks_breaker_failures": 4,
    "webhooks_breaker_open": "50ms",
    "transaction_timeout": "500ms",
    "disk_reserve_bytes": 0,
}
STATES = "select state, count(*) from netra_delivery group by state"


class World:
    """See the module's docstring. Processes are children of the zygote; `close` ends what is left of them."""

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        behaviours: Iterable[str] = ("ok", "flaky", "slow"),
        place: Place | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.place: Place = place or File(folder / "netra.db")
        self.children: list[Child] = []
        self.targets: list[Target] = []
        self.kills_us: list[int] = []
        self._zygote = zygote
        self._numbers = itertools.count()
        self._refs = itertools.count()
        self._settings = {**FAST, "webhooks_timeout": "3s", "root_keys": str(folder / "root.keys"), "data": str(folder), **settings}
        self.received = folder / "received.ndjson"
        self.receiver = zygote.fork("receiver", {"ledger": str(self.received)}, log=folder / "receiver.log", seconds=600)
        first = self.start()
        url = self.receiver.ask("url")
        for behaviour in behaviours:
            ordering = "key" if behaviour == ORDERED else "none"
            made = first.ask("endpoint", tenant=TENANT, url=f"{url}/{behaviour}", name=behaviour, ordering=ordering)
            self.targets.append(Target(TENANT, behaviour, made["id"], made["secret"]))
        self.stop(first)

    def start(self, failpoint: str = "", *, workers: bool = True, seconds: int = 300) -> Child:
        """One more process, with `NETRA_FAILPOINT` set to `failpoint`."""
        number = next(self._numbers)
        spec = {
            "url": self.place.url,
            "ledger": str(self.folder / f"producer-{number:05}.ndjson"),
            "failpoint": failpoint,
            "workers": workers,
            "settings": self._settings,
        }
        child = self._zygote.fork("platform", spec, log=self.folder / f"platform-{number}.log", seconds=seconds)
        child.ledger = Path(spec["ledger"])
        self.children.append(child)
        return child

    def refs(self, count: int) -> list[str]:
        """That many names which no other message has."""
        return [f"ref-{next(self._refs)}" for _ in range(count)]

    def send(self, child: Child, count: int, **options: Any) -> int:
        """Have `child` send; the number of the command, for `child.answer`."""
        return child.tell("send", tenant=TENANT, refs=self.refs(count), **options)

    def kill(self, child: Child) -> None:
        """SIGKILL, noted for the comparison."""
        self.note_kill()
        child.kill()
        self.children.remove(child)

    def killed_itself(self, child: Child, within_s: float = 45.0) -> None:
        """Wait until its failpoint has killed it."""
        code = child.died(within_s)
        self.children.remove(child)
        assert code == 9, f"it ended with {code}, not by its failpoint\n{child.last_words()}"
        self.note_kill()

    def deaths(self) -> int:
        """How many have died of themselves since the last look; each is noted and taken off the list."""
        dead = [child for child in self.children if child.has_ended()]
        for child in dead:
            self.note_kill()
            self.children.remove(child)
        return len(dead)

    def stop(self, child: Child) -> None:
        """End it as a deployment does."""
        child.stop()
        self.children.remove(child)

    def stop_all(self) -> None:
        """End every one of them so."""
        for child in [*self.children]:
            self.stop(child)

    def note_kill(self) -> None:
        """A process dies now."""
        self.kills_us.append(time.time_ns() // 1000)

    def states(self) -> dict[str, int]:
        """How many deliveries stand in each state."""
        return dict(self.place.query(STATES))

    def drained(self, within_s: float = 45.0) -> None:
        """Wait until nothing is due or leased."""
        until(lambda: not self.states().keys() & {"due", "leased"}, f"drained: {self.states()}", within_s)

    def received_bytes(self) -> int:
        """How long the receiver's ledger is: what grows while anything is delivered, and cheap to poll."""
        return self.received.stat().st_size if self.received.exists() else 0

    def compare(self) -> Counts:
        """Compare the ledgers; see `ledgers.compare`."""
        return ledgers.compare(
            producers=sorted(self.folder.glob("producer-*.ndjson")),
            receiver=self.received,
            query=self.place.query,
            targets=self.targets,
            kills_us=self.kills_us,
        )

    def close(self) -> None:
        """End whatever is left."""
        for child in [*self.children, self.receiver]:
            if not child.gone:
                child.thaw()
                child.kill()

    def nodes(self) -> dict[str, int]:
        """pid by node id, as the table has it."""
        return {row[0].hex(): row[1] for row in self.place.query("select id, pid from netra_node")}

    def deliveries(self) -> list[tuple[Any, ...]]:
        """Every delivery row, whole."""
        return self.place.query("select * from netra_delivery order by tenant, message_id, endpoint_id")

    def attempts(self, *, late: bool) -> int:
        """How many attempt rows are marked late, or are not."""
        marked = [row[6] for row in self.place.query(ledgers.ATTEMPTS)]
        return sum(bool(mark) is late for mark in marked)
