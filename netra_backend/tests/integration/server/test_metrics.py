"""Metrics: what all processes count, however they end, under a hard bound of series; and what is shipped names only series that exist."""

from __future__ import annotations

import json
import threading
from importlib import resources

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from netra_backend.integrations.prometheus import NetraCollector
from netra_backend.kernel.runtime import Runtime
from netra_backend.observability.metrics.registry import OTHER, Registry
from netra_backend.server.app import create_app
from netra_backend.storage import nodes
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.server import API, SYSTEM, client_of, endpoint, message, new_netra
from ...support.storage import eventually

DELIVERIES = "netra_webhook_deliveries_total"
every_engine = pytest.mark.usefixtures("every_server_engine")


def samples(text):
    """Name and labels -> value, by Prometheus' own parser, which refuses what is malformed."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(netra):
    if netra.aggregate is not None:
        netra.aggregate._read_at = float("-inf")
    async with client_of(create_app(netra)) as operator:
        answer = await operator.get("/metrics")
    assert answer.status_code == 200
    return samples(answer.text)


@every_engine
async def test_any_server_shows_what_all_processes_counted_also_those_that_have_ended_and_died(tmp_path):
    series = (DELIVERIES, (("outcome", "dead"),))
    async with new_netra(tmp_path) as server:
        async with new_netra(tmp_path) as worker:
            worker.runtime.metrics.count(DELIVERIES, 3, outcome="dead")
            server.runtime.metrics.count(DELIVERIES, 1, outcome="dead")
            await worker.aggregate.write()
            assert (await scraped(server))[series] == 4
            worker.runtime.metrics.count(DELIVERIES, 2, outcome="dead")
        assert (await scraped(server))[series] == 6
        await server.database.write(server.aggregate._fold, scope=SYSTEM)
        assert (await scraped(server))[series] == 6
        await server.aggregate.write()
        await server.database.write(nodes.remove, server.membership.id, scope=SYSTEM)  # declared dead by others
        async with new_netra(tmp_path) as other:
            await other.database.write(other.aggregate._fold, scope=SYSTEM)
            server.runtime.metrics.count(DELIVERIES, 1, outcome="dead")
            await server.aggregate.write()  # refused: this life is over, and its rows are folded
            assert (await scraped(other))[series] == 6
            server.membership.id = server.runtime.ids.new()
            await server.database.write(nodes.register, server.membership.id, "host", 1, "server", scope=SYSTEM)
            await server.aggregate.write()
            assert (await scraped(other))[series] == 7
            assert (await scraped(server))[series] == 7


@every_engine
async def test_rate_errors_and_duration_are_told_by_route_by_part_and_by_tenant(tmp_path):
    settings = {"workers": True, "webhooks_schedule": "10ms"}
    async with new_netra(tmp_path, **settings) as netra, client_of(create_app(netra)) as operator, MisbehavingEndpoint("503") as broken:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        await endpoint(operator, url=broken.url)
        await message(operator)
        assert (await operator.get(f"{API}/app/acme/msg/msg_nothing")).status_code == 404
        assert (await operator.get(f"{API}/nothing/{'x' * 50}")).status_code == 404

        async def died():
            return (await scraped(netra)).get((DELIVERIES, (("outcome", "dead"),))) == 1

        await eventually(died)
        found = await scraped(netra)

        def value(name, **labels):
            return found.get((name, tuple(sorted(labels.items()))))

        assert value("netra_http_requests_total", route=f"{API}/app/{{app_id}}/msg", method="POST", status="202") == 1
        assert value("netra_http_requests_total", route=f"{API}/app/{{app_id}}/msg/{{msg_id}}", method="GET", status="404") == 1
        assert value("netra_http_requests_total", route="unmatched", method="GET", status="404") == 1
        assert value("netra_http_request_seconds_count", route=f"{API}/app/{{app_id}}/msg") == 1
        assert value("netra_tenant_requests_total", tenant="acme", outcome="refused") == 1
        assert value("netra_tenant_deliveries_total", tenant="acme", outcome="failed") == 1
        assert value("netra_webhook_attempt_seconds_count") == 2
        assert value("netra_nodes") == 1


def test_tenants_past_the_bound_are_one_series():
    registry = Registry(tenants=2)
    for tenant in ("a", "b", "c", "d", "a"):
        registry.count("netra_tenant_requests_total", tenant=tenant)
        registry.observe("netra_x_seconds", 0.1, tenant=tenant)
        registry.gauge("netra_y", 1, tenant=tenant)
    found = samples(registry.render().decode())
    assert {labels: value for (name, labels), value in found.items() if name == "netra_tenant_requests_total"} == {
        (("tenant", "a"),): 2,
        (("tenant", "b"),): 1,
        (("tenant", OTHER),): 2,
    }
    assert found["netra_y", (("tenant", OTHER),)] == 1
    assert found["netra_x_seconds_count", (("tenant", OTHER),)] == 2


def test_the_exposition_is_what_prometheus_reads_whatever_a_label_holds():
    registry = Registry()
    registry.know({"netra_a_total": ({"x": "0"},)}, {"netra_a_total": 'Words with "quotes", a \\ and\na line.'})
    registry.count("netra_a_total", 2.5, x='a"b\\c\nd')
    registry.count("netra_b_total", 1, q="1", p="2")
    registry.count("netra_b_total", 1, p="2", q="1")
    for seconds in (0.0005, 0.001, 0.7, 99):
        registry.observe("netra_c_seconds", seconds)
    text = registry.render().decode()
    found = samples(text)
    assert found["netra_a_total", (("x", 'a"b\\c\nd'),)] == 2.5
    assert found["netra_a_total", (("x", "0"),)] == 0
    assert found["netra_b_total", (("p", "2"), ("q", "1"))] == 2
    buckets = [value for (name, _), value in found.items() if name == "netra_c_seconds_bucket"]
    assert buckets == sorted(buckets) and buckets[0] == 2 and buckets[-1] == 4
    assert found["netra_c_seconds_bucket", (("le", "+Inf"),)] == found["netra_c_seconds_count", ()] == 4
    assert found["netra_c_seconds_sum", ()] == pytest.approx(99.7015)
    assert text.count("# TYPE netra_c_seconds histogram") == 1


def test_threads_lose_no_count():
    registry = Registry()

    def add():
        for _ in range(5000):
            registry.count("netra_a_total", x="1")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.totals()["netra_a_total", (("x", "1"),)] == 20_000


async def test_a_programs_own_registry_shows_netras_series(tmp_path):
    async with new_netra(tmp_path, runtime=Runtime()) as netra:
        netra.runtime.metrics.count(DELIVERIES, outcome="dead")
        own = CollectorRegistry()
        own.register(NetraCollector(netra))
        assert samples(generate_latest(own).decode())[DELIVERIES, (("outcome", "dead"),)] == 1


def named_in(expression):
    """Every metric that a PromQL expression selects, by the parser that Prometheus' grammar was ported to."""
    found, waiting = set(), [promql_parser.parse(expression)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, promql_parser.VectorSelector):
            found.add(part.name)
            continue
        for each in ("expr", "lhs", "rhs", "vector_selector", "vs", "args", "param"):
            inner = getattr(part, each, None)
            waiting += inner if isinstance(inner, list) else [inner] if inner is not None and not isinstance(inner, str | float) else []
    assert found, expression
    return found


def shipped():
    folder = resources.files("netra_backend.integrations.prometheus")
    rules = yaml.safe_load(folder.joinpath("alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "fix"}, rule["alert"]
            yield f"alert {rule['alert']}", rule["expr"]
    dashboard = json.loads(folder.joinpath("dashboard.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]


async def test_the_shipped_alerts_and_the_dashboard_name_only_series_that_exist(tmp_path):
    async with new_netra(tmp_path, workers=True) as netra, client_of(create_app(netra)) as operator, MisbehavingEndpoint() as receiver:
        netra.kpi.define("k", unit="things", total="a.b", good="a.c")
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        await endpoint(operator, url=receiver.url)
        await message(operator)
        async with netra.transaction(tenant="acme") as tx:
            await netra.events.record(tx, "a.b", {}, key="1")
            await netra.events.record(tx, "a.c", {}, key="1")
        with netra.scope(tenant="acme"):
            await netra.cache.get_or_load("a", lambda: 1, ttl=60)

        async def counted():
            found = await scraped(netra)
            return {"netra_kpi_objects_total", "netra_tenant_deliveries_total", "netra_cache_applied_lag_seconds"} <= {n for n, _ in found}

        await eventually(counted)
        exists = {name for name, _ in await scraped(netra)}
    for where, expression in shipped():
        assert named_in(expression) <= exists, where
    with pytest.raises(AssertionError):
        assert named_in("rate(netra_nothing_total[5m])") <= exists
