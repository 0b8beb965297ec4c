"""Every error that Netra raises on purpose, as families.

An error carries three things beside its words: a stable `code` for programs, the facts as fields, and `fix`, the
next step in words. The edges (REST, CLI) print these and never invent their own. The class docstring is the default
title, so that a reader of the source and a reader of the log see the same sentence.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NetraError(Exception):
    """Netra could not do what was asked."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    fix: str = ""

    def __init__(self, detail: str = "", *, fix: str = "", **facts: Any) -> None:
        self.title = (type(self).__doc__ or "").strip().splitlines()[0]
        self.detail = detail or self.title
        self.facts = facts
        if fix:
            self.fix = fix
        super().__init__(self.detail)

    def as_dict(self) -> dict[str, str]:
        """The shape that `--json` prints on stderr and that problem+json carries (RFC 9457)."""
        return {"code": self.code, "title": self.title, "detail": self.detail, "fix": self.fix}


class UsageError(NetraError):
    """The call itself is wrong and will fail again unchanged."""

    code = "usage"
    status = 400


class InvalidInput(UsageError):
    """A value is not acceptable."""

    code = "invalid_input"
    status = 422


class MissingTenant(UsageError):
    """No tenant is set, and nothing here works without one."""

    code = "missing_tenant"
    fix = 'Pass tenant="..." or enter `with netra.scope(tenant="...")`.'


class NotFound(NetraError):
    """There is no such object for this tenant."""

    code = "not_found"
    status = 404
    fix = "Check its id or name, and that it belongs to this tenant."


class Conflict(NetraError):
    """The object exists already, or has changed meanwhile."""

    code = "conflict"
    status = 409


class KeyReused(NetraError):
    """This idempotency key was used before for another request body."""

    code = "key_reused"
    status = 422
    fix = "Use a new key for a new body; repeat a request only with the very same bytes."


class CannotStart(NetraError):
    """Netra cannot start with these settings or this database."""

    code = "cannot_start"


class Unavailable(NetraError):
    """Netra cannot take work at the moment; nothing was stored."""

    code = "unavailable"
    status = 503
    fix = "Repeat the request later, with the same idempotency key."


class OutcomeUnknown(NetraError):
    """The commit's outcome is unknown: it may or may not be in the database."""

    code = "outcome_unknown"
    status = 503
    fix = "Repeat with the same key; the key makes the repetition harmless."


class NestedTransaction(UsageError):
    """A second write was asked for inside an open transaction that holds the writer."""

    code = "nested_transaction"
    fix = "Use the open `tx` for it, or leave the transaction first."


class TransactionTimeout(NetraError):
    """The transaction was held open for longer than `transaction_timeout` and has been rolled back."""

    code = "transaction_timeout"
    status = 503
    fix = "Do slow work (HTTP, computation) outside the transaction, or ship a store function with `netra.write`."


class TwoSqliteLibraries(UsageError):
    """Two copies of SQLite in one process would drop each other's locks on this file and corrupt it."""

    code = "two_sqlite_libraries"
    fix = 'Open Netra with sqlite_driver="sqlite3" in a program that opens the file itself.'


class ForkedRuntime(UsageError):
    """This runtime was opened by a parent process; a forked child cannot share its connections and threads."""

    code = "forked_runtime"
    fix = "Open Netra after the fork, in each child."
