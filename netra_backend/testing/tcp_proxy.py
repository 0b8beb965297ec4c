"""A TCP proxy on loopback that hurts whatever passes: the network's faults, one at a time and by name.

Between a client and a real server, so that both sides keep their own behaviour. A fault is taken up by connections that
exist and by new ones: `proxy.fault = Fault(latency_s=0.2)` in the middle of a test is a network that becomes slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Final, Self

from .listening import stop_listening

_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What the network does. The default is a network that works.

    `latency_s`: each piece waits so long, in each direction. `bytes_per_second`: the answer trickles (1: one byte each
    second). `reset`: the connection ends by RST at the first byte of the request. `half_open`: nothing is passed on in
    either direction and nothing is closed, as after a cut cable. `lose_reply`: the request reaches the server and is
    served, its answer is dropped and the connection ends.
    """

    latency_s: float = 0.0
    bytes_per_second: float = 0.0
    reset: bool = False
    half_open: bool = False
    lose_reply: bool = False


class TcpProxy:
    """`async with TcpProxy("127.0.0.1", port) as proxy:` then talk to `proxy.port`; `proxy.fault` may change at any time.

    `accepted` counts connections, `served` those answers whose first byte came back from the server, lost or not.
    """

    def __init__(self, host: str, port: int, fault: Fault | None = None) -> None:
        self._fault = fault or Fault()
        self._changed = asyncio.Event()
        self.accepted = 0
        self.served = 0
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut every connection."""
        await stop_listening(self._server)
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def fault(self) -> Fault:
        """What the network does at the moment."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        self._changed.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's life: a connection of its own to the server, and a pump in each direction."""
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(reader, far_writer, writer))
                pumps.create_task(self._replies(far_reader, writer))
        except* OSError:  # one side is gone: so is the link
            pass
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    each.transport.abort()

    async def _requests(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            if self.fault.reset:
                _send_rst(client)
                raise ConnectionResetError
            await self._hold()
            sink.write(data)
            await sink.drain()
        await self._hold()
        with contextlib.suppress(OSError):  # the server may have gone first
            sink.write_eof()

    async def _replies(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        first = True
        while data := await source.read(_PIECE):
            self.served += first
            first = False
            if self.fault.lose_reply:
                raise ConnectionResetError
            await self._hold()
            await self._pass_on(data, sink)
        sink.close()
        await sink.wait_closed()
        raise ConnectionResetError  # the server has ended the connection, so the other pump ends too

    async def _pass_on(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        while data:
            rate = self.fault.bytes_per_second
            step = len(data) if not rate else 1
            sink.write(data[:step])
            await sink.drain()
            data = data[step:]
            if rate:
                await asyncio.sleep(1 / rate)

    async def _hold(self) -> None:
        """Latency, or for ever where the cable is cut; healing the fault lets the piece through."""
        if self.fault.latency_s:
            await asyncio.sleep(self.fault.latency_s)
        while self.fault.half_open:
            self._changed.clear()
            await self._changed.wait()


def _send_rst(writer: asyncio.StreamWriter) -> None:
    """A lingering time of zero makes the kernel answer with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
