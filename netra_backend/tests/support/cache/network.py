"""A simulated server of the shared tier, and the network to it: for the very class that talks to a real one.

`SimulatedServer` answers the registered scripts by `TierModel`, in the same bytes; `Link` is one process's way to it, which may be cut, or lose
the answer of a call that was carried out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from ....cache import valkey
from .tier_model import TierModel


class SimulatedServer:
    """See the module's docstring."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.model = TierModel()
        self.leads: dict[str, tuple[str, float]] = {}
        self._monotonic = monotonic
        self._aside: TierModel | None = None

    def forget(self) -> None:
        """As FLUSHALL, or a restart without a file."""
        self.model, self.leads = TierModel(), {}

    def keep_aside(self) -> None:
        """As SAVE."""
        self._aside = self.model.copied()

    def go_back(self) -> None:
        """A restart with the older file."""
        if self._aside is not None:
            self.model = self._aside.copied()

    def read(self, keys: list[str], _args: list[Any]) -> list[bytes]:
        """See `valkey.READ`; the time that is left is always a minute."""
        answer = self.model.read(_entry_of(keys))
        if answer is None:
            return []
        epoch, history, pos, found = answer
        head = [epoch.encode(), history.encode(), b"%d" % pos]
        if found is None:
            return head
        _, p, (data, codec, stale_ms), deps = found
        return [*head, data, codec.encode(), b"%d" % p, orjson.dumps(deps), b"%d" % stale_ms, 60_000]  # type: ignore[list-item]

    def fill(self, keys: list[str], args: list[Any]) -> int:
        """See `valkey.FILL`."""
        epoch, p, data, codec, deps, stale_ms, _ = args
        return int(self.model.fill(epoch, int(p), _entry_of(keys), (data, codec, stale_ms), tuple(orjson.loads(deps))))

    def apply(self, _keys: list[str], args: list[Any]) -> list[bytes]:
        """See `valkey.APPLY`."""
        history, fresh, first, events, last, anew, most = args
        epoch, pos = self.model.apply(history, fresh, int(first), orjson.loads(events), int(last), anew=bool(int(anew)), most=int(most))
        return [epoch.encode(), b"%d" % pos]

    def keep(self, keys: list[str], args: list[Any]) -> int:
        """See `valkey.KEEP`."""
        now = self._monotonic()
        for key, token in zip(keys, args[1:], strict=True):
            held, until = self.leads.get(key, ("", now))
            if held == token and until > now:
                self.leads[key] = (token, now + args[0] / 1000)
        return 0

    def give_back(self, keys: list[str], args: list[Any]) -> int:
        """See `valkey.YIELD`."""
        if self.leads.get(keys[0], ("", 0.0))[0] != args[0]:
            return 0
        del self.leads[keys[0]]
        return 1

    def take(self, name: str, token: str, limit_ms: int) -> bool | None:
        """`SET name token NX PX limit`."""
        now = self._monotonic()
        if self.leads.get(name, ("", now))[1] > now:
            return None
        self.leads[name] = (token, now + limit_ms / 1000)
        return True


def _entry_of(keys: list[str]) -> str:
    return keys[2].partition(":e:")[2]


class Link:
    """One process's connection, as `valkey._client` makes one."""

    def __init__(self, server: SimulatedServer) -> None:
        self.cut = False
        self.loses_answers = False
        self._server = server
        self._scripts = {
            valkey.READ: server.read,
            valkey.FILL: server.fill,
            valkey.APPLY: server.apply,
            valkey.KEEP: server.keep,
            valkey.YIELD: server.give_back,
        }

    def register_script(self, text: str) -> Callable[..., Awaitable[Any]]:
        """The script as a call."""
        script = self._scripts[text]

        async def call(keys: list[str], args: list[Any] | None = None) -> Any:
            return self._passed(lambda: script(keys, args or []))

        return call

    async def set(self, name: str, token: str, *, nx: bool, px: int) -> Any:
        """`SET`."""
        assert nx
        return self._passed(lambda: self._server.take(name, token, px))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _passed(self, call: Callable[[], Any]) -> Any:
        if self.cut:
            raise ConnectionError("cut")
        answer = call()
        if self.loses_answers:
            raise ConnectionError("the answer was lost")
        return answer
