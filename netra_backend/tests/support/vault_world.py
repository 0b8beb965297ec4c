"""A database, a provider in a process of its own, and any number of processes with a vault, each of which may be killed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from .places import File, Place
from .world import FAST
from .zygote import Child, Zygote

TENANT = "acme"
TTL_S = 1.5
SETTINGS = {**FAST, "oauth_http_timeout": "500ms", "oauth_lease_ttl": f"{TTL_S}s"}


class VaultWorld:
    """See the module's docstring. `close` ends what is left of them."""

    program = "vault"

    def __init__(self, zygote: Zygote, folder: Path, place: Place | None = None, **settings: Any) -> None:
        self.folder = folder
        self.place: Place = place or File(folder / "netra.db")
        self.children: list[Child] = []
        self._zygote = zygote
        self._numbers = itertools.count()
        self._settings = {**SETTINGS, "root_keys": str(folder / "root.keys"), "data": str(folder), **settings}
        self.providers: list[Child] = []

    def provider(self, profile: str = "strict", fault: str = "none", **options: Any) -> Child:
        """A provider."""
        spec = {"profile": profile, "fault": fault, **options}
        child = self._zygote.fork("provider", spec, log=self.folder / f"provider-{len(self.providers)}.log", seconds=600)
        self.providers.append(child)
        return child

    def receiver(self) -> Child:
        """A receiver of webhooks, which nobody kills."""
        child = self._zygote.fork("receiver_of_tokens", {}, log=self.folder / f"receiver-{len(self.providers)}.log", seconds=600)
        self.providers.append(child)
        return child

    def start(self, failpoint: str = "", *, workers: bool = False) -> Child:
        """One more process with a vault."""
        number = next(self._numbers)
        spec = {"url": self.place.url, "failpoint": failpoint, "workers": workers, "settings": self._settings}
        child = self._zygote.fork(self.program, spec, log=self.folder / f"vault-{number}.log", seconds=300)
        self.children.append(child)
        return child

    def connect(self, provider: Child, name: str, *, expires_in: float = 0, **registration: Any) -> dict[str, Any]:
        """A connection with a new grant, made by a process that ends again."""
        first = self.start()
        tokens = provider.ask("grant")
        given = provider.ask("registration", changes=registration)
        answer = first.ask("connect", tenant=TENANT, name=name, registration=given, tokens={**tokens, "expires_in": expires_in})
        assert "error" not in answer, answer
        self.stop(first)
        return tokens

    def stop(self, child: Child) -> None:
        """End one as a deployment does."""
        child.stop()
        self.children.remove(child)

    def died(self, child: Child) -> None:
        """It has ended by SIGKILL, of its failpoint."""
        assert child.died() == 9, child.last_words()
        self.children.remove(child)

    def kill_all(self) -> None:
        """SIGKILL for every vault."""
        for child in self.children:
            child.kill()
        self.children.clear()

    def close(self) -> None:
        """End everything."""
        self.kill_all()
        for child in self.providers:
            child.kill()


class SignOnWorld(VaultWorld):
    """The same with processes that people log in at."""

    program = "sign_on"
