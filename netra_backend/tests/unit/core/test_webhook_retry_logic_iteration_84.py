"""Iteration 84: webhook retry logic."""

from __future__ import annotations

from unittest.mock import MagicMock

from netra_backend.kernel.backoff import WEBHOOKS
from netra_backend.webhooks import verdicts
from netra_backend.webhooks.model import Delivery, Message

MESSAGE = Message("acme", b"m" * 16, "invoice.paid", None, "{}", None, None, None, 0)
DAY_US = 24 * 3600 * 1_000_000


class TestWebhookRetryLogic:
    async def test_exponential_backoff(self):
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
