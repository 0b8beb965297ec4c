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


class OutOfMemory(Unavailable):
    """The database could not get memory; nothing was stored."""

    code = "out_of_memory"


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
    fix = "Run `netra migrate` with the owner's URL first."


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
