"""Two copies of each verb of the webhooks at once, through two doors to one database; and that no verb of any store is forgotten."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from netra_backend.errors import Conflict, NotFound
from netra_backend.kernel.scope import system_scope
from netra_backend.storage import meta
from netra_backend.webhooks import endpoints, store
from netra_backend.webhooks.model import EventType

from ..support.storage import SYSTEM
from ..support.webhooks import SEALER, claimed, due, endpoint_of, in_tenant, live_node, outcome, reap, row
from .test_concurrent_copies import CASES, is_as

ACME = in_tenant("acme")
OPERATOR = system_scope("operator")
PACKAGE = Path(__file__).parents[2]

READS = {
    "api_keys.by_hash", "debug_marks.of", "api_keys.has_operator_key", "api_keys.page", "endpoints.changed", "endpoints.current_snapshot",
    "endpoints.event_types", "endpoints.get", "endpoints.get_event_type", "endpoints.live_secrets", "endpoints.page",
    "endpoints.public_keys", "lines.waiting_heads",
    "endpoints.snapshot", "health.counts", "health.health_of", "health.turns", "health.unwell", "health.with_health", "log.cursor", "log.last_seq", "log.read_after", "meta.known_install_id", "nodes.is_live", "nodes.living", "search.attempts_of_endpoint", "search.attempts_of_message", "search.destinations",
    "search.messages", "search.messages_by_id", "search.messages_without_payloads", "search.messages_of_endpoint", "search.outcomes_of_endpoint", "search.queue", "search.states_of_endpoint", "store.attempt", "store.attempts_of_endpoint",
    "store.attempts_of_message", "store.dead_letters", "store.deliveries", "store.delivery", "walk.go_on", "store.message",
    "store.message_of_event_id", "store.messages", "store.owned_by", "store.owners", "retention.next_tenant", "retention.next_tenant_with_lines",
    "expunge.outlived", "operators.dead_filter", "quotas.queued", "quotas.waiting", "tasks.claimable", "tasks.get", "tasks.look", "tasks.page", "tasks.page_of_all",
    "tasks.tenant_of", "tasks.writers_in_progress", "tenants.by_name", "tenants.find", "tenants.get", "tenants.name_is_free", "tenants.page",
}  # fmt: skip
ELSEWHERE = {
    "spans.append": "part of every case that is traced: a row of its own, under a new id",
    "spans.put": "test_traces: a span that is stored already stays as it is",
    "api_keys.create": "test_concurrent_copies: two keys made at once are two",
    "api_keys.end_portal": "loops over api_keys.expire, which is a case",
    "api_keys.revoke_all": "loops over api_keys.revoke, which is a case",
    "audit_append.audit_append": "part of every case that changes an audited row",
    "debug_marks.mark": "test_concurrent_debug_copies: as mark_rows, for rows of one tenant",
    "debug_marks.mark_rows": "test_concurrent_debug_copies: two rows marked at once have each its own",
    "endpoints.create": "test_webhook_endpoints: two creations at once with one uid make one endpoint",
    "endpoints.update": "test_webhook_endpoints: two updates at once both happen",
    "endpoints.bury": "test_webhook_endpoints: two deletions at once find one endpoint",
    "endpoints.get_to_change": "the lock that endpoints.update begins with",
    "endpoints.disable": "test_endpoint_health: two wishes at once disable once",
    "failing.settle": "test_failing_endpoints: of many processes that count at once one gives the warning",
    "health.settle": "test_endpoint_health: of two swaps at once from one state one is made",
    "probes.give_up": "test_endpoint_health: two sweeps at once give a dead node's probe up once",
    "probes.take": "test_endpoint_health: of two processes at once one takes the probe",
    "inbox.receive": "test_webhook_inbox: of copies that arrive at once one is new",
    "idempotency.trim": "test_idempotency: old keys are trimmed in small batches",
    "retention.expire": "test_webhook_retention: one process does it and what is over goes after its time",
    "retention.prune_lines": "test_webhook_retention: idle lines go and those in which somebody stands stay",
    "lines.hold": "part of lines.free_next",
    "expunge.erase_outlived": "test_webhook_tasks: two erasures at once erase once",
    "expunge.expunge": "test_webhook_tasks: two erasures at once erase once",
    "expunge.expunge_attempt": "sets one column to one value: twice is once",
    "operators.begin": "what tasks.create does once it has looked at the endpoint",
    "operators.cancel": "test_webhook_tasks: two cancellations of a message at once are one",
    "store.cancel": "test_webhook_tasks: two cancellations of a message at once are one",
    "tasks.advance": "test_webhook_tasks: one page written by two at once is written once",
    "tasks.claim": "test_webhook_tasks: of two processes at once one has the task",
    "tasks.create": "test_webhook_tasks: two recoveries at once of one endpoint send nothing twice",
    "tasks.decide": "test_webhook_tasks: two cancellations at once are one",
    "tasks.fail": "fenced by the owner, as tasks.advance is",
    "tasks.release": "fenced by the owner, and twice is once",
    "log.has_lead": "log.take_lead, which is a case, where nobody has it; test_webhook_retention: one process does it",
    "lines.free_next": "test_webhook_lines: an end and a send at once leave nobody waiting for longer than a sweep",
    "lines.take_places": "test_webhook_lines: numbers follow the order of commits whoever sends",
    "intake.ingest": "test_webhook_intake: copies at once through two doors make one message",
    "nodes.forget": "run by whoever may, as often as he likes: test_postgres_zombies ends what a dead node has open",
    "tenants.ensure_system": "a look and an insert, as tenants.ensure: of two at once the second is refused by the key and runs again",
    "tenants.make": "what tenants.create does once it has looked",
    "outbox.write": "part of every case that emits",
}


async def both(pair, verb, *arguments, scope=SYSTEM):
    return await asyncio.gather(*(door.write(verb, *arguments, scope=scope) for door in pair), return_exceptions=True)


def in_some_order(outcomes, expected):
    return any(all(map(is_as, order, expected)) for order in (outcomes, outcomes[::-1]))


async def test_two_processes_that_claim_at_once_share_the_work_and_take_nothing_twice(pair):
    endpoint = await endpoint_of(pair[0])
    wanted = set(await due(pair[0], endpoint, 7))
    nodes = [await live_node(door) for door in pair]
    taken = await asyncio.gather(*(claimed(door, node, endpoint, free=5) for door, node in zip(pair, nodes, strict=True)))
    found = [delivery.message.id for part in taken for delivery in part]
    assert len(found) == len(set(found)) <= 7
    assert set(found) <= wanted
    rest = await claimed(pair[0], await live_node(pair[0]), endpoint, free=7)
    assert {delivery.message.id for delivery in rest} | set(found) == wanted


async def test_one_lease_is_acknowledged_once(pair):
    endpoint = await endpoint_of(pair[0])
    (message,) = await due(pair[0], endpoint)
    (delivery,) = await claimed(pair[0], await live_node(pair[0]), endpoint)
    outcomes = await asyncio.gather(*(door.write(store.acknowledge, [outcome(delivery)], scope=SYSTEM) for door in pair))
    assert (await row(pair[0], endpoint, message)).state == "delivered"
    assert [True] in outcomes


async def test_rows_of_the_dead_are_released_once(pair):
    endpoint = await endpoint_of(pair[0])
    await due(pair[0], endpoint, 3)
    node = await live_node(pair[0])
    await claimed(pair[0], node, endpoint)
    await reap(pair[0], node)
    assert sum(await both(pair, store.release_dead, node, 100)) == 3


async def test_rows_are_given_back_once(pair):
    endpoint = await endpoint_of(pair[0])
    await due(pair[0], endpoint, 2)
    node = await live_node(pair[0])
    keys = [delivery.key for delivery in await claimed(pair[0], node, endpoint)]
    assert sum(await both(pair, store.release, node, keys)) == 2


async def test_two_resends_leave_one_delivery_due(pair):
    endpoint = await endpoint_of(pair[0])
    (message,) = await due(pair[0], endpoint)
    assert await both(pair, store.resend, message, endpoint.id, 60.0, scope=ACME) == [None, None]
    assert (await row(pair[0], endpoint, message)).state == "due"


async def test_two_readers_of_a_secret_get_the_same_and_each_is_told_of(pair):
    endpoint = await endpoint_of(pair[0])
    one, two = await both(pair, endpoints.disclose_secret, SEALER, endpoint.text_id, scope=ACME)
    assert one == two


async def test_two_rotations_leave_three_keys_that_sign(pair):
    endpoint = await endpoint_of(pair[0])
    assert await both(pair, endpoints.rotate_secret, SEALER, endpoint.text_id, None, scope=ACME) == [None, None]
    assert len(await pair[0].read(endpoints.live_secrets, SEALER, endpoint.id, scope=ACME)) == 3


async def test_an_event_type_is_made_once_changed_twice_and_deleted_once(pair):
    made = EventType("invoice.paid", "", archived=False, deprecated=False, group_name=None, schemas=None, created_us=0, updated_us=0)
    assert in_some_order(await both(pair, endpoints.create_event_type, made, scope=OPERATOR), [EventType, Conflict])
    await asyncio.gather(
        pair[0].write(endpoints.update_event_type, "invoice.paid", {"description": "d"}, scope=OPERATOR),
        pair[1].write(endpoints.update_event_type, "invoice.paid", {"group_name": "g"}, scope=OPERATOR),
    )
    found = await pair[0].read(endpoints.get_event_type, "invoice.paid", scope=OPERATOR)
    assert (found.description, found.group_name) == ("d", "g")
    assert in_some_order(await both(pair, endpoints.bury_event_type, "invoice.paid", scope=OPERATOR), [None, NotFound])


async def test_an_installation_has_one_identity(pair):
    one, two = await both(pair, meta.install_id)
    assert one == two


def verbs_of(path):
    """The store functions of a module: coroutine functions whose first parameter is a Tx; `module.name`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_") and node.args.args:
            annotation = node.args.args[0].annotation
            if annotation is not None and ast.unparse(annotation) == "Tx":
                yield f"{path.stem}.{node.name}"


def test_every_verb_that_writes_has_a_test_of_two_copies():
    verbs = {verb for folder in ("storage", "webhooks") for path in (PACKAGE / folder).glob("*.py") for verb in verbs_of(path)}
    here = {
        "store.claim", "store.acknowledge", "store.release_dead", "store.release", "store.resend", "endpoints.disclose_secret",
        "endpoints.rotate_secret", "endpoints.create_event_type", "endpoints.update_event_type", "endpoints.bury_event_type",
        "meta.install_id",
    }  # fmt: skip
    covered = here | READS | ELSEWHERE.keys() | CASES.keys()
    assert verbs - covered == set(), "add a test of two copies at once, or say that it only reads"
    assert (READS | ELSEWHERE.keys() | here) - verbs == set(), "no such verb any more"


@pytest.mark.parametrize("source", ["async def verb(tx: Tx): ...", "async def verb(tx: Tx, x: int) -> None: ..."])
def test_a_verb_is_recognised(tmp_path, source):
    file = tmp_path / "module.py"
    file.write_text(source + "\nasync def _private(tx: Tx): ...\nasync def other(x: int): ...\n")
    assert list(verbs_of(file)) == ["module.verb"]
