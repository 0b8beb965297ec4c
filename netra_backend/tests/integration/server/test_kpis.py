"""KPIs over REST and through the library: whose figures they are, why objects were missed, and who is told."""

from __future__ import annotations

import threading

import pytest

from netra_backend import Event, batch
from netra_backend.errors import CannotStart, InvalidInput, UsageError
from netra_backend.server.app import create_app
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.server import API, client_of, endpoint, new_netra, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
FAST = {"workers": True, "webhooks_breaker_failures": 2, "webhooks_breaker_open": "60s", "webhooks_schedule": "10ms,10ms,10ms,1h"}


def invoices(netra):
    kpi = netra.kpi.define(
        "delivered", unit="invoices", value="amount", total=Event("invoice.paid"), good=Event("webhook.delivered").within("1s").by("id")
    )
    return kpi.depends_on("webhooks.tag:billing").slo(target=0.9, min_events=1, page_if_bad=1)


async def pay(client, tenant, id_, amount):
    body = {"eventType": "invoice.paid", "payload": {"id": id_, "amount": amount}}
    made = await client.post(f"{API}/app/{tenant}/msg", json=body)
    assert made.status_code == 202, made.text
    return made.json()["id"]


async def test_the_money_behind_an_open_breaker_is_told_to_the_tenant_and_the_operator(tmp_path):
    async with new_netra(tmp_path, **FAST) as netra, client_of(create_app(netra)) as operator, MisbehavingEndpoint("503") as broken:
        kpi = invoices(netra)
        key = (await tenant_key(operator, "acme"))["key"]
        await tenant_key(operator, "globex")
        target = (await endpoint(operator, "acme", url=broken.url))["id"]
        for number in (1, 2, 3):
            await pay(operator, "acme", f"inv_{number}", 10.5)
        await pay(operator, "globex", "inv_1", 1)

        async def missed():
            return (await kpi.impact(since="1h"))["late"] == 4

        await eventually(missed)
        whole = await kpi.impact(since="1h")
        assert (whole["total"], whole["good"], whole["lost"], whole["tenants"], whole["value_late"]) == (4, 0, 0, 2, 32.5)
        causes = {each["cause"]: each for each in whole["causes"]}
        assert causes[f"breaker open {target}"]["objects"] == ["inv_1", "inv_2", "inv_3"]
        assert len(causes[f"breaker open {target}"]["traces"]) == 3
        assert causes["no endpoint wanted it"]["count"] == 1
        async with client_of(create_app(netra), key) as acme:
            shown = (await acme.get(f"{API}/tenants/acme/kpis/delivered", params={"since": "1h"})).json()
            assert (shown["late"], shown["tenants"], [each["count"] for each in shown["causes"]]) == (3, 1, [3])
            assert (await acme.get(f"{API}/tenants/acme/kpis")).json()["data"][0]["name"] == "delivered"
            assert (await acme.get(f"{API}/tenants/globex/kpis/delivered")).status_code == 404
            assert (await acme.get(f"{API}/kpis/delivered")).status_code == 403
        assert (await operator.get(f"{API}/kpis/delivered", params={"since": "1h"})).json()["causes"] == whole["causes"]
        assert (await operator.get(f"{API}/tenants/acme/kpis/nothing")).status_code == 404
        assert (await operator.get(f"{API}/tenants/acme/kpis", params={"since": "soon"})).status_code == 422
        month = netra.runtime.clock.wall_us() // 1_000_000
        report = (await operator.get(f"{API}/tenants/acme/kpi-report", params={"month": _month(month)})).json()
        (of_month,) = report["kpis"]
        assert (of_month["promised"], of_month["missed"], of_month["value_missed"]) == (3, 3, 31.5)
        assert [each["key"] for each in of_month["objects"]] == ["inv_1", "inv_2", "inv_3"]


async def test_objects_that_wait_for_a_batch_or_a_refresh_say_so_with_the_money_at_risk(tmp_path):
    """Nothing failed in the orders' own traces: what their KPI depends on is the cause, each of its own tenant."""
    entered, go = threading.Event(), threading.Event()

    def process(item):
        entered.set()
        assert go.wait(60)
        return item

    async with new_netra(tmp_path, workers=True) as netra, client_of(create_app(netra)) as operator:

        async def tell(tx, rows):
            for order in rows:
                await netra.events.record(tx, "order.invoiced", {"order": order})

        job = batch.job("invoicing", read=batch.sequence([1, 2]), process=process, write=tell)
        kpis = {}
        for name, on in (("invoiced", "batch.job:invoicing"), ("synced", "oauth.provider:crm")):
            good = Event(f"order.{name}").within("1s").by("order")
            kpis[name] = netra.kpi.define(name, unit="orders", value="amount", total=Event("order.placed"), good=good).depends_on(on)
        for tenant in ("acme", "globex"):
            await tenant_key(operator, tenant)
        here = f"{API}/tenants/acme"
        client = {"endpoints": {"token": ["http://127.0.0.1:9/token"]}, "client_id": "netra"}
        assert (await operator.put(f"{here}/oauth/clients/crm", json=client)).status_code == 200
        tokens = {"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 1}
        assert (await operator.post(f"{here}/connections", json={"name": "sales", "client": "crm", "tokens": tokens})).status_code == 201
        await netra.kpi.flush()
        async with netra.transaction(tenant="acme") as tx:
            await netra.batch.start(tx, job)
        await eventually(entered.is_set)
        for tenant, orders in (("acme", (1, 2)), ("globex", (3,))):
            async with netra.transaction(tenant=tenant) as tx:
                for order in orders:
                    await netra.events.record(tx, "order.placed", {"order": order, "amount": 12.5})

        async def missed():
            return [(await kpi.impact())["late"] for kpi in kpis.values()] == [3, 3]

        await eventually(missed)
        found = {name: {each["cause"]: each["objects"] for each in (await kpi.impact())["causes"]} for name, kpi in kpis.items()}
        assert found["invoiced"] == {"waits for a run of invoicing": ["1", "2"], "no order.invoiced came": ["3"]}
        sales = next(cause for cause, objects in found["synced"].items() if objects == ["1", "2"])
        assert "sales" in sales
        assert found["synced"].keys() == {sales, "no order.synced came"}
        assert (await kpis["invoiced"].impact())["value_late"] == 37.5
        go.set()


async def test_an_alert_reaches_the_operators_own_endpoint(tmp_path):
    async with new_netra(tmp_path, **FAST) as netra, client_of(create_app(netra)) as operator, MisbehavingEndpoint() as told:
        kpi = invoices(netra)
        made = await operator.post(f"{API}/operational-webhook/endpoint", json={"url": told.url, "filterTypes": ["kpi.alert"]})
        assert made.status_code == 201, made.text
        await tenant_key(operator, "acme")
        await pay(operator, "acme", "inv_1", 1)
        (alert, *_) = await told.until(lambda found: bool(found), within_s=20)
        assert b'"kpi":"delivered"' in alert.body
        assert b'"state":"firing"' in alert.body
        assert {each["rule"] for each in (await kpi.impact())["alerts"]} >= {"burn_6h"}


async def test_a_kpi_of_another_message_about_the_same_object_keeps_no_promise(tmp_path):
    async with new_netra(tmp_path, **FAST) as netra, client_of(create_app(netra)) as operator, MisbehavingEndpoint() as receiver:
        kpi = invoices(netra)
        await tenant_key(operator, "acme")
        await endpoint(operator, "acme", url=receiver.url, filterTypes=["invoice.created"])
        body = {"eventType": "invoice.created", "payload": {"id": "inv_1", "amount": 1}}
        assert (await operator.post(f"{API}/app/acme/msg", json=body)).status_code == 202
        await receiver.until(lambda found: len(found) == 1)
        await pay(operator, "acme", "inv_1", 1)

        async def missed():
            return (await kpi.impact())["late"] == 1

        await eventually(missed)


async def test_kpis_of_a_file_are_there_at_the_start_and_a_wrong_file_says_what_to_do(tmp_path):
    file = tmp_path / "kpis.toml"
    good = 'good = { event = "webhook.delivered", within = "15m", by = "id" }'
    file.write_text(f'[kpi.delivered]\nunit = "invoices"\ntotal = "invoice.paid"\n{good}\nslo = {{ target = 0.999 }}\n')
    async with new_netra(tmp_path, kpis=str(file)) as netra:
        (found,) = await netra.kpi.list()
        assert (found["name"], found["slo"]["target"]) == ("delivered", 0.999)
        again = netra.kpi.define("delivered", unit="invoices", total="invoice.paid", good=Event("webhook.delivered").within("15m").by("id"))
        assert (await again.impact())["total"] == 0
    file.write_text("[kpi.delivered]\nunit = 'invoices'\n")
    with pytest.raises(CannotStart, match="lacks total"):
        async with new_netra(tmp_path, kpis=str(file)):
            pass


async def test_what_cannot_be_recorded_or_defined_says_why(tmp_path):
    async with new_netra(tmp_path) as netra:
        async with netra.transaction(tenant="acme") as tx:
            for kind, data in (
                ("webhook.delivered", {}),
                ("bad type", {}),
                ("ok", [1]),
                ("ok", {"at": object()}),
                ("ok", {"a": "x" * 70_000}),
            ):
                with pytest.raises(UsageError):
                    await netra.events.record(tx, kind, data)
        for wrong in ({"name": "Bad Name"}, {"unit": ""}, {"total": Event("a").within("1s")}):
            with pytest.raises(InvalidInput):
                netra.kpi.define(**{"name": "kpi", "unit": "things", "total": "a", "good": "b", **wrong})
        with pytest.raises(InvalidInput):
            netra.kpi.define("kpi", unit="things", total="a", good="b").depends_on("weather")


def _month(epoch_s):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m")
