"""The end of a listening socket, for the servers of this package and the tests' own."""

from __future__ import annotations

import asyncio
from typing import Final

# The steps by which the loop turns an accepted socket into a connection that its server knows: a task makes the transport, the transport
# tells the protocol, the protocol begins the server's own task, and that begins. None of them waits for anything.
_TURNS: Final = 4


async def stop_listening(server: asyncio.Server | None) -> None:
    """Accept nobody further; whoever was accepted is known to the server when this returns, which can then cut every connection.

    `Server.close` alone drops a socket that was accepted a moment before (its transport refuses a server that is closed), and a loop that
    ends early drops it too: the garbage collector then says so in whatever runs by that time.
    """
    if server is None:
        return
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
