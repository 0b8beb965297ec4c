"""What a warm access token costs, and how many requests many callers make for one that has ended: beside Authlib, MSAL and google-auth.

Warm: the token lives, and each call answers from memory; ours also knows that nobody has revoked it elsewhere for longer than a second.
Herd: 16 threads ask one object for a token that has ended, at a provider that takes 100 ms; the figure is how many requests it sees. Ours
are 16 callers in each of two processes' vaults on one database, which no peer shares anything across.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

import google.oauth2.credentials
import msal
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from measure import RUNS, Row, interleaved, scratch, show

from netra_backend import Netra
from netra_backend.testing.provider import Provider

CALLS: Final = 200_000
CALLERS: Final = 16
WARM_ASYNC, WARM_SYNC, HERD = "warm token(), awaited", "warm token(), synchronous", f"token requests of {CALLERS} callers"
AIMS: Final = {WARM_ASYNC: 300_000.0, WARM_SYNC: 1_000_000.0, HERD: 1.0}
_LIVES: Final = {"access_token": "at", "refresh_token": "rt", "token_type": "Bearer", "expires_in": 3600}
_DURABILITY: Final = "sealed in SQLite, synchronous=FULL; peers keep tokens in memory"


class Served:
    """The provider, in a thread with a loop of its own."""

    def __init__(self, fault: str = "none") -> None:
        self._fault = fault
        self._started, self._end = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    async def _serve(self) -> None:
        async with Provider("idempotent-grace", self._fault) as self.provider:
            self._started.set()
            await asyncio.to_thread(self._end.wait)


@contextlib.contextmanager
def vault(folder: Path, served: Served | None, expires_in: float) -> Iterator[Netra]:
    """A process with a vault and a connection."""
    with Netra(f"sqlite:///{folder}/netra.db", data=folder, dev=True, workers=False, sqlite_driver="apsw", environ={}) as netra:
        tokens = served.provider.grant() if served is not None else _LIVES
        where = served.provider.url if served is not None else "http://127.0.0.1:9"
        registration = {"client_id": "netra", "client_secrets": ["secret-a"], "endpoints": {"token": [where + "/token"]}}
        netra.sync.oauth.set_client("acme", "provider", registration)
        netra.sync.oauth.import_("acme", "user", "provider", {**tokens, "expires_in": expires_in})
        yield netra


def rate(call: Callable[[], Any], calls: int) -> float:
    """Calls per second of a plain function."""
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return calls / (time.perf_counter() - started)


async def rate_of(call: Callable[[], Any], calls: int) -> float:
    """The same, awaited."""
    started = time.perf_counter()
    for _ in range(calls):
        await call()
    return calls / (time.perf_counter() - started)


def ours_awaited(calls: int) -> float:
    """On Netra's own loop."""
    with scratch() as folder, vault(folder, None, 3600) as netra:
        return float(netra.run_blocking(rate_of(lambda: netra.oauth.token("acme", "user"), calls)))


def ours_synchronous(calls: int) -> float:
    """From a thread beside it."""
    with scratch() as folder, vault(folder, None, 3600) as netra:
        token = netra.sync.oauth.token
        return rate(lambda: token("acme", "user"), calls)


def authlib_awaited(calls: int) -> float:
    """Its check before each request."""
    client = AsyncOAuth2Client("netra", "secret-a", token=_lives_until())
    return asyncio.run(rate_of(lambda: client.ensure_active_token(client.token), calls))


def authlib_synchronous(calls: int) -> float:
    """The same of its plain client."""
    client = OAuth2Client("netra", "secret-a", token=_lives_until())
    return rate(lambda: client.ensure_active_token(client.token), calls)


def msal_synchronous(calls: int) -> float:
    """From its cache, which it filled by one request."""
    with Served() as served:
        application = _msal(served)
        application.acquire_token_for_client(["read"])
        return rate(lambda: application.acquire_token_for_client(["read"]), calls // 20)


def google_synchronous(calls: int) -> float:
    """Its check before each request."""
    credentials = google.oauth2.credentials.Credentials("at")
    return rate(lambda: credentials.before_request(None, "GET", "https://api.example/", {}), calls)


def ours_herd() -> float:
    """Two vaults on one database, and all callers at once."""
    with Served("delay:0.1") as served, scratch() as folder, vault(folder, served, 0) as one:
        with Netra(f"sqlite:///{folder}/netra.db", data=folder, dev=True, workers=False, sqlite_driver="apsw", environ={}) as two:
            herd([lambda: netra.sync.oauth.token("acme", "user") for netra in (one, two)] * CALLERS)  # noqa: B023
        return float(len(served.provider.requests))


def authlib_herd() -> float:
    """One client, with the token that has ended."""
    with Served("delay:0.1") as served:
        ended = {**served.provider.grant(), "expires_at": time.time() - 1}
        client = OAuth2Client("netra", "secret-a", token=ended, token_endpoint=served.provider.url + "/token")
        herd([lambda: client.ensure_active_token(client.token)] * CALLERS)
        return float(len(served.provider.requests))


def msal_herd() -> float:
    """One application with an empty cache."""
    with Served("delay:0.1") as served:
        application = _msal(served)
        herd([lambda: application.acquire_token_for_client(["read"])] * CALLERS)
        return float(len(served.provider.requests))


def google_herd() -> float:
    """One object of credentials without a token."""
    with Served("delay:0.1") as served:
        grant = served.provider.grant()
        credentials = google.oauth2.credentials.Credentials(
            None,
            refresh_token=grant["refresh_token"],
            token_uri=served.provider.url + "/token",
            client_id="netra",
            client_secret="secret-a",
        )
        herd([lambda: credentials.before_request(_google_request, "GET", "https://api.example/", {})] * CALLERS)
        return float(len(served.provider.requests))


def herd(calls: list[Callable[[], Any]]) -> None:
    """Make all of them at once, each in a thread."""
    together = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> None:
        together.wait()
        with contextlib.suppress(Exception):  # a peer may get an error; its request is counted
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(one, calls))


def _lives_until() -> dict[str, Any]:
    return {**_LIVES, "expires_at": time.time() + 3600}


class _Http:
    """What MSAL asks by: its discovery says where the provider is."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, url: str, **_: Any) -> Any:
        """Metadata of an issuer as MSAL wants them, over TLS."""
        issuer = url.partition("/.well-known")[0]
        told = {"issuer": issuer, "token_endpoint": issuer + "/token", "authorization_endpoint": issuer + "/authorize"}
        return _Answer(200, json.dumps(told))

    def post(self, url: str, data: Any = None, headers: Any = None, **_: Any) -> Any:
        """A form, sent to the provider whatever the address."""
        return _sent(f"{self._url}/{url.rpartition('/')[2]}", urllib.parse.urlencode(data or {}).encode(), headers or {})

    def close(self) -> None:
        """Nothing is kept open."""


class _Answer:
    def __init__(self, status: int, text: str) -> None:
        self.status_code = self.status = status
        self.text = text
        self.data = text.encode()
        self.headers: dict[str, str] = {}

    def raise_for_status(self) -> None:
        """MSAL asks for it."""


def _sent(url: str, body: bytes, headers: dict[str, str]) -> _Answer:
    request = urllib.request.Request(url, body, {"content-type": "application/x-www-form-urlencoded", **headers})
    with urllib.request.urlopen(request) as answer:
        return _Answer(answer.status, answer.read().decode())


def _google_request(url: str, body: Any = None, headers: Any = None, **_: Any) -> _Answer:
    return _sent(url, body if isinstance(body, bytes) else str(body).encode(), dict(headers or {}))


def _msal(served: Served) -> msal.ConfidentialClientApplication:
    return msal.ConfidentialClientApplication(
        "netra", client_credential="secret-a", oidc_authority="https://id.example/tenant", http_client=_Http(served.provider.url)
    )


def rows(*, quick: bool) -> list[Row]:
    """Measure everything, each peer beside ours."""
    calls, runs = (CALLS // 20, 1) if quick else (CALLS, RUNS)
    cells: dict[str, Callable[[], float]] = {
        f"{WARM_ASYNC}: ours": lambda: ours_awaited(calls),
        f"{WARM_ASYNC}: Authlib": lambda: authlib_awaited(calls),
        f"{WARM_SYNC}: ours": lambda: ours_synchronous(calls),
        f"{WARM_SYNC}: Authlib": lambda: authlib_synchronous(calls),
        f"{WARM_SYNC}: MSAL": lambda: msal_synchronous(calls),
        f"{WARM_SYNC}: google-auth": lambda: google_synchronous(calls),
        f"{HERD}: ours": ours_herd,
        f"{HERD}: Authlib": authlib_herd,
        f"{HERD}: MSAL": msal_herd,
        f"{HERD}: google-auth": google_herd,
    }
    found = interleaved(list(cells), runs, lambda name: cells[name]())
    made = []
    for name in cells:
        what, _, who = name.partition(": ")
        if who != "ours":
            better: Any = "lower" if what == HERD else "higher"
            unit = "requests" if what == HERD else "calls/s"
            made.append(Row(what, "sqlite", unit, _DURABILITY, found[f"{what}: ours"], found[name], who, AIMS[what], better))
    return made


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=arguments.parse_args().quick)])
