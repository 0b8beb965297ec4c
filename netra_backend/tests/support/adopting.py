"""A Netra for the tests of `adopt()`: on either engine, with a receiver, and eyes that look from outside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...kernel.scope import Scope
from ...netra import Netra
from ...testing.endpoint import MisbehavingEndpoint
from ...webhooks import endpoints
from .places import File, Place, Shared
from .platform import add_endpoint, change_endpoint
from .postgres import Postgres
from .shops import open_orders
from .world import FAST

TABLES = ("netra_message", "netra_delivery", "netra_idempotency", "netra_outbox", "netra_audit_entry", "netra_audit_use", "netra_tenant")


@dataclass
class House:
    """One database with Netra on it, and a receiver of everything."""

    netra: Netra
    place: Place
    receiver: MisbehavingEndpoint
    _tenants: int = 0

    def new_tenant(self) -> str:
        """A name that no tenant has yet."""
        self._tenants += 1
        return f"tenant{self._tenants}"

    async def tenant_with_endpoint(self) -> str:
        """A tenant whose messages go to the receiver."""
        tenant = self.new_tenant()
        await add_endpoint(self.netra, f"{self.receiver.url}?tenant={tenant}", tenant=tenant)
        return tenant

    async def point_endpoints_here(self, tenant: str) -> None:
        """Have the tenant's endpoints lead to this receiver, which is another one than when they were made."""
        for endpoint in await self.netra.database.read(endpoints.page, (-1, b""), 10, scope=scope_of(tenant)):
            await change_endpoint(self.netra, endpoint, url=self.receiver.url)

    def rows_of(self, tenant: str) -> dict[str, int]:
        """How many rows of the tenant stand in each of our tables, as others see it."""
        counts = {table: self.place.query(f"select count(*) from {table} where tenant = '{tenant}'")[0][0] for table in TABLES}
        return {table: count for table, count in counts.items() if count}

    def messages(self, tenant: str) -> set[str]:
        """The refs of the tenant's stored messages."""
        rows = self.place.query(f"select payload from netra_message where tenant = '{tenant}'")
        return {payload.split('"')[3] for (payload,) in rows}

    def orders(self) -> set[str]:
        return {ref for (ref,) in self.place.query("select ref from shop_order")}

    def arrived(self, ref: str) -> int:
        """How often the receiver got the message of that ref."""
        return sum(f'"{ref}"'.encode() in got.body for got in self.receiver.received)


def settings_of(folder: Path, **options: Any) -> dict[str, Any]:
    return {**FAST, "data": str(folder), "root_keys": str(folder / "root.keys"), "postgres_connections": 4, **options}


@asynccontextmanager
async def house(folder: Path, place: Place, *, workers: bool = True, tables: bool = True, **options: Any):
    """Open one; with `tables=False` on a database that has the shops' table already."""
    async with MisbehavingEndpoint() as receiver:
        async with Netra(place.url, workers=workers, dev=True, environ={}, **settings_of(folder, **options)) as netra:
            if tables:
                open_orders(place)
            yield House(netra, place, receiver)
        refs = [bytes(got.body) for got in receiver.received]
        assert len(refs) == len(set(refs)), "something arrived twice"


@asynccontextmanager
async def houses(folder: Path, server: Postgres, **options: Any):
    """One on each engine."""
    (folder / "lite").mkdir()
    (folder / "post").mkdir()
    with server.database() as name:
        async with (
            house(folder / "lite", File(folder / "lite" / "netra.db"), **options) as lite,
            house(folder / "post", Shared(server, name), **options) as post,
        ):
            yield {"sqlite": lite, "postgres": post}


def scope_of(tenant: str) -> Scope:
    return Scope(tenant, "tester")
