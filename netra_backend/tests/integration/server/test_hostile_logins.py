"""The table of hostile tokens through a whole login: what validation says of each is what the person hears.

On SQLite alone: the engine takes no part in what is believed of a token (`test_login.py` runs logins on both).
"""

from __future__ import annotations

import warnings
from urllib.parse import parse_qs, urlsplit

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.oauth.issuers import Known
from netra_backend.oauth.keys import Keys
from netra_backend.oauth.sso.errors import LoginRefused
from netra_backend.testing.clock import FakeClock

from ...support.hostile_tokens import all_cases
from ...support.issuers import issuing
from ...support.server import new_netra
from ...support.tokens import AUDIENCE, ISSUER, NOW, public, rsa

TENANT = "acme"


async def test_every_hostile_token_is_refused_by_the_login_too(tmp_path):
    clock = FakeClock(wall_us=NOW * 1_000_000)
    async with new_netra(tmp_path, runtime=Runtime(clock=clock), lease_ttl="600s") as netra, issuing() as issuer:
        places = {"token": [f"{issuer.url}/token"], "authorize": f"{issuer.url}/authorize"}
        await netra.oauth.set_client(TENANT, "id", {"issuer": ISSUER, "client_id": AUDIENCE, "endpoints": places})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joserfc warns of the weak keys that some of these are signed by
            cases = list(all_cases())
        seen = 0  # of those that a token endpoint's answer carries: no halves of pairs, no megabytes
        for case in cases:
            carried = isinstance(case.token, str) and "\ud800" not in case.token and len(case.token) < 60_000
            if not carried or any(each.startswith("HS") for each in case.algorithms):
                continue
            await netra.sso.set_provider(TENANT, "id", {"client": "id", "default_role": "viewer", "algorithms": list(case.algorithms)})
            keys = Keys.of(public(rsa()) if case.keys is None else case.keys)
            netra.oauth.issuers._known[TENANT, ISSUER] = Known({"issuer": ISSUER}, clock.monotonic(), keys, b"", seen, clock.monotonic())
            netra.oauth.issuers._known[TENANT, ISSUER].searched_at = clock.monotonic()
            issuer.token = lambda _, case=case: (200, {"access_token": "at", "id_token": case.token})
            address, browser = await netra.sso.logins.begin(TENANT, "http://netra/back", "/ui/overview")
            state = parse_qs(urlsplit(address).query)["state"][0]
            with pytest.raises(LoginRefused) as refused:
                await netra.sso.logins.finish({"state": state, "code": "c", "iss": ISSUER}, browser)
            assert refused.value.reason == (case.verdict or "wrong_nonce"), case.name
            seen += 1
        assert seen >= 120
