"""`netra`: find the command and run it; the exit code says how it ended.

Danger: whatever is imported here is paid by every call, `netra --help` included. See `catalogue.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .catalogue import NAMES, help_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `netra` with these arguments (the process's own if none are given) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else ""
    if first in {"-h", "--help", "help"}:
        sys.stdout.write(help_text())
        return 0
    if first == "--version":
        from .. import __version__

        sys.stdout.write(f"netra {__version__}\n")
        return 0
    if first not in NAMES:
        return _refuse(first, words)
    from .run import run

    return run(NAMES[first], words[1:])


def _refuse(first: str, words: Sequence[str]) -> int:
    from difflib import get_close_matches

    from ..errors import UsageError
    from .output import Output

    close = get_close_matches(first, NAMES, 1)
    detail = f"netra has no command {first[:80]!r}" if first else "a command is missing"
    fix = f"Did you mean `netra {close[0]}`?" if close else "`netra --help` lists the commands."
    return Output(as_json="--json" in words).failed(UsageError(detail, fix=fix))


if __name__ == "__main__":
    sys.exit(main())
