"""Portal links: what their key may do, when it ends, and that its pages show one tenant and nothing else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from ...support.server import API, OPERATOR, actions, client_of, create_app, endpoint, message, new_netra, tenant_key

pytestmark = pytest.mark.usefixtures("every_server_engine")
OUR_OWN = ["default-src 'none'", "style-src 'self'", "script-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'self'"]
MARKUP = "<script>alert(1)</script>"


async def link(operator, tenant="acme", **body) -> str:
    made = await operator.post(f"{API}/auth/app-portal-access/{tenant}", json=body)
    assert made.status_code == 200, made.text
    url = urlsplit(made.json()["url"])
    assert (url.path, url.fragment) == ("/ui/login", f"key={made.json()['token']}")
    return made.json()["token"]


def browser(app, key):
    client = client_of(app, None)
    client.headers["cookie"] = f"other=1; __Host-netra={key}"
    return client


async def statuses(app, key, endpoint_id, msg_id):
    """What each kind of request is answered with."""
    at = f"{API}/app/acme/endpoint/{endpoint_id}"
    async with client_of(app, key) as client:
        return {
            "view": (await client.get(f"{API}/app/acme/msg")).status_code,
            "secret": (await client.get(f"{at}/secret")).status_code,
            "rotate": (await client.post(f"{at}/secret/rotate", json={})).status_code,
            "resend": (await client.post(f"{API}/app/acme/msg/{msg_id}/endpoint/{endpoint_id}/resend")).status_code,
            "change": (await client.patch(at, json={"description": "x"})).status_code,
            "headers": (await client.put(f"{at}/headers", json={"headers": {}})).status_code,
            "send": (await client.post(f"{API}/app/acme/msg", json={"eventType": "a.b", "payload": {}})).status_code,
            "app": (await client.delete(f"{API}/app/acme")).status_code,
            "audit": (await client.get(f"{API}/tenants/acme/audit")).status_code,
        }


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        ({}, {"view", "secret", "rotate", "resend", "change", "headers"}),
        ({"readOnly": True}, {"view"}),
        ({"capabilities": ["ViewBase"]}, {"view"}),
        ({"capabilities": []}, {"view"}),
        ({"capabilities": ["ViewEndpointSecret"]}, {"view", "secret"}),
        ({"capabilities": ["ManageEndpointSecret"]}, {"view", "secret", "rotate"}),
        ({"capabilities": ["CreateAttempts", "ManageTransformations"]}, {"view", "resend"}),
        ({"capabilities": ["ManageEndpoint"]}, {"view", "secret", "rotate", "change", "headers"}),
    ],
)
async def test_a_link_can_do_what_its_capabilities_say_and_nothing_else(app, operator, asked, may):
    made, sent = await endpoint(operator), await message(operator)
    key = await link(operator, **asked)
    found = await statuses(app, key, made["id"], sent["id"])
    assert {name for name, status in found.items() if status < 300} == may
    assert {status for status in found.values() if status >= 300} <= {403}


async def test_who_may_send_again_words_no_message_of_his_own(app, operator):
    made = await endpoint(operator)
    await operator.post(f"{API}/event-type", json={"name": "a.b", "description": "", "schemas": {"1": {"examples": [{"n": 1}]}}})
    async with client_of(app, await link(operator, capabilities=["CreateAttempts"])) as client:
        example = f"{API}/app/acme/endpoint/{made['id']}/send-example"
        assert (await client.post(example, json={"eventType": "a.b"})).status_code == 200
        assert (await client.post(example, json={"eventType": "a.b", "payload": {"forged": True}})).status_code == 403


async def test_a_link_sees_its_own_tenant_only(app, operator):
    await tenant_key(operator, "other")
    sent = await message(operator, "other")
    key = await link(operator)
    async with client_of(app, key) as client, browser(app, key) as pages:
        assert (await client.get(f"{API}/app/other/msg")).status_code == 404
        assert (await pages.get(f"/ui/webhooks/{sent['id']}")).status_code == 404


async def test_a_link_is_made_anew_for_who_asks_again_and_may_bring_its_application(operator):
    headers = {"idempotency-key": "k"}
    first, second = [(await operator.post(f"{API}/auth/app-portal-access/acme", json={}, headers=headers)).json() for _ in range(2)]
    assert first["token"] != second["token"]
    await link(operator, "fresh", application={"name": "Fresh", "uid": "fresh"})
    assert (await operator.get(f"{API}/app/fresh")).json()["name"] == "Fresh"
    assert (await operator.post(f"{API}/auth/app-portal-access/nobody", json={})).status_code == 404
    assert (await operator.post(f"{API}/auth/app-portal-access/acme", json={"expiry": 60})).status_code == 422


async def test_only_an_operator_makes_and_ends_links(app, operator):
    made = await tenant_key(operator)
    async with client_of(app, made["key"]) as tenant:
        assert (await tenant.post(f"{API}/auth/app-portal-access/acme", json={})).status_code == 403
        assert (await tenant.post(f"{API}/auth/app/acme/expire-all", json={})).status_code == 403
        assert (await tenant.post(f"{API}/auth/logout")).status_code == 403
    assert (await operator.post(f"{API}/auth/logout")).status_code == 403


async def test_a_link_logs_itself_out_and_links_are_ended_by_session_or_all(app, operator):
    keys = {name: await link(operator, sessionId=name) for name in ("a", "b", "c")}
    own = await tenant_key(operator)

    async def live():
        found = set()
        for name, key in {**keys, "own": own["key"]}.items():
            async with client_of(app, key) as client:
                if (await client.get(f"{API}/app/acme/endpoint")).status_code == 200:
                    found.add(name)
        return found

    assert await live() == {"a", "b", "c", "own"}
    async with client_of(app, keys["a"]) as client:
        assert (await client.post(f"{API}/auth/logout")).status_code == 204
    assert await live() == {"b", "c", "own"}
    await operator.post(f"{API}/auth/app/acme/expire-all", json={"sessionIds": ["b"]})
    assert await live() == {"c", "own"}
    await operator.post(f"{API}/auth/app/acme/expire-all", json={"expiry": 3600})
    assert await live() == {"c", "own"}
    await operator.post(f"{API}/auth/app/acme/expire-all")
    assert await live() == {"own"}
    assert {"api_key.create", "api_key.revoke", "api_key.expire"} <= set(await actions(operator))


async def test_the_pages_show_endpoints_messages_and_attempts_with_markup_escaped(app, operator):
    await endpoint(operator, description=MARKUP)
    sent = await message(operator, payload={"text": MARKUP})
    async with browser(app, await link(operator)) as pages:
        listed = await pages.get("/ui/webhooks")
        one = await pages.get(f"/ui/webhooks/{sent['id']}")
    for shown in (listed, one):
        assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert MARKUP not in shown.text and "&lt;script&gt;" in shown.text
        policy = shown.headers["content-security-policy"]
        assert all(each in policy for each in OUR_OWN) and "unsafe" not in policy
        assert shown.headers["cache-control"] == "no-store"
        assert re.findall(r"<script[^>]*>|\son\w+=|style=", shown.text) == ['<script type="module" src="/ui/netra.js">']
    assert sent["id"] in listed.text and "http://127.0.0.1:9/hook" in one.text


async def test_the_list_is_paged(app, operator):
    sent = [(await message(operator, payload={"n": n}))["id"] for n in range(26)]
    async with browser(app, await link(operator)) as pages:
        first = (await pages.get("/ui/webhooks")).text
        older = re.search(r'href="(/ui/webhooks\?after=[^"]+)">Older', first)
        second = (await pages.get(older.group(1))).text
    shown = [set(re.findall(r"/ui/webhooks/(msg_\w+)", text)) for text in (first, second)]
    assert (len(shown[0]), shown[0] | shown[1]) == (25, set(sent))
    assert "Older</a>" not in second and "Newer</a>" in second


def csrf_in(page) -> dict[str, str]:
    """What the page's own script sends along with an action."""
    return {"x-netra-csrf": re.search(r'name="netra-csrf" content="([0-9a-f]{32})"', page.text).group(1)}


async def test_a_browser_gets_its_cookie_once_and_loses_it_by_signing_out(app, operator):
    key = await link(operator)
    async with client_of(app, key) as arriving:
        cookie = (await arriving.post("/ui/session")).headers["set-cookie"]
        assert cookie.startswith(f"__Host-netra={key}; Path=/; Secure; HttpOnly; SameSite=Strict")
    async with browser(app, key) as pages:
        token = csrf_in(await pages.get("/ui/webhooks"))
        assert (await pages.delete("/ui/session", headers={"sec-fetch-site": "cross-site", **token})).status_code == 403
        assert (await pages.get("/ui/webhooks")).status_code == 200
        assert (await pages.delete("/ui/session", headers=token)).status_code == 204
        ended = await pages.get("/ui/webhooks")
        assert (ended.status_code, "You are not signed in" in ended.text) == (401, True)


async def test_a_links_pages_are_of_its_webhooks_only_a_tenants_key_sees_the_tenant_and_an_operator_all(app, operator):
    own = (await tenant_key(operator))["key"]
    keys = {"link": await link(operator), "tenant": own, "operator": operator.headers["authorization"].removeprefix("Bearer ")}
    shown = {}
    for name, key in keys.items():
        async with client_of(app, key) as client:
            paths = ("overview", "webhooks", "connections", "batches", "cache", "kpis", "audit", "traces", "debug", "tenants", "settings")
            shown[name] = {path for path in paths if (await client.get(f"/ui/{path}")).status_code == 200}
    assert shown["link"] == {"overview", "webhooks"}
    assert shown["tenant"] == {"overview", "webhooks", "connections", "batches", "cache", "kpis", "audit", "traces"}
    assert shown["operator"] == shown["tenant"] | {"debug", "tenants", "settings"}


async def test_a_session_has_a_key_of_its_own_which_ends_with_it(app, operator):
    made = await tenant_key(operator)
    async with client_of(app, made["key"]) as arriving:
        cookie = re.match("__Host-netra=([^;]+);", (await arriving.post("/ui/session")).headers["set-cookie"]).group(1)
    assert cookie != made["key"]
    async with browser(app, cookie) as pages:
        token = csrf_in(await pages.get("/ui/overview"))
        assert (await pages.delete("/ui/session", headers=token)).status_code == 204
        assert (await pages.get("/ui/overview")).status_code == 401
    async with client_of(app, made["key"]) as client:
        assert (await client.get(f"{API}/app/acme/endpoint")).status_code == 200


async def session(app, key) -> str:
    """The key in the cookie of a browser that signs in with this one."""
    async with client_of(app, key) as arriving:
        begun = await arriving.post("/ui/session")
    return re.match("__Host-netra=([^;]+);", begun.headers["set-cookie"]).group(1)


async def test_a_session_ends_with_the_key_that_began_it_in_the_browser_and_anywhere_else(app, operator):
    made, other = await tenant_key(operator), await tenant_key(operator)
    begun = [await session(app, key["key"]) for key in (made, made, other)]

    async def shown():
        answers = []
        for key in begun:
            async with browser(app, key) as pages, client_of(app, key) as bearer:
                answers.append(((await pages.get("/ui/overview")).status_code, (await bearer.get(f"{API}/app/acme/msg")).status_code))
        return answers

    assert await shown() == [(200, 200)] * 3
    await operator.post(f"{API}/tenants/acme/keys/{made['id']}/revoke")
    assert await shown() == [(401, 401), (401, 401), (200, 200)]
    await operator.post(f"{API}/tenants/acme/keys/{other['id']}/rotate", json={"overlap_s": 0})
    assert await shown() == [(401, 401)] * 3
    listed = (await operator.get(f"{API}/tenants/acme/keys")).json()["data"]
    assert [bool(each["revoked_at"]) for each in listed if each["name"] == "dashboard session"] == [True, True, False]


async def test_a_session_of_the_configured_key_ends_with_the_setting(tmp_path):
    async with new_netra(tmp_path) as netra:
        begun = await session(create_app(netra), OPERATOR)
    answers = []
    for settings in ({}, {"operator_key": OPERATOR[::-1]}, {"operator_key": None}):
        async with new_netra(tmp_path, **settings) as netra, browser(create_app(netra), begun) as pages:
            answers.append((await pages.get("/ui/settings")).status_code)
    assert answers == [200, 401, 401]


async def test_no_session_is_begun_with_the_cookie_of_another(app, operator):
    begun = await session(app, (await tenant_key(operator))["key"])
    async with browser(app, begun) as pages:
        refused = await pages.post("/ui/session", headers=csrf_in(await pages.get("/ui/overview")))
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert await session(app, begun) == begun  # as a bearer it is itself, like a link's


async def test_keys_without_a_right_to_look_open_no_page(app, operator):
    blind = (await tenant_key(operator, scopes=["endpoint:secret"]))["key"]
    for key, status in ((blind, 403), ("", 401)):
        async with browser(app, key) as pages, client_of(app, key) as arriving:
            assert (await pages.get("/ui/webhooks")).status_code == status
            assert (await arriving.post("/ui/session")).status_code == status


async def test_an_action_carries_its_sessions_token_and_comes_from_this_host(app, operator):
    made, sent = await endpoint(operator), await message(operator)
    again = f"{API}/app/acme/msg/{sent['id']}/endpoint/{made['id']}/resend"
    async with browser(app, await link(operator)) as pages, browser(app, await link(operator)) as others:
        token = csrf_in(await pages.get("/ui/webhooks"))
        foreign = csrf_in(await others.get("/ui/webhooks"))
        for refused in (
            {},
            {"x-netra-csrf": ""},
            foreign,
            {**token, "origin": "https://evil.example"},
            {**token, "origin": "null"},
            {**token, "sec-fetch-site": "same-site"},
        ):
            assert (await pages.post(again, headers=refused)).status_code == 403, refused
        assert (await pages.get(f"{API}/app/acme/msg")).status_code == 403, "a cookie alone reads nothing of the API"
        assert (await pages.post(again, headers={**token, "origin": "http://localhost"})).status_code == 202
        assert (await pages.patch(f"{API}/app/other/endpoint/x", headers=token, json={})).status_code == 404
    assert (await actions(operator)).count("delivery.resend") == 1


@pytest.mark.parametrize(
    ("host", "headers", "shown"),
    [
        ("localhost", {}, True),
        ("127.0.0.1:8071", {}, True),
        ("[::1]:8071", {}, True),
        ("hooks.example.com", {}, False),
        ("localhost.example.com", {}, False),
        ("[", {}, False),
        ("localhost", {"x-forwarded-proto": "http"}, False),
        ("hooks.example.com", {"x-forwarded-proto": "https"}, True),
    ],
)
async def test_pages_are_shown_to_this_machine_or_over_tls_only_and_say_how(tmp_path, host, headers, shown):
    async with new_netra(tmp_path, trusted_proxies="127.0.0.0/8") as netra, client_of(create_app(netra)) as client:
        for path in ("/ui/login", "/ui/overview"):
            answer = await client.get(path, headers={"host": host, **headers})
            assert answer.status_code == (200 if shown else 403)
            assert shown or ("--tls-certificate" in answer.text and "NETRA_TRUSTED_PROXIES" in answer.text)


async def test_a_proxy_that_is_not_named_is_not_believed(app):
    async with client_of(app) as client:
        answer = await client.get("/ui/login", headers={"host": "hooks.example.com", "x-forwarded-proto": "https"})
        assert answer.status_code == 403


async def test_a_link_begins_with_the_public_address_where_one_is_set(tmp_path):
    async with new_netra(tmp_path, public_url="https://hooks.example.com/netra/") as netra, client_of(create_app(netra)) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        made = (await operator.post(f"{API}/auth/app-portal-access/acme", json={})).json()
        assert made["url"].startswith("https://hooks.example.com/netra/ui/login#key=netra_tk_")


async def test_what_the_login_page_needs_is_served_to_everybody(app):
    async with client_of(app, None) as nobody:
        for path, kind in (
            ("login", "text/html"),
            ("netra.js", "text/javascript"),
            ("netra.css", "text/css"),
            ("netra.svg", "image/svg+xml"),
        ):
            found = await nobody.get(f"/ui/{path}")
            assert (found.status_code, found.headers["content-type"].split(";")[0]) == (200, kind)
