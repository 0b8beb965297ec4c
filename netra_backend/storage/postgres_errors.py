"""asyncpg's errors in Netra's own words, and which of them leave a commit in doubt.

asyncpg itself is imported where one of its errors is looked at: a process on SQLite needs the rest of this, and not that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel.setting_types import mask_url
from .errors import (
    ConstraintViolated,
    Contended,
    DatabaseError,
    DatabaseRefused,
    DatabaseUnreachable,
    DiskFull,
    OutOfMemory,
    StatementTimeout,
)

UNIQUE: Final = "23505"
READ_ONLY: Final = "25006"
LOCKED: Final = "55P03"
"""Somebody has a lock and has not given it back within `lock_timeout`."""
AGAIN: Final = frozenset({"40001", "40P01"})
NOT_COMMITTED: Final = frozenset({"25P02", "25P03"})
"""The transaction had failed already; or it was ended for idling, which the server does before it reads a COMMIT that came too late."""
NOT_SENT: Final = "cannot switch to state"
"""asyncpg's refusal, before it writes a byte, to use a connection whose last words it is still reading."""

_STATES: Final[dict[str, type[NetraError]]] = {
    "40001": Contended,
    "40P01": Contended,
    LOCKED: Contended,
    "53100": DiskFull,
    "53200": OutOfMemory,
    "57014": StatementTimeout,
    "25P03": DatabaseUnreachable,  # this process was stopped inside a transaction, and the server has ended it
    READ_ONLY: DatabaseUnreachable,  # a standby: the primary is elsewhere by now
}
_CLASSES: Final[dict[str, type[NetraError]]] = {
    "08": DatabaseUnreachable,
    "23": ConstraintViolated,
    "53": Unavailable,
    "57": DatabaseUnreachable,
}
"""By SQLSTATE and its class (PostgreSQL's "PostgreSQL Error Codes")."""


def translated(error: BaseException) -> NetraError:
    """The error in Netra's words; what no rule covers is a `DatabaseError` that keeps the server's."""
    if isinstance(error, NetraError):
        return error
    state = state_of(error)
    if is_of_the_connection(error):
        return DatabaseUnreachable(f"{DatabaseUnreachable.__doc__} ({type(error).__name__}: {str(error) or 'no answer in time'})")
    family = _STATES.get(state) or _CLASSES.get(state[:2], DatabaseError)
    return family(f"{(family.__doc__ or '').splitlines()[0]} ({error})", sqlstate=state)


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Around whatever opens a database: why it could not be, with the URL's password masked.

    A URL that cannot be read is not quoted by its reader's words, for those quote pieces of the password.
    """
    try:
        yield
    except NetraError:
        raise
    except Exception as error:
        found = translated(error)
        if isinstance(found, Unavailable):
            raise type(found)(f"{mask_url(url)}: {found.detail}") from error
        words = "that URL cannot be read" if isinstance(error, ValueError) else error
        raise DatabaseRefused(f"{mask_url(url)}: {words}") from error


def is_of_the_connection(error: BaseException) -> bool:
    """Whether it is the connection that failed. asyncpg's own confusion at a server's last words is one of these."""
    if state_of(error) or isinstance(error, ValueError):
        return False
    import asyncpg

    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def state_of(error: BaseException | None) -> str:
    """The SQLSTATE, or nothing."""
    return str(getattr(error, "sqlstate", None) or "")


def is_certainly_undone(error: BaseException) -> bool:
    """Whether a commit that failed so is known to have stored nothing: the server itself said so, or it was never asked.

    A FATAL, and a connection that ends, may come after the commit record was written.
    """
    if isinstance(error, DatabaseUnreachable) or {state_of(error), state_of(error.__cause__)} & NOT_COMMITTED:
        return True
    import asyncpg

    if isinstance(error, asyncpg.InternalClientError) and str(error).startswith(NOT_SENT):
        return True
    return isinstance(error, asyncpg.PostgresError) and getattr(error, "severity_en", None) == "ERROR" and state_of(error)[:2] != "08"


def may_run_again(met: Sequence[BaseException]) -> bool:
    """Whether a transaction that failed with the last of these errors, before its commit, may succeed if it is run again."""
    state = state_of(met[-1].__cause__ or met[-1])
    if state in AGAIN:
        return True
    import asyncpg

    once = state == UNIQUE or isinstance(met[-1], DatabaseUnreachable) or isinstance(met[-1].__cause__, asyncpg.InvalidCachedStatementError)
    return once and len(met) == 1 and not isinstance(met[-1], OutcomeUnknown)
