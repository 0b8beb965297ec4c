"""The cache's routes: a tenant invalidates what a program keeps, and sees its own part of the graph."""

from __future__ import annotations

import pytest

from netra_backend.cache.monitor import Thresholds
from netra_backend.server.app import create_app
from netra_backend.storage import log

from ...support.server import API, client_of, new_netra
from ...support.storage import SYSTEM, eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")


@pytest.fixture
async def program(tmp_path):
    """A server in the program whose values are cached."""
    async with new_netra(tmp_path) as netra, client_of(create_app(netra)) as operator:
        for uid in ("acme", "globex"):
            await operator.post(f"{API}/app", json={"name": uid, "uid": uid})
        yield netra, operator


async def test_an_invalidation_by_rest_has_a_number_an_audit_entry_and_its_effect(program):
    netra, operator = program
    version = [1]
    with netra.scope(tenant="acme"):
        for _ in range(2):
            assert await netra.cache.get_or_load("card", lambda: version[0], ttl=60, depends_on=["org:7"]) == 1
        version[0] = 2
        answer = await operator.post(f"{API}/tenants/acme/cache/invalidate", json={"deps": ["org:7"]})
        assert (answer.status_code, answer.json()) == (200, {"seq": 1})
        assert await netra.cache.get_or_load("card", lambda: version[0], ttl=60, depends_on=["org:7"]) == 2
    entries = (await operator.get(f"{API}/tenants/acme/audit", params={"limit": 250})).json()["data"]
    assert [entry["after"] for entry in entries if entry["action"] == "cache.invalidate"] == [{"deps": ["org:7"]}]


async def test_counts_graph_position_and_probe_are_shown_and_each_tenant_sees_its_own(program):
    netra, operator = program
    version = [1]
    with netra.scope(tenant="acme"):
        await netra.cache.get_or_load("card", lambda: version[0], ttl=60, depends_on=["org:7"])
    shown = {what: (await operator.get(f"{API}/tenants/acme/cache/{what}")).json() for what in ("stats", "graph", "position")}
    assert shown["stats"]["l1"]["fills"] == 1
    assert shown["graph"] == {
        "nodes": [{"name": "card", "kept": True}, {"name": "org:7", "kept": False}],
        "edges": [{"from": "org:7", "to": "card"}],
    }
    assert shown["position"].keys() == {"epoch", "applied", "pending", "lease_left_ms"}
    assert (await operator.get(f"{API}/tenants/globex/cache/graph")).json() == {"nodes": [], "edges": []}
    assert (await operator.post(f"{API}/tenants/acme/cache/probe")).json() == {"sampled": 1, "stale": []}
    version[0] = 2  # and nobody invalidates
    found = (await operator.post(f"{API}/tenants/acme/cache/probe")).json()
    assert (found["sampled"], [each["key"] for each in found["stale"]]) == (1, ["card"])
    assert (await operator.get(f"{API}/tenants/acme/cache/stats")).json()["l1"]["stale_probe"] == 1
    assert (await operator.post(f"{API}/tenants/acme/cache/invalidate", json={"deps": []})).status_code == 422
    assert (await operator.get(f"{API}/tenants/nobody/cache/stats")).status_code == 404


async def test_hits_and_misses_are_metrics(program):
    netra, operator = program
    with netra.scope(tenant="acme"):
        for _ in range(3):
            await netra.cache.get_or_load("card", lambda: 1, ttl=60)
    for _ in range(2):  # a second scrape adds nothing
        text = (await operator.get("/metrics")).text
        assert 'netra_cache_requests_total{result="hit",tier="l1"} 2.0' in text
        assert 'netra_cache_requests_total{result="miss",tier="l1"} 1.0' in text
        assert 'netra_cache_fills_total{result="kept",tier="l1"} 1.0' in text
        assert 'netra_cache_loads_total{result="done"} 1.0' in text
        assert 'netra_cache_degraded{measure="hit_ratio"} 0.0' in text


async def test_a_degraded_cache_is_told_to_the_operator_and_kept_as_an_event_once_for_each_change(program):
    netra, operator = program
    netra.cache.caretaker.monitor._thresholds = Thresholds(error_ratio_most=0.2)
    netra.cache.stats.loads, netra.cache.stats.load_errors = 10, 5
    netra.cache.caretaker.monitor.close_window()
    assert 'netra_cache_degraded{measure="error_ratio"} 1.0' in (await operator.get("/metrics")).text
    netra.cache.stats.loads += 10
    for _ in range(2):
        netra.cache.caretaker.monitor.close_window()
    await eventually(lambda: told_twice(netra))
    stored = await told(netra, "events")
    assert [each["state"] for each in await told(netra, "operational")] == [each["state"] for each in stored] == ["degraded", "ok"]
    assert stored[0].items() >= {"type": "cache.degraded", "measure": "error_ratio", "value": 0.5, "threshold": 0.2}.items()


async def told(netra, stream):
    entries = await netra.database.read(log.read_after, stream, 0, 100, scope=SYSTEM)
    return [item for entry in entries for _, item in entry.items if item["type"] == "cache.degraded"]


async def told_twice(netra):
    return len(await told(netra, "operational")) == 2
