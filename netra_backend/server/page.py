"""What every page answers with, and how an error looks in a browser."""

from __future__ import annotations

from html import escape
from typing import Final

from ..errors import NetraError

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
RAW_HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in HEADERS.items())

_ERROR: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title}</title>
  <link rel="icon" href="/ui/netra.svg">
  <link rel="stylesheet" href="/ui/netra.css">
</head>
<body class="plain"><main><h1>{title}</h1><p>{detail}</p><p>{fix}</p><p><a href="{target}">{link}</a></p></main></body>
</html>
"""


def error_page(error: NetraError, status: int) -> bytes:
    """An error in words, with the way on: to the first page, or to sign in."""
    title, detail, fix = error.as_dict()["title"], error.detail, error.fix
    if status == 401:
        title, detail = "You are not signed in", "This link or session has ended, or there was none."
        fix = "Sign in with a key, or ask whoever gave you the link for a new one."
    target, link = ("/ui/login", "Sign in") if status == 401 else ("/ui/overview", "To the overview")
    words = {"title": title, "detail": detail, "fix": fix, "target": target, "link": link}
    return _ERROR.format(**{name: escape(text) for name, text in words.items()}).encode()
