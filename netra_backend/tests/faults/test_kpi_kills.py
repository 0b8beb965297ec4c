"""Whatever process is killed while it counts, each event counts once and each alert is told once."""

from __future__ import annotations

from contextlib import closing, contextmanager

import pytest

from ..support.places import place_of
from ..support.world import TENANT, World
from ..support.zygote import until
from .test_kills import FAILPOINTS

OF_KPIS = [name for name in FAILPOINTS if name.startswith("kpi.")]
KPIS = """
[kpi.arrived]
unit = "things"
total = {{ event = "thing.happened" }}
good = {{ event = "webhook.delivered", within = "{within}", by = "ref" }}
slo = {{ target = 0.99, min_events = 1, page_if_bad = 1 }}
"""
FIGURES = "select sum(total), sum(good), sum(late), sum(lost) from netra_kpi_bucket where tenant = 'acme'"
RESULTS = "select result, count(*) from netra_kpi_object where tenant = 'acme' group by result"
FIRING = "select count(*) from netra_kpi_alert where firing = 1"
TOLD = "select items from netra_log where stream = 'operational' union all select items from netra_outbox where stream = 'operational'"
BEHIND = "select count(*) from netra_outbox where stream = 'events'"
CURSOR = "select (select max(last_seq) from netra_stream where stream = 'events') - (select max(seq) from netra_cursor where name = 'kpi')"


@contextmanager
def a_world(zygote, tmp_path, engine, request, within):
    """An endpoint that takes everything, and a KPI."""
    file = tmp_path / "kpis.toml"
    file.write_text(KPIS.format(within=within))
    with closing(World(zygote, tmp_path, ["ok"], place=place_of(engine, request), kpis=str(file))) as world:
        yield world


def counted(world):
    return world.place.query(BEHIND)[0][0] == 0 and world.place.query(CURSOR)[0][0] == 0


def figures(world):
    return [int(each or 0) for each in world.place.query(FIGURES)[0]]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.parametrize("failpoint", OF_KPIS)
def test_each_event_counts_once_and_each_alert_is_told_once_wherever_the_counting_process_is_killed(
    failpoint, engine, zygote, tmp_path, request
):
    is_alert = failpoint == "kpi.alerted_before_commit"
    with a_world(zygote, tmp_path, engine, request, "1s" if is_alert else "10m") as world:
        victim = world.start(f"{failpoint}=kill")
        client = world.start(workers=False, seconds=300)
        client.ask("set_disabled", tenant=TENANT, name="ok", disabled=is_alert)
        sent = sum(client.answer(world.send(client, 20)) for _ in range(3))
        world.killed_itself(victim, 40)
        world.start()
        world.drained(30)
        until(lambda: counted(world), "everything is counted", 30)
        wanted = [sent, 0, sent, 0] if is_alert else [sent, sent, 0, 0]
        until(lambda: figures(world) == wanted, f"the figures are {wanted}", 30)
        assert dict(world.place.query(RESULTS)) == {"late" if is_alert else "good": sent}
        if is_alert:
            until(lambda: world.place.query(FIRING)[0][0] > 0, "an alert fires", 30)
            told = sum(text.count('"state":"firing"') for (text,) in world.place.query(TOLD))
            assert told == world.place.query(FIRING)[0][0]
