"""Logging in through an identity provider: what is believed, who gets in, and how a session ends."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope, system_scope
from netra_backend.oauth.sso import sessions
from netra_backend.storage.statements import statement
from netra_backend.testing.clock import FakeClock

from ...support.issuers import issuing
from ...support.server import API, actions, client_of, create_app, new_netra, tenant_key
from ...support.sign_on import add_provider
from ...support.storage import eventually
from ...support.tokens import claims, elliptic, rsa, sign

pytestmark = pytest.mark.usefixtures("every_server_engine")

TENANT = "acme"
WAY, SESSION = "__Host-netra-login", "__Host-netra-sso"


class Browser:
    """One person's browser, and what the issuer says of him."""

    def __init__(self, http, issuer, subject="u1"):
        self.http, self.issuer, self.subject = http, issuer, subject
        self.cookies = {}
        self.asked = {}
        issuer.token = self.token

    def token(self, form, **changes):
        """A good answer of the token endpoint, for the code that names the nonce."""
        nonce = form.get("code", "").removeprefix("code-")
        now = int(self.http.netra.runtime.clock.wall_us() // 1_000_000)
        said = claims(
            **{"iss": self.issuer.url, "aud": "netra", "sub": self.subject, "nonce": nonce, "iat": now, "exp": now + 60, **changes}
        )
        return 200, {"access_token": "at", "token_type": "Bearer", "id_token": sign({"alg": "RS256", "kid": "r1"}, said, rsa())}

    async def get(self, path, **params):
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.http.bare.get(path, params=params, headers={"cookie": cookies})
        self.take(answer)
        return answer

    def take(self, answer):
        for each in answer.headers.get_list("set-cookie"):
            name, _, rest = each.partition("=")
            value = rest.partition(";")[0]
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value

    async def begin(self, path=f"/ui/sso/{TENANT}", **params):
        sent = await self.get(path, **params)
        assert sent.status_code == 303, sent.text
        self.asked = {name: value[0] for name, value in parse_qs(urlsplit(sent.headers["location"]).query).items()}
        return sent

    async def back(self, **answer):
        """Come back as the provider sends one, changed."""
        given = {"state": self.asked["state"], "code": f"code-{self.asked['nonce']}", "iss": self.issuer.url, **answer}
        return await self.get("/ui/sso/callback", **{name: value for name, value in given.items() if value is not None})

    async def log_in(self):
        await self.begin()
        return await self.back()

    async def session(self):
        return await self.get("/ui/sso/session")


@asynccontextmanager
async def served(folder, **settings):
    async with new_netra(folder, sso_return="100ms", sso_dwell="100ms", sso_window="100ms", **settings) as netra:
        app = create_app(netra)
        async with client_of(app) as http, client_of(app, None) as bare:
            http.netra, http.bare = netra, bare
            assert (await http.post(f"{API}/tenants", json={"uid": TENANT})).status_code == 201
            yield http


@pytest.fixture
async def http(tmp_path):
    async with served(tmp_path) as http:
        yield http


@pytest.fixture
async def issuer(http):
    async with issuing() as issuer:
        await add_provider(http.netra, "first", issuer, role_claim="groups", roles={"admin": ["ops"]})
        yield issuer


@pytest.fixture
def browser(http, issuer):
    return Browser(http, issuer)


async def test_somebody_logs_in_looks_at_his_tenants_pages_and_logs_out(http, browser):
    sent = await browser.begin(to="/ui/webhooks")
    assert {
        "response_type": "code",
        "scope": "openid",
        "code_challenge_method": "S256",
        "client_id": "netra",
    }.items() <= browser.asked.items()
    assert "SameSite=Lax" in sent.headers["set-cookie"]
    done = await browser.back()
    assert (done.status_code, "/ui/webhooks" in done.text) == (200, True)
    assert any(
        each.startswith(SESSION) and "SameSite=Strict" in each and "HttpOnly" in each for each in done.headers.get_list("set-cookie")
    )
    assert set(browser.cookies) == {SESSION}
    shown = (await browser.session()).json()
    assert {"tenant": TENANT, "role": "viewer", "subject": "u1", "backup": False}.items() <= shown.items()
    assert (await browser.get("/ui/webhooks")).status_code == 200
    cookie = {"cookie": f"{SESSION}={browser.cookies[SESSION]}", "authorization": ""}
    assert (await http.post("/ui/sso/logout", headers={**cookie, "sec-fetch-site": "cross-site"})).status_code == 403
    assert (await http.post("/ui/sso/logout", headers=cookie)).status_code == 204
    assert (await browser.session()).status_code == 401
    assert (await browser.get("/ui/webhooks")).status_code == 401
    assert {"sso_identity.create", "sso_identity.role", "sso.login", "sso.logout"} <= set(await actions(http))


async def test_the_sign_in_page_leads_to_a_provider_only_where_one_is_set_up(tmp_path):
    async with served(tmp_path) as http, issuing() as issuer:
        shown = await http.bare.get("/ui/login")
        assert (shown.status_code, "provider" in shown.text) == (200, False)
        await add_provider(http.netra, "first", issuer)
        shown = (await http.bare.get("/ui/login")).text
        assert ('data-netra="session.by_tenants_provider"' in shown, 'href="/ui/sso"' in shown) == (True, False)
        own = {"client": {"issuer": issuer.url, "client_id": "netra"}, "default_role": "admin"}
        assert (await http.put(f"{API}/sso/providers/own", json=own)).status_code == 200
        await add_provider(http.netra, "first", issuer, enabled=False)
        shown = (await http.bare.get("/ui/login")).text
        assert ('data-netra="session.by_tenants_provider"' in shown, 'href="/ui/sso"' in shown) == (False, True)


async def test_the_pages_button_ends_a_login_at_a_provider(http, browser):
    await browser.log_in()
    page = (await browser.get("/ui/webhooks")).text
    cookie = {"cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    assert (await http.bare.delete("/ui/session", headers=cookie)).status_code == 403
    csrf = re.search(r'name="netra-csrf" content="([0-9a-f]+)"', page).group(1)
    gone = await http.bare.delete("/ui/session", headers={**cookie, "x-netra-csrf": csrf})
    assert (gone.status_code, f"{SESSION}=;" in gone.headers["set-cookie"]) == (204, True)
    assert (await browser.get("/ui/webhooks")).status_code == 401
    assert "sso.logout" in await actions(http)


async def test_a_way_is_good_once_and_in_the_browser_that_began_it(http, browser, issuer):
    await browser.begin()
    thief = Browser(http, issuer)
    thief.asked = browser.asked
    assert "wrong_browser" in (await thief.back()).text
    assert "unknown_state" in (await browser.back()).text  # it is used up, whoever used it
    await browser.begin()
    assert (await browser.back()).status_code == 200
    browser.cookies[WAY] = "again"
    assert "unknown_state" in (await browser.back()).text
    assert (await thief.get("/ui/sso/callback", state="nobody's")).status_code == 403


async def test_fifty_callbacks_of_one_way_make_one_session_and_send_the_code_once(http, browser, issuer):
    await browser.begin()
    cookie = {"cookie": f"{WAY}={browser.cookies[WAY]}"}
    given = {"state": browser.asked["state"], "code": f"code-{browser.asked['nonce']}", "iss": issuer.url}
    answers = await asyncio.gather(*(http.get("/ui/sso/callback", params=given, headers=cookie) for _ in range(50)))
    assert sorted(each.status_code for each in answers) == [200, *[403] * 49]
    assert issuer.count("/token") == 1


async def test_only_the_ways_own_issuer_is_believed(http, browser, issuer):
    for answer in ({"iss": "https://evil.example"}, {"iss": issuer.url + "/"}):
        await browser.begin()
        assert "wrong_issuer" in (await browser.back(**answer)).text
    issuer.metadata = {"authorization_response_iss_parameter_supported": True}
    http.netra.oauth.issuers.forget(TENANT, issuer.url)
    await browser.begin()
    assert "wrong_issuer" in (await browser.back(iss=None)).text
    assert issuer.count("/token") == 0
    await browser.begin()
    assert (await browser.back()).status_code == 200


async def test_what_the_provider_refuses_or_does_not_answer_lets_nobody_in(browser, issuer):
    await browser.begin()
    assert "access_denied" in (await browser.back(error="access_denied", code=None)).text
    await browser.begin()
    assert "no_code" in (await browser.back(code=None)).text
    for answer, reason in (
        ((400, {"error": "invalid_grant"}), "invalid_grant"),
        ((200, {"access_token": "at"}), "malformed"),
        ((503, {}), "outcome_unknown"),
    ):
        issuer.token = lambda _, answer=answer: answer
        await browser.begin()
        assert reason in (await browser.back()).text
    assert (await browser.session()).status_code == 401


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"nonce": "another"}, "wrong_nonce"), ({"nonce": None}, "wrong_nonce"), ({"aud": "other"}, "wrong_audience"), ({"exp": 1}, "expired"),
     ({"sub": None}, "bad_claim"), ({"sub": "a\u0000b"}, "bad_claim"), ({"sub": "x" * 256}, "bad_claim"), ({"at_hash": "wrong"}, "bad_claim"),
     ({"iss": "https://evil.example"}, "wrong_issuer"), ({"azp": "another"}, "wrong_audience"), ({"aud": ["netra", "bank"]}, "wrong_audience"),
     ({"iat": None}, "missing_claim"), ({"header": {"typ": "at+jwt"}}, "forbidden_header"),
     ({"header": {"typ": "Application/AT+JWT"}}, "forbidden_header")],
)  # fmt: skip
async def test_an_id_token_is_judged_whole(browser, issuer, changes, reason):
    def token(form):
        now = int(browser.http.netra.runtime.clock.wall_us() // 1_000_000)
        said = {"iss": issuer.url, "aud": "netra", "sub": "u1", "nonce": browser.asked["nonce"], "iat": now, "exp": now + 60, **changes}
        header = {"alg": "RS256", "kid": "r1", **said.pop("header", {})}
        said = {name: value for name, value in said.items() if value is not None}
        return 200, {"access_token": "at", "id_token": sign(header, said, rsa())}

    issuer.token = token
    await browser.begin()
    refused = await browser.back()
    assert (refused.status_code, reason in refused.text) == (403, True), refused.text
    assert SESSION not in browser.cookies


async def test_an_id_token_that_others_may_read_too_names_us_as_whoever_asked_for_it(browser, issuer):
    issuer.token = lambda form: browser.token(form, aud=["netra", "bank"], azp="netra")
    await browser.log_in()
    assert (await browser.session()).status_code == 200


async def test_claims_give_roles_and_who_has_none_is_let_in_nowhere(http, browser, issuer):
    browser.token = lambda form, _was=browser.token: _was(form, groups=["ops", "staff"])
    issuer.token = browser.token
    await browser.log_in()
    assert (await browser.session()).json()["role"] == "admin"
    await add_provider(http.netra, "first", issuer, default_role=None, role_claim="groups", roles={"admin": ["ops"]})
    another = Browser(http, issuer, "u2")
    assert "no_role" in (await another.log_in()).text


async def test_a_role_that_the_first_issuer_took_away_is_not_had_at_the_backup_either(http, browser, issuer):
    await add_provider(http.netra, "first", issuer, default_role=None, role_claim="groups", roles={"admin": ["ops"]})
    issuer.token = lambda form: browser.token(form, groups=["ops"])
    await browser.log_in()
    assert (await browser.session()).json()["role"] == "admin"
    issuer.token = browser.token
    assert "no_role" in (await browser.log_in()).text
    async with issuing() as backup:
        await add_provider(http.netra, "backup", backup, rank=1)
        await http.netra.sso.link(TENANT, "first", "u1", "backup", "b1")
        await http.netra.sso.pin(TENANT, "backup")
        refused = await Browser(http, backup, "b1").log_in()
        assert (refused.status_code, "no_role" in refused.text) == (403, True), refused.text


async def test_who_has_no_role_is_not_remembered(http, browser, issuer):
    await add_provider(http.netra, "first", issuer, default_role=None, role_claim="groups", roles={"admin": ["ops"]})
    before = await actions(http)
    assert "no_role" in (await browser.log_in()).text
    assert await actions(http) == before


async def test_sessions_of_a_tenant_whose_provider_hangs_keep_no_other_tenants_from_being_renewed(http, browser, issuer):
    good = browser.token
    issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    for _ in range(12):
        await browser.log_in()
    assert (await http.post(f"{API}/tenants", json={"uid": "other"})).status_code == 201
    async with issuing() as others:
        await add_provider(http.netra, "first", others, "other")
        another = Browser(http, others, "u2")
        well = another.token
        others.token = lambda form: (200, {**well(form)[1], "refresh_token": "rt-2"})
        await another.begin("/ui/sso/other")
        await another.back()
        issuer.held = asyncio.Event()
        await _all_due(http, TENANT, 1)
        await _all_due(http, "other", 2)
        asked = others.count("/token")
        due = await http.netra.database.read(sessions.due, 2, scope=system_scope("tester"))
        assert len({tenant for tenant, _ in due}) == 2  # though all of the other tenant's come before
        look = asyncio.create_task(http.netra.sso.logins.look())
        try:
            await eventually(lambda: others.count("/token") == asked + 1, 5)
        finally:
            issuer.held.set()
            await look


async def test_ways_that_are_over_are_forgotten_although_a_provider_hangs(http, browser, issuer):
    good = browser.token
    issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    await browser.log_in()
    await browser.begin()

    async def over(tx):
        await tx.execute(statement("update netra_sso_login set expires_us = 1 where tenant = :tenant"))

    async def left(tx):
        return len(await tx.all(statement("select id from netra_sso_login where tenant = :tenant")))

    scope = Scope(TENANT, "tester")
    await http.netra.database.write(over, scope=scope)
    await _all_due(http, TENANT, 1)
    issuer.held = asyncio.Event()
    look = asyncio.create_task(http.netra.sso.logins.look())

    async def are_gone():
        return await http.netra.database.read(left, scope=scope) == 0

    try:
        await eventually(are_gone, 5)
    finally:
        issuer.held.set()
        await look


async def _all_due(http, tenant, at_us):
    async def make_due(tx):
        await tx.execute(statement("update netra_sso_session set due_us = :at_us where tenant = :tenant"), at_us=at_us)

    await http.netra.database.write(make_due, scope=Scope(tenant, "tester"))


async def test_a_session_ends_when_idle_and_at_its_absolute_end(tmp_path):
    clock = FakeClock()
    async with served(tmp_path, sso_idle="30m", sso_life="1h", runtime=Runtime(clock=clock), lease_ttl="600s") as http, issuing() as issuer:
        await add_provider(http.netra, "first", issuer)
        browser = Browser(http, issuer)
        await browser.log_in()
        for seconds, status in ((1700, 200), (1700, 200), (300, 401)):
            clock._wall_us += seconds * 1_000_000
            clock._now_us += seconds * 1_000_000
            assert (await browser.session()).status_code == status
        await browser.log_in()
        clock._wall_us += 1801 * 1_000_000
        assert (await browser.session()).status_code == 401


async def test_logging_out_everywhere_ends_all_of_a_persons_sessions_and_nobody_elses(http, browser, issuer):
    others = [Browser(http, issuer), Browser(http, issuer, "u2")]
    for each in (browser, *others):
        issuer.token = each.token
        await each.log_in()
    cookie = {"cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    assert (await http.post("/ui/sso/logout?everywhere=true", headers=cookie)).status_code == 204
    assert [(await each.session()).status_code for each in (browser, *others)] == [401, 401, 200]


async def test_a_provider_that_refuses_the_refresh_token_ends_the_session_and_an_outage_does_not(http, browser, issuer):
    good = browser.token
    browser.token = issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    await browser.log_in()
    await _renewed(http)
    assert (issuer.count("/token"), issuer.forms[-1]["refresh_token"]) == (2, "rt-1")
    assert (await browser.session()).status_code == 200
    issuer.token = lambda _: (503, {"error": "server_error"})
    await _renewed(http)
    assert (await browser.session()).status_code == 200
    asked = issuer.count("/token")
    await http.netra.sso.logins.renewals.renew_due()  # it is not its turn again
    assert issuer.count("/token") == asked


DUE = statement("update netra_sso_session set due_us = 1 where tenant = :tenant")


async def _renewed(http):
    """The turn of every session has come, and its provider was asked."""

    async def make_due(tx):
        await tx.execute(DUE)

    await http.netra.database.write(make_due, scope=Scope(TENANT, "tester"))
    await http.netra.sso.logins.renewals.renew_due()


async def test_a_session_goes_on_with_the_token_that_its_provider_gave_last(http, browser, issuer):
    good = browser.token
    issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    await browser.log_in()
    for number in (1, 2, 3):
        issuer.token = lambda _, number=number: (200, {"access_token": "at", "refresh_token": f"rt-{number + 1}"})
        await _renewed(http)
        assert issuer.forms[-1]["refresh_token"] == f"rt-{number}"


async def test_a_token_whose_commit_failed_is_committed_before_the_next_is_sent(http, browser, issuer):
    good = browser.token
    issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    await browser.log_in()
    issuer.token = lambda _: (200, {"access_token": "at", "refresh_token": "rt-2"})
    http.netra.runtime.failpoints.arm("sso.renewed_before_commit", "raise")
    await _renewed(http)
    http.netra.runtime.failpoints.disarm()
    await _renewed(http)
    assert [form["refresh_token"] for form in issuer.forms if "refresh_token" in form] == ["rt-1", "rt-2"]


async def test_a_session_that_nobody_uses_any_more_is_not_kept_alive_at_its_provider(http, browser, issuer):
    good = browser.token
    issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    await browser.log_in()
    asked = issuer.count("/token")

    async def leave(tx):
        await tx.execute(statement("update netra_sso_session set idle_us = 1 where tenant = :tenant"))

    await http.netra.database.write(leave, scope=Scope(TENANT, "tester"))
    await _renewed(http)
    assert issuer.count("/token") == asked


async def test_a_definite_refusal_of_the_provider_ends_the_session(http, browser, issuer):
    good = browser.token
    issuer.token = lambda form: (200, {**good(form)[1], "refresh_token": "rt-1"})
    await browser.log_in()
    issuer.token = lambda _: (400, {"error": "invalid_grant"})
    await _renewed(http)
    assert issuer.forms[-1]["refresh_token"] == "rt-1"
    assert (await browser.session()).status_code == 401


async def test_when_the_first_provider_is_down_only_linked_people_log_in_by_the_backup_and_nothing_crosses(http, browser, issuer):
    await browser.log_in()
    async with issuing(elliptic()) as backup:
        await add_provider(http.netra, "backup", backup, rank=1, algorithms=["ES256"])
        await http.netra.sso.link(TENANT, "first", "u1", "backup", "b1")
        before = Browser(http, issuer)
        issuer.token = before.token
        await before.begin()  # a login in flight
        issuer.down = 503

        async def flipped():
            await http.netra.sso.watch.look_at(TENANT)
            return (await http.netra.sso.status(TENANT))["active"] == "backup"

        await eventually(flipped)
        assert (await before.back()).status_code == 403  # it ends at its own issuer, whose code no other one sees
        assert all("code" not in form for form in backup.forms)

        def of_backup(who):
            def token(form):
                if "code" not in form:
                    return 400, {"error": "invalid_grant"}
                now = int(http.netra.runtime.clock.wall_us() // 1_000_000)
                said = {"iss": backup.url, "aud": "netra", "sub": who.subject, "nonce": who.asked["nonce"], "iat": now, "exp": now + 60}
                return 200, {"access_token": "at", "id_token": sign({"alg": "ES256", "kid": "e1"}, said, elliptic())}

            return token

        stranger, linked = Browser(http, backup, "u1"), Browser(http, backup, "b1")
        for who, status in ((stranger, 403), (linked, 200)):
            await who.begin()
            backup.token = of_backup(who)
            assert (await who.back()).status_code == status
        shown = (await linked.session()).json()
        assert (shown["backup"], shown["role"], shown["issuer"]) == (True, "viewer", backup.url)
        assert shown["expires_at"] < (await browser.session()).json()["expires_at"]
        assert {form.get("code") for form in issuer.forms if "code" in form}.isdisjoint(
            {form.get("code") for form in backup.forms if "code" in form}
        )


async def test_an_operator_logs_in_at_the_installations_own_provider(http, issuer):
    given = {"client": {"issuer": issuer.url, "client_id": "netra"}, "role_claim": "groups", "roles": {"admin": ["sre"]}}
    made = await http.put(f"{API}/sso/providers/own", json=given)
    assert (made.status_code, made.json()["issuer"], made.json()["client"]) == (200, issuer.url, "own")
    assert (await http.get(f"{API}/sso/status")).json()["active"] == "own"
    outsider = Browser(http, issuer, "u2")
    await outsider.begin("/ui/sso")
    assert "no_role" in (await outsider.back()).text
    browser = Browser(http, issuer)
    issuer.token = lambda form: browser.token(form, groups=["sre"])
    await browser.begin("/ui/sso")
    assert (await browser.back()).status_code == 200
    shown = (await browser.session()).json()
    assert (shown["tenant"], shown["role"]) == (None, "operator")
    assert (await browser.get("/ui/tenants")).status_code == 200


async def test_only_an_operator_sets_up_who_is_one(http):
    key = await tenant_key(http, TENANT, scopes=["tenant"])
    body = {"client": {"issuer": "http://127.0.0.1:1", "client_id": "netra"}, "default_role": "admin"}
    for method, path, json in (
        ("PUT", "/providers/own", body),
        ("GET", "/status", None),
        ("POST", "/pin", {"provider": "own"}),
        ("POST", "/links", {"provider": "own", "subject": "a", "backup": "b", "backup_subject": "c"}),
    ):
        refused = await http.request(method, f"{API}/sso{path}", json=json, headers={"authorization": f"Bearer {key['key']}"})
        assert refused.status_code == 403
        assert (await http.bare.request(method, f"{API}/sso{path}", json=json)).status_code == 401


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/ui//evil", "/ui/../x", "/api/v1/tenants", "/ui/a?b=c", "/ui/<b>"]
)
async def test_one_is_led_on_to_pages_of_ours_alone(http, issuer, target):
    assert (await http.get(f"/ui/sso/{TENANT}", params={"to": target})).status_code in {400, 422}


async def test_a_tenant_that_does_not_exist_looks_like_one_without_a_provider(http):
    answers = [await http.get(f"/ui/sso/{tenant}") for tenant in (TENANT, "nobody")]
    assert len({(each.status_code, each.text) for each in answers}) == 1
    assert answers[0].status_code == 404
