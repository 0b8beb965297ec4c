"""People log in: to a provider and back (OpenID Connect, code and PKCE), and sessions of the pages.

- The way is bound to the browser that began it: `state` comes back with a cookie that this browser alone has, and both are good once.
- What comes back is believed if the right issuer says so: `iss` of the response (RFC 9207) where it is there or was promised, then the ID
  token by that issuer's keys, for our client, with this way's `nonce`, by the configured algorithms alone.
- The code is sent once; where its answer is lost the user logs in again. No endpoint and no secret of another issuer ever sees it.
- A session is a random text of which the table has a keyed hash. It ends when idle, at its absolute end, and at `log_out`, never later. At
  a backup provider it is shorter and tagged.
- The provider's refresh token, where it gives one, is kept sealed, and used once in `REFRESH_S`, in the background (`renewal.py`). A
  definite refusal ends the session; an outage does not: that is what the session's own end is for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from ...errors import NetraError
from ...kernel.failpoints import declare
from ...kernel.runtime import Runtime
from ...kernel.scope import SYSTEM_TENANT, Scope, system_scope
from ...storage.database import Database
from ...storage.sealing import Sealer
from .. import store as vault_store
from ..answers import Kind, Outcome, is_token
from ..breakers import CODE
from ..errors import TokenRejected
from ..jws import encoded
from ..model import Client
from ..service import OAuth
from ..validator import Question
from . import sessions, store
from .errors import LoginRefused
from .model import Provider, is_subject
from .renewal import Renewals
from .sessions import PURPOSE, Session, Way
from .settings import SsoSettings

BEFORE_CODE: Final = declare("sso.code_before_send", "a login's way is used up for good, its code was not sent")
_SYSTEM: Final = system_scope("login")
MOST_OFFERED: Final = 100
MOST_FORGOTTEN: Final = 1000
"""In one transaction."""

ACCESS_TOKENS: Final = frozenset({"at+jwt", "application/at+jwt"})
"""Kinds of a token that says what somebody may do, not who has come (RFC 9068 section 2.1), though the same keys sign both."""


class Logins:
    """See the module's docstring."""

    def __init__(
        self, database: Database, runtime: Runtime, settings: SsoSettings, sealer: Sealer, vault: OAuth, hint: Callable[[str, str], None]
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._sealer = sealer
        self._refresher = vault.refresher
        self._issuers = vault.issuers
        self._judges = vault.judges
        self._hint = hint
        self._hash_key: bytes | None = None
        self.renewals = Renewals(database, runtime, sealer, vault)

    async def offered(self) -> tuple[bool, bool]:
        """Whether operators can log in by a provider, and whether the people of some tenant can."""
        found = [tenant for tenant, enabled in await self._database.read(store.tenants_to_watch, MOST_OFFERED, scope=_SYSTEM) if enabled]
        return SYSTEM_TENANT in found, any(tenant != SYSTEM_TENANT for tenant in found)

    async def begin(self, tenant: str, redirect_uri: str, target: str) -> tuple[str, str]:
        """Where to send the browser, and the cookie that it must bring back."""
        scope = Scope(tenant, "login")
        found, rotation = await self._database.read(store.both, scope=scope)
        name = rotation.choose(int.from_bytes(self._runtime.chance.token(4), "big") / 2**32 * 100)
        provider = next((each for each in found if each.name == name and each.enabled), None)
        if provider is None:
            raise LoginRefused("no_provider")
        state, browser, nonce, verifier = (self._secret() for _ in range(4))
        client: Client = await self._read(scope, vault_store.client_named, provider.client)
        hashes = sessions.hashed("state", state), sessions.hashed("browser", browser)
        await self._write(scope, sessions.begin, provider, hashes, (nonce, verifier), (redirect_uri, target))
        asked = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(["openid", *client.scopes])),
            "state": state,
            "nonce": nonce,
            "code_challenge": encoded(hashlib.sha256(verifier.encode()).digest()).decode(),
            "code_challenge_method": "S256",
        }
        glue = "&" if "?" in provider.authorize_endpoint else "?"
        return provider.authorize_endpoint + glue + urlencode(asked), browser

    async def finish(self, answer: Mapping[str, str], browser: str) -> tuple[str, Session, str]:
        """Whoever came back: the text of his session's cookie, the session, and where he wanted to go; `LoginRefused` otherwise."""
        found = await self._database.read(sessions.way_by_state, sessions.hashed("state", answer.get("state", "")), scope=_SYSTEM)
        if found is None:
            raise LoginRefused("unknown_state")
        tenant, id_ = found
        scope = Scope(tenant, "login")
        way: Way | None = await self._write(scope, sessions.consume, id_)
        if way is None:
            raise LoginRefused("unknown_state")
        if not hmac.compare_digest(way.browser, sessions.hashed("browser", browser)):
            raise LoginRefused("wrong_browser")
        provider, client, is_first = await self._provider(scope, way)
        await self._check_issuer(scope, provider, answer)
        if "error" in answer or not answer.get("code"):
            raise LoginRefused(answer.get("error", "no_code")[:64])
        members = await self._redeemed(scope, client, provider, way, answer["code"])
        claims = await self._judged(scope, provider, way, members)
        refresh = members.get("refresh_token")
        kept = refresh if is_token(refresh) else None
        text = self._secret()
        hashed = await self._hashed(text)
        session = await self._write(scope, sessions.log_in, self._settings, provider, claims, kept, hashed, is_first=is_first)
        if isinstance(session, str):
            raise LoginRefused(session)
        return text, session, way.target

    async def session(self, text: str) -> Session | None:
        """Who has this cookie, if his session lives; it is idle from now on."""
        found: Session | None = await self._database.read(sessions.by_hash, await self._hashed(text), scope=_SYSTEM)
        if found is None or not found.lives(self._runtime.clock.wall_us()):
            return None
        await self._database.write(sessions.touch, found, self._settings, scope=Scope(found.tenant, found.actor))
        return found

    async def log_out(self, session: Session, *, everywhere: bool = False) -> int:
        """End a session, or all of that person's; how many ended."""
        ended: int = await self._database.write(sessions.end, session, everywhere, scope=Scope(session.tenant, session.actor))
        self._judges.flush()
        return ended

    async def look(self) -> None:
        """What one process does for all: begin to renew what is due, forget what is over."""
        await self.renewals.begin_due()
        while await self._database.write(sessions.forget_ended, MOST_FORGOTTEN, scope=_SYSTEM, lane="bulk") >= MOST_FORGOTTEN:
            continue

    async def _provider(self, scope: Scope, way: Way) -> tuple[Provider, Client, bool]:
        """The way's own provider, if it is still that issuer's."""
        found: list[Provider] = await self._database.read(store.providers, scope=scope)
        enabled = [each for each in found if each.enabled]
        for each in enabled:
            if each.name == way.provider and each.issuer == way.issuer:
                client: Client | None = await self._read(scope, sessions.client_of, way.provider, way.issuer)
                if client is not None:
                    return each, client, each.issuer == enabled[0].issuer
        raise LoginRefused("no_provider")

    async def _check_issuer(self, scope: Scope, provider: Provider, answer: Mapping[str, str]) -> None:
        """RFC 9207 section 2.4: exact, and required where the issuer promises it."""
        if "iss" in answer:
            if answer["iss"] != provider.issuer:
                raise LoginRefused("wrong_issuer")
            return
        try:
            metadata = await self._issuers.metadata(scope, provider.issuer)
        except NetraError:
            self._hint(scope.tenant, provider.issuer)
            raise
        if metadata.get("authorization_response_iss_parameter_supported") is True:
            raise LoginRefused("wrong_issuer", "the response does not say whose it is")

    async def _redeemed(self, scope: Scope, client: Client, provider: Provider, way: Way, code: str) -> Mapping[str, Any]:
        members = {"grant_type": "authorization_code", "code": code, "redirect_uri": way.redirect_uri, "code_verifier": way.verifier}
        self._runtime.failpoints.hit(BEFORE_CODE)
        outcome = await self._sent(scope, client, members)
        if outcome.members is not None:
            return outcome.members
        if outcome.kind is not Kind.REJECTED:
            self._hint(scope.tenant, provider.issuer)
        raise LoginRefused(outcome.cause if outcome.kind is Kind.REJECTED else "outcome_unknown", outcome.cause)

    async def _sent(self, scope: Scope, client: Client, members: dict[str, str]) -> Outcome:
        outcome = Outcome(Kind.NOT_SENT, "no_endpoint")
        for endpoint in client.token_endpoints:
            outcome, _ = await self._refresher.post(scope, client, client.credentials()[0][1], endpoint, members, CODE)
            if outcome.kind is not Kind.NOT_SENT:
                break
        return outcome

    async def _judged(self, scope: Scope, provider: Provider, way: Way, members: Mapping[str, Any]) -> Mapping[str, Any]:
        """The claims of the ID token (OpenID Connect Core 3.1.3.7)."""
        token = members.get("id_token")
        if not isinstance(token, str):
            raise LoginRefused("malformed", "there is no ID token")
        question = Question.of(provider.issuer, provider.client_id, provider.algorithms)
        try:
            claims = await self._judges.get(scope, question).validate(token, nonce=way.nonce, access_token=members.get("access_token"))
        except TokenRejected as error:
            raise LoginRefused(error.code) from error
        if not is_subject(claims.subject):
            raise LoginRefused("bad_claim", "sub")
        if claims.issued_at is None:
            raise LoginRefused("missing_claim", "iat")
        if str(claims.header.get("typ", "")).lower() in ACCESS_TOKENS:
            raise LoginRefused("forbidden_header", "typ")
        if set(claims.audience) != {provider.client_id} and claims.get("azp") != provider.client_id:
            raise LoginRefused("wrong_audience", "azp")  # who else may be meant by it is nobody that we know
        return claims

    async def _hashed(self, text: str) -> bytes:
        """What stands for a session's text; the key of it is derived once, and is the installation's."""
        if self._hash_key is None:
            self._hash_key = await self._database.write(self._sealer.derive, SYSTEM_TENANT, PURPOSE, scope=_SYSTEM)
        return sessions.keyed(self._hash_key, text)

    def _secret(self) -> str:
        return encoded(self._runtime.chance.token(32)).decode()

    async def _read(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments)

        return await self._database.read(run, scope=scope)

    async def _write(self, scope: Scope, fn: Any, *arguments: Any, **options: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments, **options)

        return await self._database.write(run, scope=scope)
