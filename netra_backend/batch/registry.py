"""Jobs: what to read, what to make of it, and how to write it. Registered by name, so that any process can go on with a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from ..errors import CannotStart, InvalidInput, Unavailable
from ..storage.transaction import Tx
from .elsewhere import Elsewhere, elsewhere
from .errors import JobExists, UnknownJob
from .model import Rows
from .readers import Reader

Process = Callable[[Any], Any]
Write = Callable[[Tx, Rows], Coroutine[Any, Any, Any]]
ReaderOf = Callable[[Mapping[str, Any]], Reader]

TRANSIENT: Final[tuple[type[Exception], ...]] = (ConnectionError, TimeoutError, Unavailable)
"""What may succeed the second time; everything else a pure function would only repeat."""

LONGEST_NAME: Final = 200
_IMPORT_FIX: Final = "Correct its name, start in the folder that holds it, or install it where this Python looks (PYTHONPATH)."

JOBS: Final[dict[str, Job]] = {}
"""Every job of this process, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One job; made by `batch.job(...)`, which says what each field means."""

    name: str
    read: Reader | ReaderOf
    write: Write
    process: Process | None = None
    process_chunk: Callable[[Sequence[Any]], Any] | None = None
    chunk: int = 1000
    retry: int = 3
    retry_on: tuple[type[Exception], ...] = TRANSIENT
    skip_limit: int | float | None = None
    partitions: int = 1
    executor: Elsewhere | None = None
    priority: int = 0
    concurrency: int | None = None
    rate: float | None = None

    def reader(self, params: Mapping[str, Any]) -> Reader:
        """What it reads with these parameters."""
        return self.read if isinstance(self.read, Reader) else self.read(params)

    def too_many(self, failed: int, ended: int) -> str:
        """Why so many failed items end the run as failed, or nothing. A share counts from the hundredth item on."""
        limit = self.skip_limit
        if limit is None or not failed:
            return ""
        if isinstance(limit, float):
            share = failed / max(ended, 100)
            return f"{failed} of {ended} items failed, more than the share of {limit:g} that may" if share > limit else ""
        return f"{failed} items failed, more than the {limit} that may" if failed > limit else ""


def job(
    name: str,
    *,
    read: Reader | ReaderOf,
    write: Write,
    process: Process | None = None,
    process_chunk: Callable[[Sequence[Any]], Any] | None = None,
    chunk: int = 1000,
    retry: int = 3,
    retry_on: tuple[type[Exception], ...] = TRANSIENT,
    skip_limit: int | float | None = None,  # noqa: PYI041  (as above)
    partitions: int = 1,
    executor: Elsewhere | Executor | Callable[[], Executor] | None = None,
    priority: int = 0,
    concurrency: int | None = None,
    rate: float | None = None,
) -> Job:
    """Make a job and register it under `name`.

    `read` is a reader (`batch.csv(...)` and its siblings), or a function of the run's parameters that makes one. `process` gets
    one item and returns what is to be written, None to leave it out; it is pure, because after a kill it runs again, and may be a
    coroutine function. `process_chunk` gets a list and returns one of the same length, instead. `write(tx, rows)` is a store
    function: it awaits nothing but its `tx`, and its rows, the dead letters and the cursor are one transaction.

    `chunk` is the most items of one transaction. `retry` is how often an item's processing is tried in all where it raises one of
    `retry_on`; any other error makes a dead letter at once. `skip_limit` is how many dead letters (an int), or which share of them
    (a float), a run may have before it fails; None is any number. `partitions` is into how many parts the input is cut unless a
    start says otherwise. `executor` is where `process` runs, if not in a thread: `batch.processes()`, `batch.threads(n)`,
    `batch.dask(address)`, or any `concurrent.futures.Executor`, or a function that makes one; `process` is then no coroutine
    function. `priority` is that of its runs unless a start says otherwise: higher ones go first. `concurrency` is how many partitions of
    the job one tenant may have worked on at once, and `rate` how many of its items are begun in a second, both over all processes.
    Raises `JobExists` where another job has the name.
    """
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"{name!r} cannot name a job", fix=f"Use 1 to {LONGEST_NAME} printable characters.")
    if chunk < 1 or retry < 1 or partitions < 1 or (process is not None and process_chunk is not None):
        raise InvalidInput(
            "a chunk, the tries and the partitions are at least 1",
            fix="Give numbers from 1 on, and `process` or `process_chunk`, not both.",
        )
    if (concurrency is not None and concurrency < 1) or (rate is not None and not rate > 0):
        raise InvalidInput("a limit that lets nothing pass", fix="Give a concurrency of at least 1 and a rate above 0, or leave them out.")
    there = elsewhere(executor)
    if there is not None and inspect.iscoroutinefunction(process or process_chunk):
        raise InvalidInput("a coroutine function cannot run at an executor", fix="Leave `executor` out, or give a plain function.")
    if there is not None and process is None and process_chunk is None:
        raise InvalidInput("there is nothing to run at the executor", fix="Leave `executor` out, or give `process`.")
    made = Job(
        name, read, write, process, process_chunk, chunk, retry, retry_on, skip_limit, partitions, there, priority, concurrency, rate
    )
    former = JOBS.get(name)
    if former is not None and _home(former) != _home(made):
        raise JobExists(f"a job {name!r} is registered already")
    JOBS[name] = made  # a module that is imported anew, by another name, brings the same job again
    return made


def _home(made: Job) -> tuple[str, str]:
    return made.write.__qualname__, made.write.__code__.co_filename if hasattr(made.write, "__code__") else ""


def homes(made: Job) -> list[str]:
    """The modules in which a job's functions stand, so that another process can import them; the program's own is there anyway."""
    functions = (made.write, made.process, made.process_chunk, made.read)
    found = (getattr(function, "__module__", None) for function in functions if function is not None)
    return [module for module in dict.fromkeys(found) if module and module not in {"__main__", "__mp_main__"}]


def named(name: str) -> Job:
    """The job of that name; `UnknownJob`."""
    found = JOBS.get(name)
    if found is None:
        raise UnknownJob(f"there is no job {name!r} in this process")
    return found


def load(modules: Sequence[str]) -> None:
    """Import the modules whose jobs this process is to work on."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise CannotStart(f"the module {module!r} of NETRA_BATCH_JOBS cannot be imported: {error}", fix=_IMPORT_FIX) from error


def find(reference: str) -> Job:
    """The job that `module:name` means: an attribute of the module, or the name of a job that it registers."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise InvalidInput(f"{reference!r} is not MODULE:JOB", fix="Write, for example, shop.jobs:load_orders.")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise InvalidInput(f"the module {module!r} cannot be imported: {error}", fix=_IMPORT_FIX) from error
    return found if isinstance(found, Job) else named(name)
