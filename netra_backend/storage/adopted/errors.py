"""Why a caller's transaction cannot be adopted, each with what to do."""

from __future__ import annotations

from ...errors import UsageError


class NotAdoptable(UsageError):
    """This is not a connection or session that Netra knows how to adopt."""

    code = "not_adoptable"
    fix = (
        "Pass a SQLAlchemy Session, AsyncSession, Connection or AsyncConnection, django.db.connection, "
        "or a connection of asyncpg, psycopg, sqlite3 or aiosqlite."
    )


class NoTransaction(UsageError):
    """No transaction is open, and an adopted one is never begun by Netra: nobody would end it."""

    code = "no_transaction"
    fix = "Begin one first, and commit it yourself: what you send becomes so if and only if you do."


class TransactionFailed(UsageError):
    """The transaction has failed already and can only be rolled back."""

    code = "transaction_failed"
    fix = "Roll it back and begin again."


class ReadOnlyTransaction(UsageError):
    """The transaction was begun to read only, and what you send is written in it."""

    code = "read_only_transaction"
    fix = "Begin it read write."


class BeginImmediate(UsageError):
    """This transaction has read before it wrote, so SQLite cannot let it write any more: somebody else has, meanwhile."""

    code = "begin_immediate"
    fix = (
        'Begin it as a writer: connection.execute("begin immediate"). SQLAlchemy: '
        "netra_backend.integrations.sqlalchemy.begin_immediate(engine). "
        'Django: OPTIONS = {"transaction_mode": "IMMEDIATE"}.'
    )


class OtherDatabase(UsageError):
    """This connection is to another database than Netra's, so one transaction cannot cover both."""

    code = "other_database"
    fix = "Open Netra with the URL of the database that your own tables are in."


class RoleNotGranted(UsageError):
    """The role of this connection may not act for Netra's role `netra_app`."""

    code = "role_not_granted"
    fix = "As the owner: grant netra_app to your application's role."


class OneTenant(UsageError):
    """This transaction was adopted for another tenant, and one transaction is one tenant's."""

    code = "one_tenant"
    fix = "Commit it first, and send for the next tenant in a transaction of its own."


class ConnectionBusy(UsageError):
    """Another call is under way on this very connection."""

    code = "connection_busy"
    fix = "Make one call after the other in one transaction (no gather over it), or send them with one send_many."


class OutsideVerb(UsageError):
    """A statement of Netra's was asked of an adopted transaction outside any of its calls."""

    code = "outside_verb"
    fix = "Call netra.<part>.<call>(tx, ...); your own statements go to your own connection."


class WrongDoor(UsageError):
    """An asynchronous connection was used through `netra.sync`, which cannot wait for it."""

    code = "wrong_door"
    fix = "Await netra.<part>.<call>(tx, ...)."
