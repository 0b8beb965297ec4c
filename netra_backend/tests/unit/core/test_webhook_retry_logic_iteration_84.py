"""Iteration 84: webhook retry logic."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

from netra_backend.kernel.backoff import WEBHOOKS
from netra_backend.kernel.runtime import Runtime
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks import verdicts
from netra_backend.webhooks.model import Delivery, Endpoint, Message, Secret, Snapshot
from netra_backend.webhooks.sender import Sender
from netra_backend.webhooks.settings import WebhookSettings

MESSAGE = Message("acme", b"m" * 16, "invoice.paid", None, "{}", None, None, None, 0)
ENDPOINT = Endpoint("acme", b"e" * 16, None, "https://example.com/", "", None, None, False, None, {}, {}, 0, 0)
SNAPSHOT = Snapshot("acme", 1, {ENDPOINT.id: ENDPOINT}, {ENDPOINT.id: (Secret(b"s" * 16, ENDPOINT.id, b"k" * 24, None),)})
LANE = (ENDPOINT.tenant, ENDPOINT.id)
DAY_US = 24 * 3600 * 1_000_000


class TestWebhookRetryLogic:
    def test_exponential_backoff(self):
        """Each wait is longer than the one before, spread by a fifth, until the last attempt makes a dead letter."""
        for draw, factor in ((-0.2, 0.8), (0.0, 1.0), (0.2, 1.2)):
            chance = MagicMock(uniform=MagicMock(return_value=draw))
            waits_s, number, state = [], 0, "due"
            while state == "due":
                delivery = Delivery(MESSAGE, b"e" * 16, b"n" * 16, number, 10 * DAY_US)
                verdict = verdicts.failed(delivery, 0, "status 503", WEBHOOKS, chance)
                number, state = verdict.number, verdict.state
                waits_s.append(verdict.due_us / 1e6)
            *waits_s, _ = waits_s
            assert (number, state) == (12, "dead")
            assert waits_s == [round(delay_s * factor, 6) for delay_s in WEBHOOKS.delays_s]
            assert waits_s == sorted(waits_s) and waits_s[1] > 2 * waits_s[0]
            chance.uniform.assert_called_with(-0.2, 0.2)

    async def test_circuit_breaker_integration(self):
        """Ten failures park the endpoint and burn nothing more; after half a minute one probe, and its answer ends it."""
        clock, reply = FakeClock(), MagicMock(status=503, headers=(), body=b"", duration_s=0.1)
        database, membership = MagicMock(write_item=AsyncMock()), MagicMock(id=b"n" * 16, quiet=False)
        database.read = AsyncMock(side_effect=lambda *_, **__: {LANE: database.write_item.await_args.args[1].news.after})
        egress = MagicMock(request=AsyncMock(return_value=reply))
        snapshots = MagicMock(get=AsyncMock(return_value=SNAPSHOT), peek=MagicMock(return_value=SNAPSHOT))
        sender = Sender(database, Runtime(clock=clock), WebhookSettings(), membership, snapshots, egress)
        deliveries = [Delivery(MESSAGE, ENDPOINT.id, membership.id, 0, clock.wall_us() + DAY_US) for _ in range(12)]
        for delivery in deliveries[:10]:
            sender.lanes.add(delivery, claimed=True)
            await sender._deliver(sender.lanes.next())
        sender.lanes.add(parked := deliveries[10], claimed=True)
        assert sender.lanes.next() is None and sender.lanes.take_blocked() == [parked]
        assert sender.breakers.next_probe(LANE, clock.wall_us()) is None
        await clock.advance(36)
        _, _, probing = sender.breakers.next_probe(LANE, clock.wall_us())
        sender.breakers.took(LANE, probing)
        reply.status = 200
        sender.lanes.add(deliveries[11], claimed=True)
        await sender._deliver(sender.lanes.next())
        assert egress.request.await_count == 11 and parked.number == 0
        assert sender.breakers.is_closed(LANE) and sender.breakers.allowance(LANE) == 1
