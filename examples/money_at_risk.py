"""An endpoint is down: what it costs in invoices and euros while it lasts, and what recovery saves.

    python -m examples.money_at_risk

The KPI says what the business promised: each paid invoice is delivered within two seconds. It names the objects and the money behind the
figure, and the cause; afterwards what was lost is recovered, and the figures move.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from netra_backend import Event, Netra
from netra_backend.kernel.scope import Scope
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.model import Endpoint

AMOUNTS = {"acme": [120.0, 80.5, 310.25], "globex": [99.0]}
DEAD_AFTER = "100ms,100ms"


async def add_endpoint(netra: Netra, tenant: str, url: str) -> str:
    """An endpoint for everything; its id."""
    new = Endpoint(await netra.tenant(tenant), b"", None, url, "", None, None, False, None, {}, {})
    made = await netra.database.write(endpoints.create, netra.sealer, new, None, scope=Scope(tenant, "example"))
    return str(made.text_id)


async def until(netra: Netra, kpi: Any, wanted: dict[str, int]) -> dict[str, Any]:
    """Wait until the KPI's figures are these."""
    async with asyncio.timeout(60):
        while True:
            found = await kpi.impact(since="1h")
            if all(found[name] == count for name, count in wanted.items()):
                return dict(found)
            await netra.runtime.clock.sleep(0.1)


def tell(when: str, found: dict[str, Any]) -> None:
    """One line, and one for each cause."""
    at_risk = found["value_late"] + found["value_lost"]
    print(
        f"{when}: {found['good']} of {found['total']} {found['unit']} delivered in time, {found['late']} late, {found['lost']} lost, "
        f"{at_risk:,.2f} EUR at risk, {found['tenants']} tenants"
    )
    for each in found["causes"]:
        print(f"  because of {each['cause'].partition(' at ')[0]}: {each['count']} ({', '.join(sorted(each['objects']))})")


async def main() -> None:
    """Down, counted, recovered, counted again."""
    with tempfile.TemporaryDirectory() as folder:
        netra = Netra(f"sqlite:///{folder}/netra.db", data=folder, dev=True, webhooks_schedule=DEAD_AFTER, webhooks_jitter=0)
        kpi = netra.kpi.define(
            "paid_invoice_delivered",
            unit="invoices",
            value="amount_eur",
            total=Event("invoice.paid"),
            good=Event("webhook.delivered").within("2s").by("invoice_id"),
        )
        kpi.slo(target=0.999, window="30d", min_events=50, page_if_bad=3)
        async with netra, MisbehavingEndpoint("503") as broken, MisbehavingEndpoint("ok") as sound:
            down = await add_endpoint(netra, "acme", broken.url)
            await add_endpoint(netra, "globex", sound.url)
            for tenant, amounts in AMOUNTS.items():
                async with netra.transaction(tenant=tenant) as tx:
                    for number, amount in enumerate(amounts, 1):
                        payload = {"invoice_id": f"{tenant}-{number}", "amount_eur": amount}
                        await netra.webhooks.send(tx, "invoice.paid", payload)
            before = await until(netra, kpi, {"total": 4, "good": 1, "lost": 3})
            tell("while the endpoint is down", before)
            await netra.runtime.clock.sleep(2)
            broken.heal()
            await netra.webhooks.recover(down, netra.runtime.clock.wall_us() / 1e6 - 3600, tenant="acme")
            after = await until(netra, kpi, {"good": 1, "late": 3, "lost": 0})
            tell("after the recovery", after)
            print(f"recovery saved {before['lost'] - after['lost']} invoices, {before['value_lost'] - after['value_lost']:,.2f} EUR")


if __name__ == "__main__":
    asyncio.run(main())
