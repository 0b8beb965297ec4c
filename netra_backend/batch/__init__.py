"""Restartable batches: every input item ends exactly once in the output or in the dead letters, through any kill."""

from __future__ import annotations

from pathlib import Path

from .composed_readers import files, hashed
from .csv_reader import csv
from .elsewhere import Elsewhere, dask, processes, threads
from .model import Malformed, Rows
from .query_reader import query
from .readers import Reader, iterate, ndjson, sequence
from .registry import Job, job
from .statement import sql

__all__ = [
    "Elsewhere",
    "Job",
    "Malformed",
    "Rows",
    "csv",
    "dask",
    "files",
    "hashed",
    "iterate",
    "job",
    "ndjson",
    "parquet",
    "processes",
    "query",
    "sequence",
    "sql",
    "threads",
]


def parquet(path: str | Path) -> Reader:
    """Rows of a Parquet file as dicts; needs the extra `pyarrow`, which is loaded when this is called."""
    from .parquet_reader import parquet as reader

    return reader(path)
