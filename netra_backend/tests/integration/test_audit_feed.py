"""An endpoint of kind `audit` gets every entry from its making on, once and in order; others get none."""

from __future__ import annotations

import json

import pytest

from netra_backend.errors import NetraError
from netra_backend.kernel.scope import Scope
from netra_backend.observability.audit import feed
from netra_backend.observability.audit.feed import Feed
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ..support.platform import add_endpoint, platform
from ..support.storage import eventually

ACME = Scope("acme", "tester")
SETTINGS = {"webhooks_schedule": "50ms,50ms,50ms"}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        yield {}
        return
    server = request.getfixturevalue("postgres_server")
    with server.database() as name:
        yield {"url": server.url(name)}


def bodies(receiver):
    return [json.loads(each.body) for each in receiver.received]


async def record(netra, *targets, tenant="acme", action="thing.done"):
    async def go(tx):
        for target in targets:
            await netra.audit.record(tx, action, target)

    await netra.write(go, tenant=tenant)


async def test_each_entry_arrives_once_in_the_order_of_the_log_from_the_endpoints_making_on(place, tmp_path):
    async with MisbehavingEndpoint() as receiver, MisbehavingEndpoint() as other, platform(tmp_path, **SETTINGS, **place) as netra:
        await record(netra, "before")
        await netra.audit.settle(ACME)
        await add_endpoint(netra, other.url, tenant="acme")
        await add_endpoint(netra, receiver.url, tenant="acme", event_types=("audit.entry",))
        await record(netra, *map(str, range(120)))
        await record(netra, "theirs", tenant="globex")
        await netra.audit.settle(ACME)
        log = await netra.audit.log(ACME)
        arrived = []

        def all_there():
            arrived[:] = sorted(bodies(receiver), key=lambda each: each["index"])
            return len(arrived) >= log.size - 4  # the tenant, `before`, and the other endpoint with its secret came earlier

        await eventually(all_there)
        made = arrived[0]["index"]
        assert [each["index"] for each in arrived] == list(range(made, made + len(arrived)))
        assert arrived[0]["action"] == "endpoint.create"
        assert {each["tenant"] for each in arrived} == {"acme"}
        assert [each["target"] for each in arrived if each["action"] == "thing.done"] == list(map(str, range(120)))
        assert other.received == []  # it takes every event type, and did not ask for the trail


async def test_killed_before_its_commit_it_sends_the_same_entries_again_and_none_twice(place, tmp_path):
    async with MisbehavingEndpoint() as receiver, platform(tmp_path, **SETTINGS, **place) as netra:
        await add_endpoint(netra, receiver.url, tenant="acme", event_types=("audit.entry",))
        netra.runtime.failpoints.arm(feed.FED, "raise")
        await record(netra, "one", "two")
        await netra.audit.settle(ACME)
        await eventually(lambda: {"one", "two"} <= {each["target"] for each in bodies(receiver)})
        assert netra.runtime.failpoints.hits[feed.FED] >= 2
        indices = [each["index"] for each in bodies(receiver)]
        assert len(indices) == len(set(indices))


class Receiver:
    """A tenant's endpoint."""

    created_us = 0

    def __init__(self, tenant):
        self.id = tenant.encode().rjust(16)


class Refusing:
    """Tenants of which the first one takes nothing, for as long as it is said so."""

    def __init__(self, *tenants):
        self.tenants, self.refused, self.sent = tenants or ("acme",), True, []

    async def of_tenant(self, tx):
        return [Receiver(tx.tenant)] if tx.tenant in self.tenants else []

    async def send(self, tx, receiver, event_type, payload):
        if self.refused and tx.tenant == self.tenants[0]:
            raise NetraError("not now")
        self.sent.append(payload["target"])


async def test_a_receiver_that_cannot_be_written_to_holds_its_place(tmp_path):
    """What is refused (a quota, a full disk) is sent later: the cursor stands."""

    async with platform(tmp_path, workers=False) as netra:
        await record(netra, Receiver("acme").id.hex(), action="endpoint.create")
        await record(netra, "one")
        await netra.audit.settle(ACME)
        feeding = Feed(netra.database, netra.runtime, netra.membership, receivers := Refusing())
        with pytest.raises(NetraError, match="not now"):
            await feeding.look()
        await record(netra, "two")
        await netra.audit.settle(ACME)
        receivers.refused = False
        await feeding.look()
        await feeding.look()
        assert receivers.sent == [Receiver("acme").id.hex(), "one", "two"]


async def test_a_receiver_that_cannot_be_written_to_keeps_no_other_tenants_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "ROWS_AT_ONCE", 1)
    async with platform(tmp_path, workers=False) as netra:
        for tenant in ("acme", "globex"):
            await record(netra, Receiver(tenant).id.hex(), action="endpoint.create", tenant=tenant)
        feeding = Feed(netra.database, netra.runtime, netra.membership, receivers := Refusing("acme", "globex"))
        wanted = [Receiver("globex").id.hex()]
        for number in range(3):
            for tenant in ("acme", "globex"):
                await record(netra, f"{tenant} {number}", tenant=tenant)
            await netra.audit.settle(Scope("globex", "tester"))
            with pytest.raises(NetraError, match="not now"):
                await feeding.look()
            wanted.append(f"globex {number}")
            assert receivers.sent == wanted
        receivers.refused = False
        another = Feed(netra.database, netra.runtime, netra.membership, receivers)  # the process ended meanwhile
        for each in (another, feeding):
            await each.look()
            assert receivers.sent == [*wanted, Receiver("acme").id.hex(), "acme 0", "acme 1", "acme 2"]
