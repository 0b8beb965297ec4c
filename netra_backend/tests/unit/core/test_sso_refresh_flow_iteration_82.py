"""Iteration 82: the SSO refresh flow. The real watch over providers and the real judge of tokens; database and network are mocked."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import TokenRejected
from netra_backend.oauth.issuers import Known
from netra_backend.oauth.keys import Keys
from netra_backend.oauth.sso import store
from netra_backend.oauth.sso.model import Provider
from netra_backend.oauth.sso.rotation import Rotation
from netra_backend.oauth.sso.settings import SsoSettings
from netra_backend.oauth.sso.watch import Probed, Watch
from netra_backend.oauth.validator import Judge, Question
from netra_backend.testing.clock import FakeClock

from ...support.tokens import AUDIENCE, ISSUER, NOW, public, rsa, token


def provider(name, rank):
    return Provider(b"", name, rank, True, name, f"https://{name}.example", "id", f"https://{name}.example/authorize")


class TestSSORefreshFlow:
    async def test_provider_rotation_on_failure(self):
        """Three failed probes in a row lead new logins to the linked backup, once and with its reason; two do not."""
        providers, rotations = [provider("first", 0), provider("backup", 1)], [Rotation("first")]
        answers = {store.both: lambda: (providers, rotations[-1]), store.providers: lambda: providers}
        reads = {**answers, store.rotation: lambda: (rotations[-1], len(rotations))}
        told, reason = [], {"token": "timeout"}
        database = MagicMock()
        database.read = AsyncMock(side_effect=lambda fn, *_, **__: reads.get(fn, MagicMock)())
        database.write = AsyncMock(side_effect=lambda _fn, _seen, now, flip, **_: (rotations.append(now), told.append(flip)))
        probe = AsyncMock(side_effect=lambda _scope, issuer, _client: Probed(issuer, {"metadata": "", **reason}))
        watch = Watch(database, Runtime(clock=FakeClock()), SsoSettings(), MagicMock(), MagicMock(), MagicMock(probe=probe))
        for _ in range(2):
            await watch.look_at("acme", "https://first.example")
        assert (rotations[-1].active, [each for each in told if each]) == ("first", [])
        await watch.look_at("acme", "https://first.example")
        assert rotations[-1].active == "backup"
        assert [(each.reason, each.origin, each.target) for each in told if each] == [("down", "first", "backup")]

    async def test_token_expiry_validation(self):
        """A token holds until the leeway after its end is over, by either clock, also where a verdict is remembered."""
        clock = FakeClock(wall_us=NOW * 1_000_000)
        issuers = MagicMock(known=AsyncMock(return_value=Known(keys=Keys.of(public(rsa())))), peek=MagicMock(return_value=None))
        judge = Judge(Runtime(clock=clock), issuers, Scope("acme", "tester"), Question.of(ISSUER, AUDIENCE, leeway_s=30))
        given = token(exp=NOW + 60)
        assert (await judge.validate(given)).subject == "u1"
        await clock.advance(89)
        assert (await judge.validate(given)).expires_at == NOW + 60
        for step_s in (0, -3600):  # an hour back revives nothing
            clock.step_wall(step_s)
            await clock.advance(1)
            with pytest.raises(TokenRejected) as caught:
                await judge.validate(given)
            assert caught.value.code == "expired"
