"""Nothing crosses issuers: whatever is set up, changed, begun, finished, renewed and lied about, each sees only what is its own.

Two issuers sign by one key and know us by one name, so that nothing but the rules keeps them apart. Whatever one of them makes names it:
its codes, its tokens, its subjects. The third rule of a walk is to re-register a provider at the other issuer in the midst of all that.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from netra_backend.errors import NetraError
from netra_backend.kernel.scope import Scope
from netra_backend.storage.statements import statement

from ..support.issuers import issuing
from ..support.sign_on import signing_on
from ..support.tokens import claims, rsa, sign

NAMES = ("one", "two")
PROVIDERS = ("first", "backup")
SESSIONS = statement("select issuer, subject from netra_sso_session where tenant = :tenant")
DUE = statement("update netra_sso_session set due_us = 1 where tenant = :tenant")
WHICH = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pin"), WHICH),
        st.tuples(st.just("log_in"), st.integers(1, 2)),
        st.tuples(st.just("begin"), st.integers(1, 2)),
        st.tuples(st.just("finish"), WHICH, WHICH, st.booleans()),
        st.tuples(st.just("lie"), WHICH, st.booleans()),
        st.tuples(st.just("renew"), st.none()),
        st.tuples(st.just("repoint"), WHICH, WHICH),
        st.tuples(st.just("connect"), WHICH),
        st.tuples(st.just("refresh"), WHICH),
    ),
    min_size=10,
    max_size=30,
)


class World:
    """One tenant with two providers, and what its issuers saw."""

    def __init__(self, netra, issuers, tenant):
        self.netra, self.issuers, self.tenant = netra, issuers, tenant
        self.at = dict(zip(PROVIDERS, (0, 1), strict=True))
        self.numbers = itertools.count(1)
        self.ways, self.lies, self.sessions = [], [False, False], 0
        for number, issuer in enumerate(issuers):
            issuer.forms.clear()
            issuer.token = lambda form, number=number: self.answer(number, form)

    def answer(self, number, form):
        """What an issuer gives for a code or a token, in its own name or, where it lies, in the other's."""
        name = NAMES[number]
        said = NAMES.index(name) ^ self.lies[number]
        now = self.netra.runtime.clock.wall_us() // 1_000_000
        nonce, subject = form.get("code", "--").split("-")[-2:]
        about = claims(
            iss=self.issuers[said].url, aud="netra", sub=f"{NAMES[said]}-{subject}", nonce=nonce.replace(".", "-"), iat=now, exp=now + 60
        )
        made = {"access_token": f"{name}-at", "refresh_token": f"{name}-rt-{next(self.numbers)}", "expires_in": 0}
        return 200, {**made, "id_token": sign({"alg": "RS256", "kid": "r1"}, about, rsa())}

    async def set_up(self):
        await self.netra.tenant(self.tenant)
        for which in (0, 1):
            await self.repoint(which, which)
        for subject in ("1", "2"):
            await self.netra.sso.link(self.tenant, "first", f"one-{subject}", "backup", f"two-{subject}")

    async def repoint(self, which, number):
        provider = PROVIDERS[which]
        registration = {"issuer": self.issuers[number].url, "client_id": "netra", "auth": "post", "scopes": ["openid"]}
        await self.netra.oauth.set_client(self.tenant, provider, {**registration, "client_secrets": [f"{NAMES[number]}-secret"]})
        self.at[provider] = number
        await self.netra.sso.set_provider(self.tenant, provider, {"client": provider, "rank": which, "default_role": "viewer"})

    async def pin(self, which):
        await self.netra.sso.pin(self.tenant, PROVIDERS[which])

    async def begin(self, subject):
        address, cookie = await self.netra.sso.logins.begin(self.tenant, "http://netra/back", "/ui/overview")
        asked = {name: value[0] for name, value in parse_qs(urlsplit(address).query).items()}
        number = next(number for number, issuer in enumerate(self.issuers) if address.startswith(issuer.url))
        self.ways.append((number, asked, cookie, subject))

    async def finish(self, which, other, silent):
        """One comes back on a way from its issuer, or from the `other` one, who says so or keeps silent about it."""
        if self.ways:
            number, asked, cookie, subject = self.ways.pop(-1 if which else 0)
            number ^= other
            answer = {"state": asked["state"], "code": f"{NAMES[number]}-code-{asked['nonce'].replace('-', '.')}-{subject}"}
            answer |= {} if silent else {"iss": self.issuers[number].url}
            await self.netra.sso.logins.finish(answer, cookie)
            self.sessions += 1

    async def log_in(self, subject):
        await self.begin(subject)
        await self.finish(1, 0, silent=False)

    async def lie(self, number, lies):
        self.lies[number] = lies

    async def renew(self, _):
        async def make_due(tx):
            await tx.execute(DUE)

        await self.netra.database.write(make_due, scope=Scope(self.tenant, "tester"))
        await self.netra.sso.logins.renewals.renew_due()

    async def connect(self, which):
        provider = PROVIDERS[which]
        tokens = {"refresh_token": f"{NAMES[self.at[provider]]}-rt-{next(self.numbers)}"}
        await self.netra.oauth.import_(self.tenant, f"user-{which}", provider, tokens)

    async def refresh(self, which):
        await self.netra.oauth.refresh(self.tenant, f"user-{which}")

    async def check(self):
        for name, issuer in zip(NAMES, self.issuers, strict=True):
            for form in issuer.forms:
                for member in ("code", "refresh_token", "client_secret"):
                    assert form.get(member, name).startswith(name) or form[member] == "netra-probe", (name, form)

        async def rows(tx):
            return await tx.all(SESSIONS)

        for issuer, subject in await self.netra.database.read(rows, scope=Scope(self.tenant, "tester")):
            number = [each.url for each in self.issuers].index(issuer)
            assert subject.startswith(NAMES[number]), (issuer, subject)


def test_no_code_token_secret_or_subject_goes_to_another_issuer_whatever_is_done():
    done = {"tenants": 0, "sessions": 0, "renewed": 0}

    async def walk(netra, issuers, steps):
        done["tenants"] += 1
        world = World(netra, issuers, f"tenant-{done['tenants']}")
        await world.set_up()
        for kind, *arguments in steps:
            with contextlib.suppress(NetraError):
                await getattr(world, kind)(*arguments)
            await world.check()
        done["sessions"] += world.sessions
        done["renewed"] += sum(form.get("grant_type") == "refresh_token" for issuer in issuers for form in issuer.forms)

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()

        async def opened():
            issuers = [await stack.enter_async_context(issuing(authorization_response_iss_parameter_supported=True)) for _ in NAMES]
            return await stack.enter_async_context(signing_on(Path(folder), oauth_breaker_failures=1000)), issuers

        netra, issuers = runner.run(opened())

        @settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
        @given(steps=STEPS)
        @example(steps=[("log_in", 1), ("repoint", 0, 1), ("renew", None)])
        @example(steps=[("connect", 0), ("repoint", 0, 1), ("refresh", 0)])
        @example(steps=[("begin", 1), ("repoint", 0, 1), ("finish", 1, 0, False)])
        def walks(steps):
            runner.run(walk(netra, issuers, steps))

        try:
            walks()
        finally:
            runner.run(stack.aclose())
    assert min(done["sessions"], done["renewed"]) > 10, done  # it was no walk past closed doors
