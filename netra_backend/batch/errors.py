"""What can be wrong with a job or a run."""

from __future__ import annotations

from ..errors import Conflict, InvalidInput, NetraError, NotFound


class UnknownJob(NotFound):
    """No job of that name is registered in this process."""

    code = "unknown_job"
    fix = "Import the module that makes it with `batch.job(...)`; workers import what NETRA_BATCH_JOBS names."


class JobExists(InvalidInput):
    """Another job has this name."""

    code = "job_exists"
    fix = "Give each job of a process a name of its own."


class NothingToRerun(Conflict):
    """The run has no dead letters that could be processed again."""

    code = "nothing_to_rerun"
    fix = "Look at it: `netra batch show RUN`."


class NotExact(NetraError):
    """A dead letter's item could not be read again from its source."""

    code = "not_exact"
    fix = "Look whether the source has changed since the run."


class LeaseLost(NetraError):
    """Another process holds the partition by now; this one has changed nothing."""

    code = "lease_lost"


class ExecutorLost(NetraError):
    """Where the job's items are processed cannot be reached; the run is paused."""

    code = "executor_lost"
    fix = "Resume the run once the executor can be reached again."


class CannotSkip(NetraError):
    """An item kills whoever reads it, and its reader cannot say where the next one begins."""

    code = "cannot_skip"
    fix = "Give the reader a `skip(source, spec, cursor)` that answers with the cursor behind one item without reading it whole."


class WriterKills(NetraError):
    """Processes die again and again while this chunk is written."""

    code = "writer_kills"
    fix = "Look what `write` does with these items; then resume the run."


class PredecessorCancelled(NetraError):
    """A run that this one comes after will never be completed."""

    code = "predecessor_cancelled"
    fix = "Start it again without that run, under another key."


class RunStopped(NetraError):
    """The run is not running any more: paused, cancelled or failed meanwhile; this chunk has changed nothing."""

    code = "run_stopped"
