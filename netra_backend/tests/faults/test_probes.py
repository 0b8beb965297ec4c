"""Several processes, one breaker, on both engines: one probe in the fleet, which a process takes along when it dies."""

from __future__ import annotations

from contextlib import closing

import pytest

from netra_backend.storage.lock_holder import write_lock_holder

from ..support.places import File, place_of
from ..support.world import TTL_S, World
from ..support.zygote import until

HEALTH = "select phase, prober, until_us from netra_endpoint_health"
IN_FLIGHT = "select count(*) from netra_delivery where state = 'leased'"
PROCESSES = 3


@pytest.fixture(params=["sqlite", "postgres"])
def sick_world(request, zygote, tmp_path):
    """Three processes and one receiver that fails; a probe has a minute, so that only a death ends it sooner."""
    place = place_of(request.param, request)
    options = {
        "webhooks_timeout": "30s",
        "webhooks_breaker_failures": 2,
        "webhooks_breaker_open": "50ms",
        "webhooks_schedule": "1s,1s,1s,1s,1s,1s",
    }
    with closing(World(zygote, tmp_path, behaviours=["sick"], place=place, **options)) as world:
        for _ in range(PROCESSES):
            world.start().ask("node")
        yield world


def health(world):
    """(phase, prober, until) of the one endpoint, once something is known of it."""
    rows = world.place.query(HEALTH)
    return rows[0] if rows else ("closed", None, 0)


def parked(world, messages):
    """That many messages are due for an endpoint whose breaker has opened, and whose probes are not answered any more."""
    for number in range(messages):
        world.children[number % PROCESSES].answer(world.send(world.children[number % PROCESSES], 1))
    until(lambda: health(world)[0] != "closed", "the breaker opens")
    # One that hangs would be no probe, and keep its process from probing for as long.
    until(lambda: world.place.query(IN_FLIGHT) == [(0,)], "what was sent before is answered")
    world.receiver.ask("fall_silent")


def prober(world):
    """The process whose probe is on its way, as the only request, once there is one."""

    def found():
        owner = health(world)[1]
        pid = owner and world.nodes().get(bytes(owner).hex())  # a busy machine may cost a life, whose probe is another's then
        alone = world.place.query(IN_FLIGHT) == [(1,)]
        return next((child for child in world.children if child.pid == pid and alone), None)

    return until(found, "a probe is on its way, alone")


def stop_outside_the_writer(world, child):
    """SIGSTOP, and not by chance while it holds the write lock of a file: that would stop everybody."""
    child.freeze()
    while isinstance(world.place, File) and write_lock_holder(world.place.path) is not None:
        child.thaw()
        child.freeze()


def test_the_probe_of_a_process_that_is_killed_falls_to_the_others(sick_world):
    parked(sick_world, 20)
    for _ in range(2):
        holder = prober(sick_world)
        before = health(sick_world)
        sick_world.kill(holder)
        until(lambda: health(sick_world)[1] not in {None, before[1]}, "another process probes", TTL_S + 5)  # noqa: B023
    sick_world.receiver.ask("heal")
    sick_world.kill(prober(sick_world))  # the one that still waits for an answer which will never come
    sick_world.start()
    sick_world.drained()
    sick_world.stop_all()
    counts = sick_world.compare()
    assert counts.acknowledged == 20
    assert counts.dead == 0
    assert health(sick_world)[:2] == ("closed", None)


def test_a_prober_that_is_stopped_past_its_lease_keeps_nobody_waiting_and_decides_nothing(sick_world):
    parked(sick_world, 12)
    holder = prober(sick_world)
    before, life = health(sick_world), holder.ask("node")
    stop_outside_the_writer(sick_world, holder)
    until(lambda: health(sick_world)[1] not in {None, before[1]}, "another process probes", TTL_S + 5)
    again = health(sick_world)
    sick_world.note_kill()
    holder.thaw()
    until(lambda: holder.ask("node") != life, "it has begun another life")
    assert health(sick_world) == again
    sick_world.receiver.ask("heal")
    sick_world.kill(prober(sick_world))
    sick_world.kill(holder)  # its request will never be answered
    sick_world.drained()
    sick_world.stop_all()
    assert sick_world.compare().acknowledged == 12
