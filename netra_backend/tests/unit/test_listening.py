"""The servers for tests end without leaving a socket behind, at whatever moment somebody connects."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest

from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.provider import Provider
from netra_backend.testing.tcp_proxy import TcpProxy


def _proxy():
    return TcpProxy("127.0.0.1", 9)


@pytest.mark.parametrize("server", [Provider, MisbehavingEndpoint, _proxy])
@pytest.mark.parametrize("turns", range(8))
def test_a_server_that_ends_while_somebody_connects_leaves_no_socket_behind(server, turns):
    async def connects_and_ends():
        with socket.socket() as client:
            client.setblocking(False)
            async with server() as serving:
                client.connect_ex(("127.0.0.1", serving.port))
                for _ in range(turns):
                    await asyncio.sleep(0)

    gc.collect()  # what others left is theirs
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        asyncio.run(connects_and_ends())
        gc.collect()
    assert [str(warning.message) for warning in left] == []
