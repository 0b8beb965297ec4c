"""What the program's own functions raise: an item's failure, or the run's, and never the end of anything else.

`sys.exit()` inside a library would end the process with everybody's work in it, and then the next one that is given the item. A
`CancelledError` that nobody of us asked for would end the task that holds a partition's lease without a word, and the partition
would be worked on by nobody for as long as this process lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from .model import words


def is_own(error: BaseException) -> bool:
    """Whether a function raised this itself, and is not being ended with the task that it runs in."""
    if isinstance(error, GeneratorExit):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # a thread or a process of its own: nobody ends it from outside
        return True
    if isinstance(error, asyncio.CancelledError):
        return task is None or not task.cancelling()
    return isinstance(error, Exception | SystemExit)


@contextmanager
def contained() -> Iterator[None]:
    """Around a call of the program's: whatever it raises is an `Exception`."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if not is_own(error):
            raise
        raise RuntimeError(words(error)) from error
