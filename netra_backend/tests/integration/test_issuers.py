"""An issuer's keys: fetched once for all, kept through outages and rotations, safe from floods; and verdicts, exact to the second."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import TokenRejected
from netra_backend.oauth.errors import IssuerUnreachable
from netra_backend.oauth.issuers import COOLDOWN_S, FRESH_S, OUTAGE_PAUSE_S, STALE_S, Issuers
from netra_backend.oauth.validator import MOST_VERDICTS, Judges, Question
from netra_backend.resilience.egress import Egress
from netra_backend.testing.clock import FakeClock

from ..support.issuers import issuing
from ..support.tokens import AUDIENCE, claims, elliptic, public, rsa, sign

SCOPE = Scope("acme", "tester")
KEYS = "/jwks"


class Bench:
    """An issuer, a judge of its tokens, and a clock."""

    def __init__(self, issuer, clock, judges, issuers):
        self.issuer, self.clock, self.judges, self.issuers = issuer, clock, judges, issuers
        self.judge = judges.get(SCOPE, Question.of(issuer.url, AUDIENCE, ("RS256", "ES256")))

    def token(self, key=None, kid=None, *, exp=300, **changes):
        key = key or rsa()
        now = self.clock.wall_us() // 1_000_000
        algorithm = "ES256" if key.key_type == "EC" else "RS256"
        said = claims(iss=self.issuer.url, iat=now, exp=now + exp, **changes)
        return sign({"alg": algorithm, "kid": kid or key.kid}, said, key)

    async def verdict(self, token, **options):
        try:
            await self.judge.validate(token, **options)
        except TokenRejected as error:
            return error.code
        return None


@asynccontextmanager
async def bench(*keys):
    clock = FakeClock()
    async with issuing(*keys) as issuer, Egress(Runtime(), any_loopback_port=True, keep=False) as egress:
        issuers = Issuers(Runtime(clock=clock), egress, 5.0)
        yield Bench(issuer, clock, Judges(Runtime(clock=clock), issuers), issuers)
        await issuers.stop()


async def test_a_thousand_tokens_at_once_fetch_the_keys_once():
    async with bench() as b:
        tokens = [b.token(sub=str(number)) for number in range(1000)]
        assert set(await asyncio.gather(*map(b.verdict, tokens))) == {None}
        assert b.issuer.count(KEYS) == 1


async def test_a_rotation_just_before_signing_is_seen_by_the_first_token_under_the_new_key():
    async with bench() as b:
        assert await b.verdict(b.token()) is None
        b.issuer.keys = [rsa(), elliptic(kid="new")]
        assert await b.verdict(b.token(elliptic(kid="new"))) is None
        assert await b.verdict(b.token()) is None
        assert b.issuer.count(KEYS) == 2


async def test_all_who_come_with_a_new_key_while_it_is_looked_for_wait_for_that():
    async with bench() as b:
        assert await b.verdict(b.token()) is None
        b.issuer.keys = [rsa(), elliptic(kid="new")]
        tokens = [b.token(elliptic(kid="new"), sub=str(number)) for number in range(20)]
        assert set(await asyncio.gather(*map(b.verdict, tokens))) == {None}
        assert b.issuer.count(KEYS) == 2


@pytest.mark.parametrize("address", ["http://[", "https://[::1", "http://a]b", "\u2100://x", 5, None])
async def test_keys_at_an_address_that_is_none_are_keys_that_cannot_be_fetched(address):
    async with bench() as b:
        b.issuer.metadata["jwks_uri"] = address
        for _ in range(2):
            with pytest.raises(IssuerUnreachable):
                await b.judge.validate(b.token())
        assert b.issuer.count("/.well-known/openid-configuration") == 1


async def test_a_flood_of_unknown_keys_fetches_once_in_an_interval_and_good_tokens_pass():
    async with bench() as b:
        good = b.token(sub="good")
        for interval in range(1, 4):
            flood = [b.token(kid=f"k{interval}-{number}") for number in range(200)]
            for part in (flood[:100], flood[100:]):  # those who come once the first ones have been told cause no fetch either
                verdicts = await asyncio.gather(*map(b.verdict, part), b.verdict(good))
                assert (set(verdicts[:-1]), verdicts[-1]) == ({"unknown_key"}, None)
            assert b.issuer.count(KEYS) == 1 + interval
            await b.clock.advance(COOLDOWN_S)


async def test_known_keys_serve_through_an_outage_for_a_day_and_no_longer():
    async with bench() as b:
        assert await b.verdict(b.token()) is None
        b.issuer.down = 503
        await b.clock.advance(STALE_S - 1)
        assert await b.verdict(b.token(sub="late")) is None
        await b.clock.advance(1)
        with pytest.raises(IssuerUnreachable, match="503"):
            await b.judge.validate(b.token(sub="too late"))
        b.issuer.down = None
        await b.clock.advance(OUTAGE_PAUSE_S)
        assert await b.verdict(b.token(sub="again")) is None


async def test_an_outage_is_asked_once_in_a_pause_whoever_waits():
    async with bench() as b:
        b.issuer.down = 503
        for _ in range(3):
            with pytest.raises(IssuerUnreachable):
                await b.judge.validate(b.token())
        assert b.issuer.count("/.well-known/openid-configuration") == 1


async def test_keys_that_are_not_fresh_serve_while_they_are_fetched_again():
    async with bench() as b:
        token = b.token(exp=3600)
        assert await b.verdict(token) is None
        await b.clock.advance(FRESH_S)
        b.issuer.held = asyncio.Event()
        async with asyncio.timeout(30):
            assert await b.verdict(token) is None
            assert await b.verdict(b.token(sub="another")) is None
        b.issuer.held.set()
        await asyncio.gather(*b.issuers._background)
        assert b.issuer.count(KEYS) == 2


async def test_a_withdrawn_key_ends_the_verdicts_that_it_gave():
    async with bench(rsa(), elliptic()) as b:
        token, other = b.token(exp=7200), b.token(elliptic(), exp=7200)
        assert [await b.verdict(token), await b.verdict(other)] == [None, None]
        b.issuer.keys = [elliptic()]
        await b.clock.advance(FRESH_S)
        await b.verdict(other)
        await asyncio.gather(*b.issuers._background)
        assert [await b.verdict(token), await b.verdict(other)] == ["unknown_key", None]


@pytest.mark.parametrize(
    "keys", [b"no json", {"keys": []}, {"keys": [{"kty": "EC"}]}, b"x" * 300_000], ids=["text", "none", "broken", "huge"]
)
async def test_an_answer_that_holds_no_keys_does_not_replace_those_that_are_known(keys):
    async with bench() as b:
        assert await b.verdict(b.token()) is None
        b.issuer.keys = keys
        await b.clock.advance(FRESH_S)
        await b.verdict(b.token(sub="first"))
        await asyncio.gather(*b.issuers._background)
        assert await b.verdict(b.token(sub="second")) is None
        assert b.issuer.count(KEYS) == 2


async def test_a_verdict_does_not_outlive_the_keys_of_an_issuer_that_was_forgotten_and_asked_anew():
    async with bench() as b:
        token = b.token()
        assert await b.verdict(token) is None
        b.issuers.forget(SCOPE.tenant, b.issuer.url)  # as happens to one that a thousand others came after
        b.issuer.keys = [rsa("another")]
        assert await b.verdict(token) == "unknown_key"


async def test_metadata_of_another_issuer_is_not_believed():
    async with bench() as b:
        b.issuer.metadata = {"issuer": "https://evil.example"}
        with pytest.raises(IssuerUnreachable, match="another issuer"):
            await b.judge.validate(b.token())


async def test_what_one_tenant_fetched_is_not_another_tenants():
    async with bench() as b:
        assert await b.verdict(b.token()) is None
        other = b.judges.get(Scope("globex", "tester"), Question.of(b.issuer.url, AUDIENCE))
        assert (await other.validate(b.token())).subject == "u1"
        assert b.issuer.count(KEYS) == 2


async def test_a_verdict_ends_with_its_token_by_either_clock():
    async with bench() as b:
        forward, back = b.token(exp=300, sub="forward"), b.token(exp=300, sub="back")
        assert [await b.verdict(forward), await b.verdict(back)] == [None, None]
        await b.clock.advance(329)
        assert await b.verdict(forward) is None
        b.clock.step_wall(-3600)  # an hour back: nothing comes to life again
        await b.clock.advance(1)
        assert await b.verdict(back) == "expired"
        b.clock.step_wall(7200)
        fresh = b.token(exp=300, sub="fresh")
        assert await b.verdict(fresh) is None
        b.clock.step_wall(330)
        assert await b.verdict(fresh) == "expired"


async def test_a_verdict_is_not_judged_twice_until_it_is_flushed(monkeypatch):
    async with bench() as b:
        judged = []
        monkeypatch.setattr("netra_backend.oauth.validator.validate", lambda token, **_: judged.append(token) or _claims(b))
        token = b.token()
        for _ in range(3):
            assert await b.verdict(token) is None
        assert len(judged) == 1
        b.judges.flush()
        assert await b.verdict(token) is None
        assert len(judged) == 2


def _claims(b):
    from netra_backend.oauth.validation import Claims

    now = b.clock.wall_us() // 1_000_000
    return Claims({"iss": b.issuer.url, "aud": AUDIENCE, "exp": now + 60}, {"alg": "RS256"}, (AUDIENCE,))


async def test_rejections_push_no_verdict_out_and_their_number_is_bounded():
    async with bench() as b:
        good = b.token()
        assert await b.verdict(good) is None
        for number in range(50):
            await b.verdict(b.token(aud="another", sub=str(number)))
        assert len(b.judge) == 1
        assert MOST_VERDICTS <= 100_000


async def test_a_question_without_issuer_or_audience_is_none():
    async with bench() as b:
        for question in (Question.of("", AUDIENCE), Question.of(b.issuer.url, ())):
            with pytest.raises(InvalidInput, match="issuer and an audience"):
                b.judges.new(SCOPE, question)


async def test_a_judge_with_keys_asks_nobody():
    async with bench() as b:
        judge = b.judges.new(SCOPE, Question.of(b.issuer.url, AUDIENCE), public(rsa()))
        assert (await judge.validate(b.token())).subject == "u1"
        with pytest.raises(TokenRejected, match="key id"):
            await judge.validate(b.token(kid="unknown"))
        assert b.issuer.asked == []
