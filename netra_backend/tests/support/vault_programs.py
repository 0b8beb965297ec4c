"""Processes under test for the vault: one that has a vault, and the provider that all of them ask."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ...errors import NetraError
from ...netra import Netra
from ...testing.provider import Provider

BACK = "http://127.0.0.1/back"


def vault(channel: socket.socket, spec: dict[str, Any]) -> None:
    """A Netra whose commands are calls of `netra.oauth`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(_vault(channel, spec))


async def _vault(channel: socket.socket, spec: dict[str, Any]) -> None:
    environ = {"NETRA_TEST_MODE": "1", "NETRA_FAILPOINT": spec.get("failpoint", "")}
    netra = Netra(spec["url"], workers=spec["workers"], dev=True, role="server", environ=environ, **spec["settings"])
    async with netra:
        await serve(channel, Vault(netra))


def provider(channel: socket.socket, spec: dict[str, Any]) -> None:
    """The provider; commands are its own."""
    asyncio.run(_provider(channel, spec))


async def _provider(channel: socket.socket, spec: dict[str, Any]) -> None:
    async with Provider(**spec) as server:
        await serve(channel, Serving(server))


class Vault:
    """What a process with a vault can be asked."""

    def __init__(self, netra: Netra) -> None:
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

    async def begin(self, tenant: str, name: str) -> Any:
        return await self._oauth.connect(tenant, name, "provider", BACK)

    async def callback(self, answer: dict[str, str]) -> Any:
        return await self._oauth.callback(answer)

    async def revoke(self, tenant: str, name: str) -> Any:
        return await self._oauth.revoke(tenant, name)


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
