"""Two copies of each verb at once, through two doors to one database: as if one of them had run before the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from netra_backend.errors import Conflict, NetraError, NotFound
from netra_backend.kernel.scope import Scope
from netra_backend.storage import api_keys, log, nodes, tenants
from netra_backend.storage.idempotency import Claim, Replay, claim
from netra_backend.storage.sealing import Place, RootKeys, Sealer

from ..support.storage import ACME, SYSTEM

NODE = b"\x01" * 16
SEALER, NEXT = Sealer(RootKeys({"r1": b"1" * 32})), Sealer(RootKeys({"r2": b"2" * 32, "r1": b"1" * 32}))
PLACE = Place("t", "r", "f")


async def nothing(tx) -> None:
    """No arrangement."""


async def a_tenant(tx):
    return await tenants.create(tx, "Acme", uid="acme")


async def a_key(tx):
    key, _ = await api_keys.create(tx, tenant="acme", pepper=b"p", name="ci", scopes=[])
    return key.id


async def a_node(tx):
    await nodes.register(tx, NODE, "host", 1, "test")


async def a_leader(tx):
    await a_node(tx)
    await log.take_lead(tx, "log", NODE)
    tx.emit("events", 1)


async def two_data_keys(tx):
    for tenant in ("acme", "globex"):
        await SEALER.seal(tx, tenant, PLACE, b"s")


async def log_length(tx):
    return len(await log.read_after(tx, "events", 0, 10))


@dataclass(frozen=True)
class Case:
    """What stands before, the verb, and what its two copies return or raise (in any order)."""

    verb: Callable[..., Awaitable[Any]]
    expected: list[Any]
    before: Callable[..., Awaitable[Any]] = nothing
    takes_key: bool = False
    scope: Scope = ACME


CASES = {
    "tenants.create": Case(partial(tenants.create, name="Acme", uid="acme"), [tenants.Tenant, Conflict]),
    "tenants.ensure": Case(partial(tenants.ensure, reference="acme"), [tenants.Tenant, tenants.Tenant]),
    "tenants.update": Case(partial(tenants.update, reference="acme", changes={"name": "N"}), [tenants.Tenant, tenants.Tenant], a_tenant),
    "tenants.bury": Case(partial(tenants.bury, reference="acme"), [tenants.Tenant, NotFound], a_tenant),
    "api_keys.expire": Case(partial(api_keys.expire, tenant="acme", expires_us=5), [None, None], a_key, takes_key=True),
    "api_keys.revoke": Case(partial(api_keys.revoke, tenant="acme"), [None, NotFound], a_key, takes_key=True),
    "idempotency.claim": Case(partial(claim, wanted=Claim("r", "k", "h"), ref=NODE, status=202), [None, Replay(NODE, 202)]),
    "nodes.register": Case(partial(nodes.register, node=NODE, host="h", pid=1, role="r"), [None, NetraError]),
    "nodes.beat": Case(partial(nodes.beat, node=NODE), [True, True], a_node),
    "nodes.reap": Case(partial(nodes.reap, node=NODE, seen_beat=1), [True, False], a_node),
    "nodes.remove": Case(partial(nodes.remove, node=NODE), [None, None], a_node),
    "log.take_lead": Case(partial(log.take_lead, name="log", node=NODE), [1, None], a_node),
    "log.drop_lead": Case(partial(log.drop_lead, name="log", node=NODE), [None, None], a_leader),
    "log.sequence": Case(partial(log.sequence, node=NODE, limit=10), [1, 0], a_leader, scope=SYSTEM),
    "log.move_cursor": Case(partial(log.move_cursor, name="c", stream="events", seq=3), [None, None]),
    "log.trim": Case(partial(log.trim, stream="events", before_us=2**62, limit=10), [0, 0], a_leader, scope=SYSTEM),
    "sealing.seal": Case(partial(SEALER.seal, tenant="acme", place=PLACE, secret=b"s"), [bytes, bytes]),
    "sealing.derive": Case(partial(SEALER.derive, tenant="acme", purpose="p"), [bytes, bytes]),
    "sealing.rewrap": Case(partial(NEXT.rewrap, limit=10), [2, 0], two_data_keys, scope=SYSTEM),
}


def is_as(outcome, expected):
    return isinstance(outcome, expected) if isinstance(expected, type) else outcome == expected


@pytest.mark.parametrize("name", CASES)
async def test_two_copies_of_a_verb_at_once_end_as_one_after_the_other(pair, name):
    case = CASES[name]
    arranged = await pair[0].write(case.before, scope=case.scope)
    verb = partial(case.verb, key_id=arranged) if case.takes_key else case.verb
    outcomes = await asyncio.gather(*(door.write(verb, scope=case.scope) for door in pair), return_exceptions=True)
    orders = (outcomes, outcomes[::-1])
    assert any(all(map(is_as, order, case.expected)) for order in orders), outcomes


async def test_two_keys_made_at_once_are_two(pair):
    verb = partial(api_keys.create, tenant="acme", pepper=b"p", name="ci", scopes=[])
    made = await asyncio.gather(*(door.write(verb, scope=ACME) for door in pair))
    assert len({key.id for key, _ in made}) == len({secret for _, secret in made}) == 2


async def test_two_first_secrets_share_the_data_key_that_won(pair):
    sealed = await asyncio.gather(*(door.write(SEALER.seal, "acme", PLACE, b"s", scope=ACME) for door in pair))
    for value in sealed:
        assert await pair[0].read(SEALER.unseal, "acme", PLACE, value, scope=ACME) == b"s"


async def test_what_two_leaders_sequence_at_once_stands_in_the_log_once(pair):
    await pair[0].write(a_leader, scope=SYSTEM)
    await asyncio.gather(*(door.write(log.sequence, NODE, 10, scope=SYSTEM) for door in pair))
    assert await pair[1].read(log_length, scope=SYSTEM) == 1
