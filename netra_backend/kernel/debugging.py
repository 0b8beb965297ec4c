"""Where a debug session listens: decided once where work comes in, found in one context variable afterwards.

`any_session` is empty in nearly every process at nearly every time, and is all that is then read. Where it is not, whoever takes
work in (a request, a delivery, a chunk, a refresh) asks the runtime's `DebugHook` whose work it is, and `watching` puts the
answer into `watched` for as long as that work lasts. Nothing that comes from outside is asked.

Danger: a task inherits its maker's context. Who starts a task that serves others, or takes up another's work, enters
`watching` with that work's scope or calls `unwatched()` first; and a `Watch` is closed where its work ends, so that what
it has left behind records nothing. A record of a scope goes to sessions of that scope's tenant and to no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

from .scope import Scope

any_session: Final[set[int]] = set()
"""Each Netra of this process with live sessions: the one thing that is read where there is none.

Imported by its name and changed in place: so the question is one global of whoever asks, half the price of a module's attribute.
"""

BODY_KEPT: Final = 16 * 1024
"""How much of a body an HTTP exchange keeps, in bytes."""

Facts = Mapping[str, "str | tuple[str, ...]"]
"""What is known of a piece of work (`user`, `trace`, `route`, `endpoint`, `provider`, `job`), under one name or several."""


class Watch(Protocol):
    """The sessions that listen to a piece of work of one tenant. `marks` are those that its rows should name."""

    @property
    def tenant(self) -> str:
        """Whose work it is."""
        ...

    @property
    def marks(self) -> tuple[bytes, ...]:
        """Sessions that a later piece of this work could not find by itself."""
        ...

    def wants(self, kind: str) -> bool:
        """Whether any of them takes records of this kind: `log`, `span`, `http`, `snapshot`."""
        ...

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Offer them a record. Never raises, never waits."""
        ...

    def close(self) -> None:
        """The work is over."""
        ...


class DebugHook(Protocol):
    """Decides who listens to a piece of work."""

    def watch(self, scope: Scope, facts: Facts) -> Watch | None:
        """Who listens to work that begins here, or in the middle of work that is watched already."""
        ...

    async def pick_up(self, scope: Scope, ref: bytes | None, facts: Facts) -> Watch | None:
        """Who listens to work that was left in a row: `ref` is the row's id, under which sessions may have been marked."""
        ...


class NoDebug:
    """No debug session."""

    def watch(self, scope: Scope, facts: Facts) -> Watch | None:
        """Nobody."""
        del scope, facts
        return None

    async def pick_up(self, scope: Scope, ref: bytes | None, facts: Facts) -> Watch | None:
        """Nobody."""
        del scope, ref, facts
        return None


watched: Final[ContextVar[Watch | None]] = ContextVar("netra_debug_watch", default=None)
"""Who listens to what runs in this context."""

_holders: Final[list[Callable[[bytes], None]]] = []


def switch(owner: int, *, on: bool) -> None:
    """Say whether `owner`, one Netra of this process, has live sessions."""
    (any_session.add if on else any_session.discard)(owner)


class watching:  # noqa: N801  (used as a verb: `with watching(watch):`)
    """`with watching(hook.watch(scope, facts)) as watch:`; None stands for nobody, and hides whoever listened outside."""

    __slots__ = ("_token", "_watch")

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch

    def __enter__(self) -> Watch | None:
        self._token = watched.set(self._watch)
        return self._watch

    def __exit__(self, *_: object) -> None:
        watched.reset(self._token)
        if self._watch is not None:
            self._watch.close()


def unwatched() -> None:
    """For a task that serves everybody: whoever listened where it was started does not listen to it."""
    watched.set(None)


def listener(tenant: str, kind: str) -> Watch | None:
    """Who takes a record of this kind about this tenant here; ask only where there is `any_session`."""
    watch = watched.get()
    return watch if watch is not None and watch.tenant == tenant and watch.wants(kind) else None


def marks_of(tenant: str) -> tuple[bytes, ...]:
    """The sessions that rows of this tenant, made here, should name; ask only where there is `any_session`."""
    watch = watched.get()
    return watch.marks if watch is not None and watch.tenant == tenant else ()


def http(watch: Watch, direction: str, request: tuple[str, str, Any, bytes], answer: Mapping[str, Any]) -> None:
    """Record an HTTP exchange. `request` is method, URL, headers and body; `answer` has status, headers and body, or an error."""
    method, url, headers, body = request
    head = {"direction": direction, "method": method, "url": url}
    asked = {"headers": headers_of(headers), "body": kept(body)}
    told = {**answer, "headers": headers_of(answer.get("headers", ())), "body": kept(answer.get("body", b""))}
    watch.record("http", {**head, "request": asked, "answer": told})


def headers_of(pairs: Any) -> dict[str, str]:
    """Header fields by name, text or bytes; those of one name together."""
    found: dict[str, str] = {}
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        key, text = (each.decode("latin-1") if isinstance(each, bytes) else str(each) for each in (name, value))
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def kept(body: bytes) -> bytes:
    """What an exchange keeps of a body: one byte more than the limit, so that it is seen that it was cut."""
    return bytes(body[: BODY_KEPT + 1])


def on_secret(hold: Callable[[bytes], None]) -> None:
    """Have `hold` told of every secret that is sealed or opened from now on, so that it is known where it must not appear."""
    _holders.append(hold)


def off_secret(hold: Callable[[bytes], None]) -> None:
    """The opposite of `on_secret`."""
    if hold in _holders:
        _holders.remove(hold)


def held(secret: bytes) -> None:
    """A secret is in this process's memory."""
    for hold in _holders:
        hold(secret)
