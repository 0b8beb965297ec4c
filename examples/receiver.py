"""What a customer of the shop runs: a receiver of webhooks on this machine, which verifies each request before it believes it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from netra_backend.webhooks import verify


class Receiver:
    """`with Receiver() as receiver:`; `wait(n)` until n orders have arrived. `secret` is what the endpoint was given."""

    def __init__(self) -> None:
        self.secret = ""
        self.orders: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    def take(self, order: dict[str, Any]) -> None:
        """One verified message."""
        with self._changed:
            self.orders.append(order)
            self._changed.notify_all()

    def wait(self, count: int, within_s: float = 20.0) -> list[dict[str, Any]]:
        """The orders, once there are so many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.orders) >= count, within_s):
                raise TimeoutError(f"{len(self.orders)} of {count} orders arrived")
            return [*self.orders]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(verify(dict(self.headers.items()), body, receiver.secret))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Its own lines would only be between ours."""

        return Handler


def add_endpoint(database_url: str, data: str, tenant: str, url: str) -> str:
    """What an operator does once, with `netra webhooks endpoint add`; the signing secret."""
    command = [sys.executable, "-m", "netra_backend.cli.main", "webhooks", "endpoint", "add", url]
    options = ["--tenant", tenant, "--database-url", database_url, "--data", data, "--json"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)  # noqa: S603  (a list of our own making)
    secret: str = json.loads(done.stdout)["secret"]
    return secret
