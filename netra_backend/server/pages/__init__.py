"""What every page answers with, and how an error looks in a browser."""

from __future__ import annotations

from html import escape
from typing import Final

from ...errors import NetraError

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

_ERROR: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><link rel="stylesheet" href="/ui/portal.css"></head>
<body><main><h1>{title}</h1><p>{detail}</p><p>{fix}</p></main></body>
</html>
"""


def error_page(error: NetraError, status: int) -> bytes:
    """An error in words; who is not let in is told to ask for a link."""
    fix = "Ask whoever gave you the link for a new one." if status in {401, 403} else error.fix
    title = "This link has ended" if status == 401 else error.as_dict()["title"]
    return _ERROR.format(title=escape(title), detail=escape(error.detail if status != 401 else ""), fix=escape(fix)).encode()
