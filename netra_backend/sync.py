"""Netra for synchronous code: the same calls, without `await`.

A call that takes an adopted transaction runs here and now, in the caller's thread and on its connection. Any other one runs on
Netra's event loop while the caller waits; from that loop's own thread this would wait for itself, and is refused.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from .errors import UsageError
from .storage.adopted.errors import WrongDoor
from .storage.adopted.transaction import AdoptedTx
from .storage.transaction import drive


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="netra-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def stop(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class SyncDoor:
    """`netra.sync.<part>.<call>(...)`, and `netra.sync.write`, `tenant`: what the asynchronous one returns."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if asyncio.iscoroutinefunction(found):
            return self._plain(found)
        return found if callable(found) or isinstance(found, str | int) else SyncDoor(found, self._loop)

    def _plain(self, call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @wraps(call)
        def run(*arguments: Any, **options: Any) -> Any:
            adopted = [each for each in (*arguments, *options.values()) if isinstance(each, AdoptedTx)]
            if not adopted:
                return self._on_loop(call(*arguments, **options))
            if any(tx.driver.asynchronous for tx in adopted):
                raise WrongDoor
            return drive(call(*arguments, **options))

        return run

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise UsageError("Netra is not open", fix="Enter `with Netra(...) as netra:` first.")
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001  (`get_running_loop` raises where there is none)
            work.close()
            raise UsageError("this call would wait for its own event loop", fix="Await it: the code runs on Netra's loop already.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
