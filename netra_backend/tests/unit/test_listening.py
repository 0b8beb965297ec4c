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

TURNS = 8


@pytest.fixture
def only_new_garbage():
    """What stood before is not looked at again by each collection: it is everything that the other tests have imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _proxy():
    return TcpProxy("127.0.0.1", 9)


@pytest.mark.parametrize("server", [Provider, MisbehavingEndpoint, _proxy])
def test_a_server_that_ends_while_somebody_connects_leaves_no_socket_behind(only_new_garbage, server):
    async def connects_and_ends(turns):
        with socket.socket() as client:
            client.setblocking(False)
            async with server() as serving:
                client.connect_ex(("127.0.0.1", serving.port))
                for _ in range(turns):
                    await asyncio.sleep(0)

    left = {}
    for turns in range(TURNS):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            asyncio.run(connects_and_ends(turns))
            gc.collect()
        left[turns] = [str(warning.message) for warning in said]
    assert left == {turns: [] for turns in range(TURNS)}
