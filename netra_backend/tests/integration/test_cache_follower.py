"""How soon a process applies what was committed: with the leader's next commit, on a clock that stands still otherwise."""

from __future__ import annotations

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.testing.clock import FakeClock

from ..support.platform import platform
from ..support.storage import eventually, with_its_server


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


async def test_what_was_seen_to_wait_is_applied_within_two_milliseconds_of_its_number(prepared):
    clock = FakeClock()
    async with platform(prepared, workers=False, runtime=Runtime(clock=clock)) as netra:
        node = netra.cache.node
        await netra.cache.position()
        while not netra.leader.leads:
            await clock.advance(1.0)
            await eventually(lambda: not netra.membership.quiet)
        netra.leader._task.cancel()  # from here on it sequences when told
        await netra.leader.drain()
        before = node.applied
        await netra.write(netra.cache.invalidate, "org:7", tenant="acme")
        while not node.sees_waiting:
            await clock.advance(0.001)
            if netra.cache.follower._looking is not None:
                await netra.cache.follower.look()  # the same one: time stands still for as long as it lasts
        await netra.leader.drain()
        await clock.advance(0.002)
        await eventually(lambda: node.applied == before + 1)
