"""A server over a database of its own: in process for most tests, on a socket where the wire is the subject.

A test's folder is its installation. Where `every_server_engine` is used, each test runs a second time with a database on the
tests' PostgreSQL, of which the folder holds the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from ...dashboard.site import mount
from ...kernel.scope import system_scope
from ...netra import Netra
from ...server import app as server_app
from ...server.gate import Gate
from ...server.protocol import protocol_class
from ...server.serve import listen, serve
from .postgres import Postgres
from .storage import fresh

OPERATOR = "operator-key-of-the-tests-0123456789"
SYSTEM = system_scope("tester")
API = "/api/v1"
_URL = "postgres.url"


def create_app(netra: Netra, *, dev: bool = False) -> Gate:
    """The application as `netra serve` composes it."""
    return server_app.create_app(netra, dev=dev, guests=(mount,))


def new_netra(folder: Path, **settings: Any) -> Netra:
    """Netra on that folder's database, its operator's key known, deliveries to this host allowed."""
    url = (folder / _URL).read_text() if (folder / _URL).exists() else f"sqlite:///{fresh(folder / 'netra.db')}"
    plain = {"data": str(folder), "operator_key": OPERATOR, "disk_reserve_bytes": 0, "workers": False, "dev": True, "environ": {}}
    return Netra(url, **{**plain, **settings})


@pytest.fixture(params=["sqlite", "postgres"])
def every_server_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of each engine in turn, with this test's folder prepared for it."""
    if request.param == "sqlite":
        yield request.param
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    with server.database() as name:
        (tmp_path / _URL).write_text(server.url(name))
        yield request.param


def client_of(app: Gate, key: str | None = OPERATOR) -> httpx.AsyncClient:
    """A client in this process; errors of the application are answers, as on the wire."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


@pytest.fixture
async def netra(tmp_path: Path) -> AsyncIterator[Netra]:
    async with new_netra(tmp_path) as netra:
        yield netra


@pytest.fixture
async def app(netra: Netra) -> Gate:
    return create_app(netra)


@pytest.fixture
async def operator(app: Gate) -> AsyncIterator[httpx.AsyncClient]:
    """The operator's client, with the tenant acme there."""
    async with client_of(app) as client:
        assert (await client.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})).status_code == 201
        yield client


async def tenant_key(operator: httpx.AsyncClient, tenant: str = "acme", **fields: Any) -> dict[str, Any]:
    """A new key of a tenant, made now if it is not there."""
    await operator.post(f"{API}/app", params={"get_if_exists": True}, json={"name": tenant, "uid": tenant})
    made = await operator.post(f"{API}/tenants/{tenant}/keys", json={"name": "test", **fields})
    assert made.status_code == 201, made.text
    return made.json()


async def endpoint(client: httpx.AsyncClient, tenant: str = "acme", **fields: Any) -> dict[str, Any]:
    """A new endpoint that nobody listens at, unless `url` is given."""
    made = await client.post(f"{API}/app/{tenant}/endpoint", json={"url": "http://127.0.0.1:9/hook", **fields})
    assert made.status_code == 201, made.text
    return made.json()


async def message(client: httpx.AsyncClient, tenant: str = "acme", **fields: Any) -> dict[str, Any]:
    """A new message."""
    made = await client.post(f"{API}/app/{tenant}/msg", json={"eventType": "thing.happened", "payload": {"n": 1}, **fields})
    assert made.status_code == 202, made.text
    return made.json()


async def actions(client: httpx.AsyncClient, path: str = f"{API}/tenants/acme/audit") -> list[str]:
    """What the audit entries of a tenant say was done."""
    return [entry["action"] for entry in (await client.get(path, params={"limit": 250})).json()["data"]]


@asynccontextmanager
async def serving(netra: Netra, drain_s: float = 5.0) -> AsyncIterator[str]:
    """`serve` on a free port of this process; its URL."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(netra, "127.0.0.1", 0, dev=True, on_ready=ready.set_result, drain_s=drain_s, until=stop, guests=(mount,))
    )
    try:
        done, _ = await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            await task
        yield ready.result()
    finally:
        stop.set()
        await task


@asynccontextmanager
async def served_over(app: Any, **bounds: float) -> AsyncIterator[tuple[str, int]]:
    """Any application behind the capped protocol, with other deadlines than its own; host and port."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, http=protocol_class(**bounds), ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield "127.0.0.1", listener.getsockname()[1]
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown(sockets=[listener])
        listener.close()
