"""Retry schedules of one's own: what may be given, how it is kept and shown, and whose holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.kernel.backoff import STANDARD, SVIX, WEBHOOKS
from netra_backend.kernel.chance import SystemChance
from netra_backend.webhooks import schedules
from netra_backend.webhooks.model import Delivery, Message

from ..support.webhooks import described


@pytest.mark.parametrize(
    ("given", "kept", "shown"),
    [
        ("svix", "svix", "svix"),
        (" netra ", "netra", "netra"),
        ([5, 300], "5s,5m", [5.0, 300.0]),
        ([0.25, "30s"], "250ms,30s", [0.25, 30.0]),
        ("5s,5m", "5s,5m", [5.0, 300.0]),
        ([], "none", []),
        ([0], "0s", [0.0]),
    ],
)
def test_a_schedule_is_kept_as_text_and_shown_as_seconds(given, kept, shown):
    assert schedules.check(given) == kept
    assert schedules.check(kept) == kept
    assert schedules.shown(kept) == shown


@pytest.mark.parametrize(
    "given",
    ["slowly", "", [-1], [True], [None], ["5s,5m"], [float("nan")], [float("inf")], [1e12], [1] * 101, {"a": 1}, 5, b"5s", ["1 fortnight"]],
)
def test_what_is_no_schedule_is_refused_with_what_would_be_one(given):
    with pytest.raises(InvalidInput) as refused:
        schedules.check(given)
    assert "seconds such as [5, 300, 1800]" in refused.value.fix


MESSAGE = Message("acme", b"m", "invoice.paid", None, "{}", None, None, None, 0)
BY_TYPE = {"invoice.paid": "5s"}


def delays(*, endpoint=None, message=None, by_type=BY_TYPE, default=WEBHOOKS):
    delivery = Delivery(replace(MESSAGE, schedule=message), b"e", b"n", 0, 0)
    return schedules.of_delivery(default, by_type, described(schedule=endpoint), delivery)


def test_the_messages_own_is_before_the_endpoints_before_the_event_types_before_the_settings():
    assert delays(endpoint="svix", message="none").delays_s == ()
    assert delays(endpoint="svix").delays_s == SVIX.delays_s
    assert delays().delays_s == (5.0,)
    assert delays(by_type={"invoice.sent": "1h"}) == WEBHOOKS


def test_the_jitter_of_the_settings_spreads_every_schedule():
    calm = delays(endpoint="standard", default=replace(WEBHOOKS, jitter=0.0))
    assert [calm.delay_s(n, SystemChance()) for n in range(1, 10)] == list(STANDARD.delays_s)
    assert delays(endpoint="standard", default=replace(WEBHOOKS, jitter=0.5)).jitter == 0.5
