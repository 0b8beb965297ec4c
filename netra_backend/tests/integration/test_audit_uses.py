"""Uses of secrets by the platform: one entry for an actor, an object and a minute, with how often."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import ClassVar

import pytest

from netra_backend.errors import Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.observability.audit import reading, uses
from netra_backend.observability.audit.uses import MINUTE_US, UseLedger
from netra_backend.testing.clock import FakeClock
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.provider import Provider

from ..support.platform import accept, add_endpoint, platform
from ..support.storage import eventually
from ..support.vaults import FAST, NAME, connect

ACME = Scope("acme", "tester")


async def entries_of(netra, action):
    return await netra.audit.search(ACME, reading.Filter(action=action))


async def test_signatures_and_tokens_are_counted_by_the_minute_and_written_at_the_end_at_the_latest(tmp_path):
    async with MisbehavingEndpoint() as receiver, Provider() as provider, platform(tmp_path, **{**FAST, "workers": True}) as netra:
        endpoint = await add_endpoint(netra, receiver.url)
        await connect(netra, provider, expires_in=3600)
        for number in range(3):
            await accept(netra, {"n": number})
        await eventually(lambda: len(receiver.received) == 3)
        with netra.scope(tenant="acme", actor="ada"):
            for _ in range(5):
                await netra.oauth.token("acme", NAME)
            assert netra.oauth.token_at_hand("acme", NAME)
            await asyncio.to_thread(netra.sync.oauth.token, "acme", NAME)  # from memory, without a way to the loop
            await netra.oauth.refresh("acme", NAME)
            await netra.oauth.renew("acme", NAME)  # shows the token to nobody
            await netra.sso.issue("acme", "u1", audience=["orders"], issuer="http://netra")
        assert await netra.oauth.token("acme", NAME)  # nobody says who
        await netra._uses.flush(netra.database)
        assert await entries_of(netra, "endpoint.secret.use") == []  # the minute is not over
    async with platform(tmp_path, workers=False) as netra:
        signed, used = await entries_of(netra, "endpoint.secret.use"), await entries_of(netra, "connection.token.use")
        assert {(each.actor, each.target) for each in signed} == {("webhooks", endpoint.id.hex())}
        assert sum(each.after["count"] for each in signed) == 3
        counts = Counter({(each.actor, each.target): 0 for each in used})
        for each in used:  # a minute may have ended meanwhile
            counts[each.actor, each.target] += each.after["count"]
        assert counts == {("ada", NAME): 8, ("library", NAME): 1}
        (spoken,) = await entries_of(netra, "signing_key.use")
        assert (spoken.actor, spoken.target, spoken.after["count"]) == ("ada", "u1", 1)


async def test_a_minute_is_written_once_it_is_over_and_kept_where_it_cannot_be(tmp_path):
    class Refusing:
        async def write(self, *_, **__):
            raise Unavailable("not now")

    ledger = UseLedger(Runtime(clock=(clock := FakeClock())))
    for _ in range(4):
        ledger.note("acme", "ada", "thing.use", "one")
    await clock.advance(MINUTE_US / 1e6)
    ledger.note("acme", "ada", "thing.use", "one")
    ledger.meter("acme", "ada", "thing.use", "never")
    async with platform(tmp_path, workers=False) as netra:
        await clock.advance(2 * MINUTE_US / 1e6)
        await ledger.flush(Refusing())
        await ledger.flush(netra.database)
        found = await entries_of(netra, "thing.use")
        assert sorted(each.after["count"] for each in found) == [1, 4]
        assert len({each.after["minute_us"] for each in found}) == 2
        await ledger.flush(netra.database, whole=True)
        assert len(await entries_of(netra, "thing.use")) == 2


async def test_a_flush_that_is_cut_off_or_fails_in_the_middle_loses_no_count():
    class Halting:
        """Takes the first write, then fails as it is told."""

        def __init__(self, error):
            self.error, self.taken = error, []

        async def write(self, fn, uses, **_):
            if self.taken:
                raise self.error
            self.taken += uses

    for error in (asyncio.CancelledError(), RuntimeError("no error of ours"), Unavailable("not now")):
        ledger = UseLedger(Runtime(clock=FakeClock()))
        for actor in ("ada", "bob", "eve"):
            for _ in range(3):
                ledger.note("acme", actor, "thing.use", "one")
        halting = Halting(error)
        with nullcontext() if isinstance(error, Unavailable) else pytest.raises(type(error)):
            await ledger.flush(halting, whole=True)
        assert [(use[1], count) for use, count in halting.taken] == [("ada", 3)]
        assert {use[1]: count for use, count in ledger._unwritten.items()} == {"bob": 3, "eve": 3}


async def test_the_uses_of_one_actor_that_cannot_be_written_keep_those_of_no_other_waiting():
    class Refusing:
        taken: ClassVar = []

        async def write(self, fn, uses, *, scope, **_):
            if scope.actor == "ada":
                raise Unavailable("not hers")
            self.taken += [use[1] for use, _ in uses]

    ledger = UseLedger(Runtime(clock=FakeClock()))
    for actor in ("ada", "bob"):
        ledger.note("acme", actor, "thing.use", "one")
    await ledger.flush(Refusing(), whole=True)
    assert (Refusing.taken, [use[1] for use in ledger._unwritten]) == (["bob"], ["ada"])


def test_a_process_that_uses_very_many_secrets_keeps_a_bounded_count(monkeypatch):
    monkeypatch.setattr(uses, "MOST_KEPT", 3)
    ledger = UseLedger(Runtime(clock=FakeClock()))
    for number in range(10):
        ledger.note("acme", "ada", "thing.use", str(number))
    assert {use[3]: meter.read() for use, meter in ledger._meters.items()} == {"0": 1, "1": 1, "2": 1, uses.OTHERS: 7}


def test_threads_that_use_one_secret_at_once_are_each_counted():
    ledger = UseLedger(Runtime(clock=FakeClock()))

    def use(meter):
        for _ in range(5000):
            meter.hit()
            ledger.note("acme", "ada", "thing.use", "one")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, [ledger.meter("acme", "ada", "thing.use", "one") for _ in range(8)]))
    assert [meter.read() for meter in ledger._meters.values()] == [80_000]
