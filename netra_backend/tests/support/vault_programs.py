"""Processes under test for the vault: one that has a vault, and the provider that all of them ask."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ...errors import NetraError
from ...kernel.ids import from_text
from ...kernel.scope import Scope
from ...netra import Netra
from ...testing.endpoint import MisbehavingEndpoint
from ...testing.provider import Provider
from ...webhooks import store
from .platform import add_endpoint
from .standing import arm_pauses, of_the_environment

BACK = "http://127.0.0.1/back"


def vault(channel: socket.socket, spec: dict[str, Any]) -> None:
    """A Netra whose commands are calls of `netra.oauth`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve_a_netra(channel, spec, Vault))


async def serve_a_netra(channel: socket.socket, spec: dict[str, Any], serving: Callable[[Netra], Any]) -> None:
    """A Netra by the specification, and what can be asked of it."""
    failpoints = spec.get("failpoint", "")
    environ = of_the_environment(failpoints)
    netra = Netra(spec["url"], workers=spec["workers"], dev=True, role="server", environ=environ, **spec["settings"])
    async with netra:
        arm_pauses(netra, failpoints)
        await serve(channel, serving(netra))


def receiver_of_tokens(channel: socket.socket, spec: dict[str, Any]) -> None:
    """A receiver of webhooks that remembers how requests were authorised."""
    asyncio.run(_receiver(channel))


async def _receiver(channel: socket.socket) -> None:
    async with MisbehavingEndpoint() as endpoint:
        await serve(channel, Receiving(endpoint))


def provider(channel: socket.socket, spec: dict[str, Any]) -> None:
    """The provider; commands are its own."""
    asyncio.run(_provider(channel, spec))


async def _provider(channel: socket.socket, spec: dict[str, Any]) -> None:
    async with Provider(**spec) as server:
        await serve(channel, Serving(server))


class Vault:
    """What a process with a vault can be asked."""

    def __init__(self, netra: Netra) -> None:
        self._netra = netra
        self._oauth = netra.oauth

    async def connect(self, tenant: str, name: str, registration: dict[str, Any], tokens: dict[str, Any]) -> Any:
        await self._oauth.set_client(tenant, "provider", registration)
        return await self._oauth.import_(tenant, name, "provider", tokens)

    async def token(self, tenant: str, name: str) -> Any:
        return asdict(await self._oauth.token(tenant, name))

    async def tokens(self, tenant: str, name: str, callers: int) -> Any:
        """So many callers at once: how many distinct answers there were."""
        found = await asyncio.gather(*(self._oauth.token(tenant, name) for _ in range(callers)))
        return sorted({(token.access_token, token.generation) for token in found})

    async def refresh(self, tenant: str, name: str) -> Any:
        return asdict(await self._oauth.refresh(tenant, name))

    async def status(self, tenant: str, name: str) -> Any:
        return await self._oauth.status(tenant, name)

    async def register(self, tenant: str, registration: dict[str, Any]) -> Any:
        return await self._oauth.set_client(tenant, "provider", registration)

    async def own(self, tenant: str, name: str, grant: str) -> Any:
        return await self._oauth.own(tenant, name, "provider", grant)

    async def begin(self, tenant: str, name: str) -> Any:
        return await self._oauth.connect(tenant, name, "provider", BACK)

    async def link(self, tenant: str, name: str) -> Any:
        return (await self._oauth.link(tenant, name, "provider", BACK, BACK))["url"].rpartition("/")[2]

    async def follow(self, token: str) -> Any:
        return await self._oauth.follow_link(token)

    async def device(self, tenant: str, name: str) -> Any:
        return await self._oauth.device(tenant, name, "provider")

    async def poll(self) -> Any:
        return await self._oauth.poll_devices()

    async def callback(self, answer: dict[str, str]) -> Any:
        return await self._oauth.callback(answer)

    async def revoke(self, tenant: str, name: str) -> Any:
        return await self._oauth.revoke(tenant, name)

    async def hook(self, tenant: str, url: str, connection: str) -> Any:
        """An endpoint that is sent to with the connection's token."""
        return (await add_endpoint(self._netra, url, tenant=tenant, auth=connection)).text_id

    async def send(self, tenant: str) -> Any:
        async with self._netra.transaction(tenant) as tx:
            return await self._netra.webhooks.send(tx, "thing.happened", {"n": 1})

    async def delivery(self, tenant: str, message: str) -> Any:
        """How the message's one delivery stands."""
        (found,) = await self._netra.database.read(store.deliveries, from_text("msg", message), scope=Scope(tenant, "tester"))
        return {"state": found.state, "number": found.number}


class Receiving:
    """What the receiver can be asked."""

    def __init__(self, endpoint: MisbehavingEndpoint) -> None:
        self._endpoint = endpoint

    async def url(self) -> Any:
        return self._endpoint.url

    async def authorizations(self) -> Any:
        return [got.headers.get("authorization") for got in self._endpoint.received]


class Serving:
    """What the provider can be asked."""

    def __init__(self, server: Provider) -> None:
        self._server = server

    async def registration(self, changes: dict[str, Any]) -> Any:
        return self._server.registration(**changes)

    async def grant(self) -> Any:
        return self._server.grant()

    async def consent(self, url: str) -> Any:
        """What the user brings back from there."""
        query = dict(parse_qsl(urlsplit(url).query))
        _, headers, _ = self._server._authorize(query)
        return dict(parse_qsl(urlsplit(headers["location"]).query))

    async def approve(self, interval_s: float = 1) -> Any:
        """Every device's user has typed his code; whose comes later is to be asked for each `interval_s`."""
        self._server.device_interval_s = interval_s
        self._server.devices.update(dict.fromkeys(self._server.devices, "approved"))

    async def stats(self) -> Any:
        server = self._server
        return {"requests": server.requests, "most_in_flight": server.most_in_flight, "superseded": server.superseded()}

    async def control(self, **asked: Any) -> None:
        self._server._control(asked)


async def serve(channel: socket.socket, serving: Any) -> None:
    """Each command in a task of its own, until `stop` or the end of the socket."""
    reader, writer = await asyncio.open_connection(sock=channel, limit=2**24)
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        command = json.loads(line)
        number = command.pop("n")
        if command["op"] == "stop":
            await asyncio.gather(*tasks)
            writer.write(json.dumps({"n": number, "answer": None}).encode() + b"\n")
            await writer.drain()
            return
        task = asyncio.create_task(_run(command, number, writer, serving))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _run(command: dict[str, Any], number: int, writer: asyncio.StreamWriter, serving: Any) -> None:
    try:
        answer = await getattr(serving, command.pop("op"))(**command)
    except NetraError as error:
        answer = {"error": type(error).__name__, "detail": str(error)}
    writer.write(json.dumps({"n": number, "answer": answer}).encode() + b"\n")
