"""What can be wrong with a debug session."""

from __future__ import annotations

from ...errors import Conflict, InvalidInput, NotFound


class UnknownSession(NotFound):
    """This tenant has no such debug session."""

    code = "unknown_session"
    fix = "See `netra debug list --tenant T --all`."


class SessionEnded(Conflict):
    """The debug session has ended; nothing starts it again."""

    code = "session_ended"
    fix = "Start another one; what this one has recorded can still be read."


class TooManySessions(Conflict):
    """So many debug sessions are live that another one would cost the platform more than it tells."""

    code = "too_many_sessions"
    fix = "End one: netra debug end SESSION."


class BadLogpoint(InvalidInput):
    """A logpoint's place or condition cannot be read."""

    code = "bad_logpoint"
    fix = "Name a place as module:function or path/to/file.py:LINE, and a condition as in: order_id == 42."
