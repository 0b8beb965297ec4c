"""Which keys sign: every live one, and none that has been revoked (W9), however old the copy of them in memory is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks.keys import encode_secret
from netra_backend.webhooks.model import Delivery, Message, Secret, Snapshot
from netra_backend.webhooks.sender import Sender
from netra_backend.webhooks.settings import WebhookSettings
from netra_backend.webhooks.signing import SignatureRejected, verify

from ..support.webhooks import IDS, described

OLD, NEW = b"o" * 24, b"n" * 24
DAY_S = 24 * 3600
ENDPOINT = described()


class Egress:
    """Keeps what would have gone out."""

    def __init__(self):
        self.sent = []

    async def request(self, method, url, *, headers, body, **_):
        self.sent.append((dict(headers), body))
        return SimpleNamespace(status=200, body=b"", headers=(), duration_s=0.0)


class Snapshots:
    """A copy that is never read anew."""

    def __init__(self, secrets):
        self.snapshot = Snapshot("acme", 1, {ENDPOINT.id: ENDPOINT}, {ENDPOINT.id: tuple(secrets)})

    async def get(self, tenant):
        return self.snapshot

    def peek(self, tenant):
        return self.snapshot


@pytest.fixture
def clock():
    return FakeClock()


async def signed_by(clock, secrets):
    """Which of the two keys verify what a sender with this copy sends now; None where it sends nothing."""
    egress = Egress()
    database = membership = SimpleNamespace(id=b"n" * 16, quiet=False)
    sender = Sender(database, Runtime(clock=clock), WebhookSettings(), membership, Snapshots(secrets), egress)
    message = Message("acme", IDS.new(), "t", None, '{"n":1}', None, None, None, 0)
    outcome = await sender._attempt(Delivery(message, ENDPOINT.id, b"n" * 16, 0, clock.wall_us() + DAY_S * 1_000_000))
    if not egress.sent:
        assert outcome.attempt is None and outcome.verdict.state == "due" and outcome.verdict.number == 0
        return None
    headers, body = egress.sent[0]
    assert len(headers["webhook-signature"].split()) <= len(secrets)
    return {name for name, key in (("old", OLD), ("new", NEW)) if _verifies(key, headers, body)}


def _verifies(key, headers, body):
    try:
        verify(headers, body, encode_secret(key), now_s=int(headers["webhook-timestamp"]))
    except SignatureRejected:
        return False
    return True


async def test_during_a_rotations_overlap_both_keys_sign_and_after_it_only_the_new_one(clock):
    secrets = [Secret(b"2" * 16, ENDPOINT.id, NEW, None), Secret(b"1" * 16, ENDPOINT.id, OLD, clock.wall_us() + DAY_S * 1_000_000)]
    assert await signed_by(clock, secrets) == {"old", "new"}
    await clock.advance(DAY_S - 1)
    assert await signed_by(clock, secrets) == {"old", "new"}
    await clock.advance(1)
    assert await signed_by(clock, secrets) == {"new"}
    await clock.advance(30 * DAY_S)
    assert await signed_by(clock, secrets) == {"new"}


async def test_an_endpoint_whose_keys_have_all_expired_gets_nothing_and_burns_no_attempt(clock):
    assert await signed_by(clock, [Secret(b"1" * 16, ENDPOINT.id, OLD, clock.wall_us())]) is None
