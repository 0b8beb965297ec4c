"""What each error of the driver means: for the caller, for the commit that it met, and for running the function again."""

from __future__ import annotations

import asyncpg
import pytest

from netra_backend.errors import OutcomeUnknown, Unavailable
from netra_backend.storage.errors import (
    ConstraintViolated,
    Contended,
    DatabaseError,
    DatabaseUnreachable,
    DiskFull,
    OutOfMemory,
    StatementTimeout,
)
from netra_backend.storage.postgres_errors import is_certainly_undone, may_run_again, translated


def said(kind, severity="ERROR"):
    """An error that came from a server."""
    error = kind("words")
    error.severity_en = severity
    return error


def wrapped(cause):
    """As asyncpg tells of a connection that ended in the middle of an operation."""
    error = asyncpg.ConnectionDoesNotExistError("closed in the middle of operation")
    error.__cause__ = cause
    return error


CONFUSED = asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (said(asyncpg.UniqueViolationError), ConstraintViolated),
        (said(asyncpg.CheckViolationError), ConstraintViolated),
        (said(asyncpg.DeadlockDetectedError), Contended),
        (said(asyncpg.SerializationError), Contended),
        (said(asyncpg.LockNotAvailableError), Contended),
        (said(asyncpg.QueryCanceledError), StatementTimeout),
        (said(asyncpg.DiskFullError), DiskFull),
        (said(asyncpg.OutOfMemoryError), OutOfMemory),
        (said(asyncpg.TooManyConnectionsError), Unavailable),
        (said(asyncpg.ReadOnlySQLTransactionError), DatabaseUnreachable),
        (said(asyncpg.AdminShutdownError, "FATAL"), DatabaseUnreachable),
        (said(asyncpg.CannotConnectNowError, "FATAL"), DatabaseUnreachable),
        (said(asyncpg.IdleInTransactionSessionTimeoutError, "FATAL"), DatabaseUnreachable),
        (said(asyncpg.CharacterNotInRepertoireError), DatabaseError),
        (wrapped(None), DatabaseUnreachable),
        (asyncpg.InterfaceError("connection is closed"), DatabaseUnreachable),
        (asyncpg.DataError("invalid input for query argument"), DatabaseError),
        (CONFUSED, DatabaseUnreachable),
        (ConnectionResetError(), DatabaseUnreachable),
        (TimeoutError(), DatabaseUnreachable),
    ],
)
def test_each_error_has_its_family(error, family):
    assert type(translated(error)) is family


@pytest.mark.parametrize(
    ("error", "undone"),
    [
        (said(asyncpg.DeadlockDetectedError), True),
        (said(asyncpg.QueryCanceledError), True),
        (asyncpg.InFailedSQLTransactionError("ROLLBACK"), True),
        (DatabaseUnreachable(), True),
        (CONFUSED, True),
        (said(asyncpg.IdleInTransactionSessionTimeoutError, "FATAL"), True),
        (wrapped(said(asyncpg.IdleInTransactionSessionTimeoutError, "FATAL")), True),
        (said(asyncpg.AdminShutdownError, "FATAL"), False),
        (said(asyncpg.ProtocolViolationError), False),
        (wrapped(said(asyncpg.AdminShutdownError, "FATAL")), False),
        (wrapped(None), False),
        (asyncpg.InterfaceError("connection is closed"), False),
        (asyncpg.InternalClientError("got result for unknown protocol state"), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
    ],
)
def test_a_commit_is_in_doubt_unless_it_is_known_to_be_undone(error, undone):
    assert is_certainly_undone(error) is undone


@pytest.mark.parametrize(
    ("kinds", "again"),
    [
        ([asyncpg.DeadlockDetectedError] * 3, True),
        ([asyncpg.SerializationError], True),
        ([asyncpg.UniqueViolationError], True),
        ([asyncpg.UniqueViolationError] * 2, False),
        ([asyncpg.AdminShutdownError], True),
        ([asyncpg.AdminShutdownError] * 2, False),
        ([asyncpg.QueryCanceledError], False),
        ([asyncpg.CharacterNotInRepertoireError], False),
    ],
)
def test_what_may_succeed_the_next_time_is_run_again_and_a_bounded_number_of_times(kinds, again):
    assert may_run_again([met(kind) for kind in kinds]) is again


def met(kind):
    """As a transaction raises it."""
    cause = said(kind)
    error = translated(cause)
    error.__cause__ = cause
    return error


def test_an_unknown_outcome_is_never_run_again():
    unknown = OutcomeUnknown()
    unknown.__cause__ = ConnectionResetError()
    assert not may_run_again([unknown])
