"""Netra for synchronous code: the same calls, without `await`.

A call that takes an adopted transaction runs here and now, in the caller's thread and on its connection. Any other one runs on
Netra's event loop while the caller waits; from that loop's own thread this would wait for itself, and is refused.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import wraps
from typing import Any, Final

from .errors import ForkedRuntime, UsageError
from .storage.adopted.errors import WrongDoor
from .storage.adopted.transaction import AdoptedTx
from .storage.nesting import open_transaction
from .storage.transaction import StoreFunction, Tx, drive

PARTS: Final = frozenset({"oauth", "sso", "webhooks", "batch", "cache", "audit", "events", "kpi", "debug"})


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
        """End the loop, its helpers and the thread."""
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Home:
    """The event loop on which Netra runs, as seen from elsewhere: another thread, another loop, or itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None, pid: int) -> None:
        self.loop = loop
        self._pid = pid

    def check_open(self) -> None:
        """Raise where nothing can run there."""
        if self._pid != os.getpid() and self.loop is not None:
            raise ForkedRuntime
        if self.loop is None or self.loop.is_closed():
            raise UsageError("Netra is not open", fix="Enter `async with Netra(...) as netra:`, or `with`, first.")

    @property
    def is_here(self) -> bool:
        """Whether this is running on it."""
        return asyncio._get_running_loop() is self.loop  # noqa: SLF001  (`get_running_loop` raises where there is none)

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run it there, from another thread, with this thread's context: its scope, and its open transaction."""
        try:
            self._check_elsewhere()
        except UsageError:
            work.close()
            raise
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def _check_elsewhere(self) -> None:
        self.check_open()
        if self.is_here:
            raise UsageError("this call would wait for its own event loop", fix="Await it: the code runs on Netra's loop already.")

    async def run(self, work: Coroutine[Any, Any, Any], *, asynchronous: bool) -> Any:
        """Run it there from wherever this is; without `asynchronous` by waiting, which its own thread cannot do."""
        if asynchronous and self.is_here:
            return await work
        future = self.submit(work)
        return await asyncio.wrap_future(future) if asynchronous else future.result()


class SyncPart:
    """`netra.sync.<part>`: the part's calls, each of which returns what the asynchronous one returns."""

    def __init__(self, part: Any, home: Home) -> None:
        self._part = part
        self._home = home

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        plain = self._plain(found)
        at_hand = getattr(self._part, f"{name}_at_hand", None)
        made = plain if at_hand is None else self._quick(plain, at_hand)
        setattr(self, name, made)  # the next look finds it here
        return made

    def _quick(self, plain: Callable[..., Any], at_hand: Callable[..., Any]) -> Callable[..., Any]:
        """A call that memory alone can answer most of the time needs no way to the loop and back."""
        running, loop = asyncio._get_running_loop, self._home.loop  # noqa: SLF001  (as in `Home.is_here`, without its call)

        @wraps(plain)
        def run(*arguments: Any, **options: Any) -> Any:
            found = None if running() is loop else at_hand(*arguments, **options)
            return plain(*arguments, **options) if found is None else found

        return run

    def _plain(self, call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @wraps(call)
        def run(*arguments: Any, **options: Any) -> Any:
            adopted = [each for each in (*arguments, *options.values()) if isinstance(each, AdoptedTx)]
            if not adopted:
                return self._home.submit(call(*arguments, **options)).result()
            if any(tx.driver.asynchronous for tx in adopted):
                raise WrongDoor
            return drive(call(*arguments, **options))

        return run


class SyncDoor:
    """`netra.sync`: `write`, `transaction`, `tenant`, `adopt`, `scope`, and each part as `netra.sync.<part>.<call>(...)`.

    `netra` is the `Netra` that it opens to, which is above this module.
    """

    def __init__(self, netra: Any, home: Home) -> None:
        self._netra = netra
        self._home = home
        self.adopt = netra.adopt
        self.scope = netra.scope

    def write(self, fn: StoreFunction, *args: Any, tenant: str | None = None) -> Any:
        """As `Netra.write`: the store function runs on the writer, and its result is durable."""
        return self._home.submit(self._netra.write(fn, *args, tenant=tenant)).result()

    def tenant(self, reference: str) -> str:
        """As `Netra.tenant`."""
        return str(self._home.submit(self._netra.tenant(reference)).result())

    @contextmanager
    def transaction(self, tenant: str | None = None) -> Iterator[Tx]:
        """As `Netra.transaction`: `with netra.sync.transaction(tenant="acme") as tx:`. An error inside rolls back."""
        held = _Held(self._netra.transaction(tenant))
        ended = self._home.submit(held.run())
        ended.add_done_callback(held.failed)
        tx, nested = held.entered.result()
        token = open_transaction.set(nested)
        try:
            yield tx
        except BaseException:
            held.leave.set_result(False)
            with suppress(_RollBackError):
                ended.result()
            raise
        else:
            held.leave.set_result(True)
            ended.result()
        finally:
            open_transaction.reset(token)

    def __getattr__(self, name: str) -> Any:
        if name not in PARTS:
            raise AttributeError(f"netra.sync has no {name}: it has write, transaction, tenant, adopt, scope and the parts")
        part = SyncPart(getattr(self._netra, name), self._home)
        setattr(self, name, part)  # the next look finds it here
        return part


class _RollBackError(Exception):
    """The block raised; its own error is told in its own thread."""


class _Held:
    """A transaction that one task of the loop enters and leaves, while the block runs on another thread."""

    def __init__(self, transaction: AbstractAsyncContextManager[Tx]) -> None:
        self.entered: Future[tuple[Tx, Any]] = Future()
        self.leave: Future[bool] = Future()
        self._transaction = transaction

    async def run(self) -> None:
        async with self._transaction as tx:
            self.entered.set_result((tx, open_transaction.get()))
            if not await asyncio.wrap_future(self.leave):
                raise _RollBackError

    def failed(self, ended: Future[None]) -> None:
        """Whoever still waits to enter gets the error of that."""
        if not self.entered.done():
            self.entered.set_exception(ended.exception() or RuntimeError("the transaction ended before it began"))
