"""SQLAlchemy and Alembic beside Netra: transactions that begin as writers, and migrations that leave our tables alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import PREFIX


def begin_immediate(engine: Any) -> None:
    """Have every transaction of this SQLite engine (or AsyncEngine) begin with `begin immediate`.

    For `netra.adopt`: a transaction that reads first and sends afterwards keeps the right to write (`BeginImmediate` says
    why). It also makes SQLAlchemy's savepoints work on SQLite, as its own documentation of the dialect tells. Call it before
    the engine's first connection.
    """
    listen = import_module("sqlalchemy.event").listen
    target = getattr(engine, "sync_engine", engine)
    listen(target, "connect", _leave_begin_to_us)
    listen(target, "begin", _begin)


def include_name(name: str | None, type_: str, parent_names: Any) -> bool:
    """For Alembic's `context.configure(include_name=include_name)`: Netra's tables are not looked at, so never dropped.

    Without it `alembic revision --autogenerate` finds tables that no model knows, and writes their end.
    """
    del parent_names
    return type_ != "table" or not (name or "").startswith(PREFIX)


def include_object(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: FBT001  (Alembic's signature)
    """For Alembic's `context.configure(include_object=include_object)`: as `include_name`, where that is taken already."""
    del reflected, compare_to
    table = name if type_ == "table" else getattr(getattr(object_, "table", None), "name", None)
    return not (table or "").startswith(PREFIX)


def _leave_begin_to_us(connection: Any, record: Any) -> None:
    """The sqlite3 module would begin by itself, and too late, otherwise."""
    del record
    connection.isolation_level = None


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("begin immediate")
