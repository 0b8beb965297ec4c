"""Debug logs of watched work, from every logger, whatever its level, and only while a session wants them.

`logging` decides at the logger, before anybody knows whose work it is, and keeps that decision. So while some session captures logs
two methods of `logging.Logger` stand in for their own: one says yes to a level that is off where watched work asks, the other hands
the record to the session first, and to the program's handlers only if the program's own levels let it through. Without such a
session both are the interpreter's own again: off is free. Handlers and levels of the program are neither added nor changed.

The message is put together from pictures of its arguments (`picture.py`): no `__str__` of the program runs.
"""

from __future__ import annotations

import logging
import threading
import types
from typing import Any, Final

import orjson

from ...kernel.debugging import watched
from .picture import Exhausted, name_of, painter

MOST_FRAMES: Final = 20
_enabled_of_python: Final = logging.Logger.isEnabledFor
_handed_of_python: Final = logging.Logger.callHandlers
_users: Final[set[int]] = set()
_asked: Final = threading.local()


def tap(owner: int, *, on: bool) -> None:
    """Listen to all loggers while some owner wants it."""
    (_users.add if on else _users.discard)(owner)
    standing_in = logging.Logger.isEnabledFor is _is_enabled_for
    if bool(_users) == standing_in:
        return
    logging.Logger.isEnabledFor = _is_enabled_for if _users else _enabled_of_python  # type: ignore[method-assign]
    logging.Logger.callHandlers = _call_handlers if _users else _handed_of_python  # type: ignore[method-assign]


def _is_enabled_for(self: logging.Logger, level: int) -> bool:
    if _enabled_of_python(self, level):
        return True
    watch = watched.get()
    if watch is None or self.disabled or not watch.wants("log"):
        return False
    _asked.last = (id(self), level)
    return True


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    watch = watched.get()
    if watch is not None and watch.wants("log"):
        watch.record("log", picture_of(record))
    if _enabled_of_python(self, record.levelno) or getattr(_asked, "last", None) != (id(self), record.levelno):
        _handed_of_python(self, record)


def picture_of(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as data."""
    found: dict[str, Any] = {
        "logger": record.name,
        "level": record.levelname,
        "message": _message(record),
        "where": f"{record.module}:{record.lineno}",
    }
    error = record.exc_info[1] if type(record.exc_info) is tuple else None
    if error is not None:
        found["error"] = error_of(error)
    return found


def error_of(error: BaseException) -> dict[str, Any]:
    """An exception as data: its class, pictures of its arguments, and where it came from."""
    frames: list[str] = []
    trace: types.TracebackType | None = error.__traceback__ if type(error).__getattribute__ is BaseException.__getattribute__ else None
    while trace is not None and len(frames) < MOST_FRAMES:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_qualname}")
        trace = trace.tb_next
    arguments = BaseException.__dict__["args"].__get__(error)
    return {"type": name_of(type(error)), "arguments": [_plain(each) for each in arguments[:10]], "frames": frames}


def _message(record: logging.LogRecord) -> str:
    text = record.msg if type(record.msg) is str else _words(record.msg)
    arguments: Any = record.args
    if not arguments:
        return text
    try:
        if type(arguments) is dict:
            return text % {name: _words(each) for name, each in arguments.items()}
        return text % tuple(_words(each) for each in arguments)
    except (TypeError, ValueError, KeyError):
        return f"{text} {[_plain(each) for each in arguments]}"


def _words(value: Any) -> Any:
    """What `%s` and `%d` take: a scalar as it is, anything else as the text of its picture."""
    plain = _plain(value)
    return orjson.dumps(plain).decode() if type(plain) in {dict, list} else plain


def _plain(value: Any) -> Any:
    try:
        plain = painter(_no_time).paint(value, 2)
    except Exhausted:
        return f"<{name_of(type(value))}>"
    return plain.decode("utf-8", "replace") if type(plain) is bytes else plain


def _no_time() -> float:
    """Depth and parts bound a log's arguments."""
    return 0.0
