"""Iteration 83: webhook delivery guarantees."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.webhooks.model import Delivery, Endpoint, Message, Secret, Snapshot
from netra_backend.webhooks.sender import Sender
from netra_backend.webhooks.service import Webhooks
from netra_backend.webhooks.settings import WebhookSettings

MESSAGE = Message("acme", b"m" * 16, "invoice.paid", None, "{}", None, None, None, 0)
ENDPOINT = Endpoint("acme", b"e" * 16, None, "https://example.com/", "", None, None, False, None, {}, {}, 0, 0)
SNAPSHOT = Snapshot("acme", 1, {ENDPOINT.id: ENDPOINT}, {ENDPOINT.id: (Secret(b"s" * 16, ENDPOINT.id, b"k" * 24, None),)})


class TestWebhookReliability:
    async def test_at_least_once_delivery(self):
        """A failed attempt leaves the delivery due; the next attempt carries the same id and ends it."""
        runtime, membership = Runtime(), MagicMock(id=b"n" * 16, quiet=False)
        snapshots = MagicMock(get=AsyncMock(return_value=SNAPSHOT), peek=MagicMock(return_value=SNAPSHOT))
        replies = [MagicMock(status=503, body=b"", duration_s=0.1), MagicMock(status=200, body=b"", duration_s=0.1)]
        egress = MagicMock(request=AsyncMock(side_effect=replies))
        database = MagicMock(write_item=AsyncMock(), read=AsyncMock(return_value={}))
        sender = Sender(database, runtime, WebhookSettings(), membership, snapshots, egress)
        deadline_us = runtime.clock.wall_us() + 3600 * 1_000_000
        for number in (0, 1):
            delivery = Delivery(MESSAGE, ENDPOINT.id, membership.id, number, deadline_us)
            sender.lanes.add(delivery, claimed=True)
            await sender._deliver(sender.lanes.next())
        outcomes = [call.args[1] for call in database.write_item.await_args_list]
        assert [(outcome.verdict.state, outcome.verdict.number) for outcome in outcomes] == [("due", 1), ("delivered", 2)]
        ids = {dict(call.kwargs["headers"])["webhook-id"] for call in egress.request.await_args_list}
        assert ids == {MESSAGE.text_id}

    async def test_idempotency_key_generation(self):
        """Without a key each message gets an id of its own; a content key depends on what is said and on nothing else."""
        database = MagicMock(write_item=AsyncMock(side_effect=lambda _, item, **__: item.id), read=AsyncMock())
        snapshots = MagicMock(get=AsyncMock(return_value=SNAPSHOT), peek=MagicMock(return_value=SNAPSHOT))
        webhooks = Webhooks(database, Runtime(), WebhookSettings(), MagicMock(), MagicMock(id=b""), snapshots, None)
        plain = webhooks.new_message("acme", "invoice.paid", {"id": 1})
        ids = [(await webhooks.accept(Scope("acme"), [plain]))[0] for _ in range(100)]
        assert len(set(ids)) == 100 and ids[0][6] >> 4 == 7

        def key(tenant, type_, payload):
            return webhooks.new_message(tenant, type_, payload, content_key=True).event_id

        same = key("acme", "invoice.paid", {"id": 1, "sum": 2})
        assert same == key("acme", "invoice.paid", {"sum": 2, "id": 1})
        others = {
            key("globex", "invoice.paid", {"id": 1, "sum": 2}),
            key("acme", "invoice.sent", {"id": 1, "sum": 2}),
            key("acme", "invoice.paid", {}),
        }
        assert len(others | {same}) == 4
