"""What a database can do to us, in one vocabulary for every engine and driver."""

from __future__ import annotations

from ..errors import CannotStart, NetraError, Unavailable


class DatabaseError(NetraError):
    """The database refused a statement."""

    code = "database"


class ConstraintViolated(DatabaseError):
    """A row breaks a key, a reference or a check of the schema."""

    code = "constraint"
    status = 409


class DiskFull(Unavailable):
    """The disk that holds the database is full; nothing was stored."""

    code = "disk_full"
    fix = "Free space on the disk that holds the database; intake resumes by itself."


class DatabaseIoError(Unavailable):
    """The disk that holds the database failed; nothing was stored."""

    code = "io_error"
    fix = "Check the disk (kernel log); intake resumes by itself once a probe write commits."


class DatabaseBusy(Unavailable):
    """The database is locked by another connection."""

    code = "database_busy"


class WriterBlocked(Unavailable):
    """Another process has held the database's write lock for too long."""

    code = "writer_blocked"
    fix = "Look at the process with that pid: stopped, paused in a debugger, or in a long transaction."


class ReadTimeout(Unavailable):
    """A read took longer than it may and was ended."""

    code = "read_timeout"
    fix = "Ask for a smaller page or a narrower range."


class StatementTimeout(Unavailable):
    """A statement took longer than it may and was ended; nothing was stored."""

    code = "statement_timeout"


class OutOfMemory(Unavailable):
    """The database could not get memory; nothing was stored."""

    code = "out_of_memory"


class DatabaseUnreachable(Unavailable):
    """The database server cannot be reached, or ended the connection; nothing was stored."""

    code = "database_unreachable"
    fix = "Look whether the server runs and whether its address is right; Netra connects again by itself."


class Contended(Unavailable):
    """Transactions of several processes were in each other's way again and again; nothing was stored."""

    code = "contended"


class Interrupted(DatabaseError):
    """A statement was interrupted."""

    code = "interrupted"


class Corrupt(DatabaseError):
    """The database file is damaged."""

    code = "corrupt"
    fix = "Stop every process, keep the file and its -wal, restore the last backup, and report it."


class SchemaTooNew(CannotStart):
    """The database was migrated by a newer Netra than this one."""

    code = "schema_too_new"
    fix = "Start the newer release; migrations only go forward."


class SchemaTooOld(CannotStart):
    """The database lacks migrations that this release needs."""

    code = "schema_too_old"
    fix = "Run `netra migrate` first, on PostgreSQL with the owner's URL; on SQLite any start does the same."


class DatabaseRefused(CannotStart):
    """The database server does not let this role into this database, or the URL cannot be read."""

    code = "database_refused"
    fix = (
        "Correct the URL: postgresql://user:password@host:5432/name, with every character of the password that is no letter and no "
        "digit percent-encoded."
    )


class NotTheOwner(CannotStart):
    """This database role may not make Netra's roles or tables."""

    code = "not_the_owner"
    fix = "Name the owner of the database in NETRA_MIGRATE_URL; for --create-roles it needs the right CREATEROLE."


class RolesMissing(CannotStart):
    """The database lacks the roles under which Netra keeps tenants apart."""

    code = "roles_missing"
    fix = "Run `netra migrate --create-roles` once, with NETRA_MIGRATE_URL naming the owner of the database."


class WrongRole(CannotStart):
    """This database role may not act for Netra."""

    code = "wrong_role"
    fix = "Use the URL of the role netra_run, which `netra migrate --create-roles` made and printed."


class PrivilegedRole(CannotStart):
    """This database role may read every tenant's rows whatever the policies say, so Netra does not run under it."""

    code = "privileged_role"
    fix = "Run `netra migrate --create-roles` as the owner: it makes the role netra_run and prints the URL to use."


class DatabaseInUse(CannotStart):
    """Another process has the database open."""

    code = "database_in_use"
    fix = "Stop every process that has it open, those of your own program too, and repeat the command."


class RestoreUnderWay(CannotStart):
    """A restore is putting another file in the database's place."""

    code = "restore_under_way"
    fix = "Start again when `netra restore` has ended."


class NotABackup(NetraError):
    """The file is not a Netra database that could be restored."""

    code = "not_a_backup"
    fix = "Give a file that `netra backup` made."
