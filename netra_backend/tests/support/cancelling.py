"""Cancellation at every await: the nth wait of a coroutine is its last, for each n."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any


async def cancelled_at(number: int, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it as a task that is cancelled while it waits for the nth time; None then, its result if it has ended before.

    What the coroutine awaits while it is being cancelled is awaited, as in any task.
    """

    async def run() -> Any:
        return await _Counted(coroutine, number)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


class _Counted:
    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int) -> None:
        self._coroutine, self._number = coroutine, number

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        step = partial(steps.send, None)
        for waits in itertools.count():
            try:
                waited_for = step()
            except StopIteration as stop:
                return stop.value
            if waits == self._number:
                asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            try:
                step = partial(steps.send, (yield waited_for))
            except BaseException as error:  # the cancellation is the coroutine's, and so is what it does then
                step = partial(steps.throw, error)
        raise AssertionError
