"""Rows of the webhooks part, for tests of its store functions on any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, TraceContext
from ...storage import nodes, tenants
from ...storage.sealing import RootKeys, Sealer
from ...webhooks import endpoints, store
from ...webhooks.intake import Intake, Target, content_hash, ingest
from ...webhooks.model import Attempt, Delivery, DeliveryRow, Endpoint, NewMessage, Outcome, Verdict
from .storage import SYSTEM

SEALER = Sealer(RootKeys({"r1": b"1" * 32}))
IDS = Runtime().ids
A_DAY_S = 24 * 3600.0


def in_tenant(tenant: str) -> Scope:
    return Scope(tenant, "tester")


async def live_node(database) -> bytes:
    """The row of a process that lives."""
    node = IDS.new()
    await database.write(nodes.register, node, "host", 1, "test", scope=SYSTEM)
    return node


async def reap(database, node: bytes) -> None:
    """That process is dead."""
    await database.write(nodes.remove, node, scope=SYSTEM)


def described(url: str = "http://127.0.0.1/hook", **fields: Any) -> Endpoint:
    """An endpoint as a caller describes it."""
    plain = {"uid": None, "description": "", "event_types": None, "channels": None, "disabled": False, "rate_limit": None}
    return Endpoint("", b"", url=url, created_us=0, updated_us=0, **{**plain, "metadata": {}, "headers": {}, **fields})


async def endpoint_of(database, tenant: str = "acme", **fields: Any) -> Endpoint:
    """A stored endpoint of a stored tenant."""
    await database.write(tenants.ensure, tenant, scope=SYSTEM)
    return await database.write(endpoints.create, SEALER, described(**fields), None, scope=in_tenant(tenant))


async def version_of(database, tenant: str = "acme") -> int:
    return (await database.read(endpoints.snapshot, SEALER, tenant, scope=SYSTEM)).version


def intake(
    endpoint: Endpoint, version: int, *, node: bytes = b"", targets: Sequence[Target] | None = None, payload: str = "{}", **fields: Any
) -> Intake:
    """A message on its way in to that endpoint; leased to `node` if one is given."""
    strict = fields.pop("strict", False)
    new = NewMessage("thing.happened", payload, **fields)
    hashed = NewMessage(**{**{name: getattr(new, name) for name in new.__slots__}, "body_hash": content_hash(new)})
    found = [Target(endpoint.id, lease=bool(node))] if targets is None else targets
    return Intake(endpoint.tenant, IDS.new(), hashed, version, found, A_DAY_S, TraceContext(), node, strict)


async def due(database, endpoint: Endpoint, count: int = 1, **fields: Any) -> list[bytes]:
    """That many stored messages whose deliveries are due."""
    version = await version_of(database, endpoint.tenant)
    items = [intake(endpoint, version, **fields) for _ in range(count)]
    answers = await database.write(ingest, items, None, scope=SYSTEM)
    return [answer.message.id for answer in answers]


async def claimed(database, node: bytes, endpoint: Endpoint, free: int = 10) -> list[Delivery]:
    return await database.write(store.claim, node, [((endpoint.tenant, endpoint.id), free)], scope=SYSTEM)


async def row(database, endpoint: Endpoint, message: bytes) -> DeliveryRow:
    return await database.read(store.delivery, message, endpoint.id, scope=in_tenant(endpoint.tenant))


def outcome(delivery: Delivery, state: str = "delivered", *, due_us: int = 0, attempt: bool = True, reason: str = "") -> Outcome:
    """What became of an attempt."""
    tenant, message, endpoint = delivery.key
    number = delivery.number + 1
    made = Attempt(
        tenant,
        message,
        IDS.new(),
        endpoint,
        number,
        delivery.manual,
        1,
        1,
        "delivered",
        200,
        "",
        "",
        "",
        "http://x/",
        late=False,
        trace=TraceContext(),
    )
    return Outcome(delivery, made if attempt else None, Verdict(state, number, due_us, reason))


async def attempts_of(database, endpoint: Endpoint, message: bytes) -> list[Attempt]:
    return await database.read(store.attempts_of_message, message, None, 100, scope=in_tenant(endpoint.tenant))
