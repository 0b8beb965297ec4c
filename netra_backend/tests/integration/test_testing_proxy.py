"""The proxy's faults, seen from a client whose server is healthy."""

from __future__ import annotations

import asyncio
import time

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience.egress import Egress, EgressError
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.tcp_proxy import Fault, TcpProxy


@pytest.fixture
async def network():
    async with (
        MisbehavingEndpoint() as endpoint,
        TcpProxy("127.0.0.1", endpoint.port) as proxy,
        Egress(Runtime(), any_loopback_port=True) as egress,
    ):

        async def ask(**how):
            return await egress.request("POST", f"http://127.0.0.1:{proxy.port}/", body=b"x" * 100_000, tenant="t", **how)

        yield endpoint, proxy, ask


async def test_a_healthy_network_passes_everything_on(network):
    endpoint, proxy, ask = network
    assert (await ask()).status == 200
    assert (await ask()).body == b'{"ok":true}'
    assert [len(one.body) for one in endpoint.received] == [100_000, 100_000]
    assert (proxy.accepted, proxy.served) == (1, 1)


async def test_latency_delays_both_directions(network):
    _, proxy, ask = network
    proxy.fault = Fault(latency_s=0.1)
    began = time.monotonic()
    assert (await ask()).status == 200
    assert time.monotonic() - began >= 0.2


async def test_a_reset_reaches_the_client_before_the_server_hears_anything(network):
    endpoint, proxy, ask = network
    proxy.fault = Fault(reset=True)
    with pytest.raises(EgressError) as caught:
        await ask()
    assert caught.value.kind == "reset"
    assert endpoint.received == []


async def test_a_lost_reply_was_served(network):
    endpoint, proxy, ask = network
    proxy.fault = Fault(lose_reply=True)
    with pytest.raises(EgressError) as caught:
        await ask()
    assert (caught.value.kind, caught.value.sent) == ("reset", True)
    assert len(endpoint.received) == 1
    assert proxy.served == 1


async def test_a_half_open_connection_is_silent_until_it_heals(network):
    endpoint, proxy, ask = network
    proxy.fault = Fault(half_open=True)
    with pytest.raises(EgressError) as caught:
        await ask(timeout_s=0.3)
    assert caught.value.kind == "timeout"
    assert endpoint.received == []
    asking = asyncio.create_task(ask())
    while proxy.accepted < 2:
        await asyncio.sleep(0)
    proxy.fault = Fault()
    assert (await asking).status == 200


async def test_one_byte_per_second_runs_into_the_deadline_and_a_faster_trickle_arrives(network):
    _, proxy, ask = network
    proxy.fault = Fault(bytes_per_second=1)
    with pytest.raises(EgressError) as caught:
        await ask(timeout_s=0.5)
    assert (caught.value.kind, caught.value.sent) == ("timeout", True)
    proxy.fault = Fault(bytes_per_second=500)
    assert (await ask()).body == b'{"ok":true}'
