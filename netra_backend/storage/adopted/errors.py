"""Why a caller's transaction cannot be adopted, each with what to do."""

from __future__ import annotations

from ...errors import UsageError


class NotAdoptable(UsageError):
    """This is not a connection or session that Netra knows how to adopt."""

    code = "not_adoptable"
    fix = (
        "Pass a SQLAlchemy Session, AsyncSession, Connection or AsyncConnection, django.db.connection, "
        "or a connection of asyncpg, psycopg or sqlite3."
    )


class NoTransaction(UsageError):
    """No transaction is open, and an adopted one is never begun by Netra: nobody would end it."""

    code = "no_transaction"
    fix = "Begin one first, and commit it yourself: what you send becomes so if and only if you do."


class TransactionFailed(UsageError):
    """The transaction has failed already and can only be rolled back."""

    code = "transaction_failed"
    fix = "Roll it back and begin again."


class BeginImmediate(UsageError):
    """This transaction has read before it wrote, so SQLite cannot let it write any more: somebody else has, meanwhile."""

    code = "begin_immediate"
    fix = (
        'Begin it as a writer: connection.execute("begin immediate"). SQLAlchemy: an engine event `begin` that does so; '
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


class WrongDoor(UsageError):
    """A synchronous connection is called without await through `netra.sync`, an asynchronous one is awaited."""

    code = "wrong_door"
    fix = "Await netra.<part>.<call>(tx, ...) where the connection is asynchronous; netra.sync.<part>.<call>(tx, ...) is for the others."
