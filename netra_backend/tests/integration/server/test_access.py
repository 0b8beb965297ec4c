"""Who may do what: keys, scopes, tenants; and that a revoked key is gone at once."""

from __future__ import annotations

import pytest

from netra_backend.server.access import rule_of, segments_of
from netra_backend.server.app import create_app
from netra_backend.server.auth import ensure_operator_key
from netra_backend.server.errors import MalformedPath
from netra_backend.storage.api_keys import new_secret

from ...support.server import API, actions, client_of, endpoint, message, new_netra, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
UNKNOWN = new_secret(b"x" * 20, operator=True)


async def test_a_first_start_makes_one_operators_key_and_a_second_none(tmp_path):
    async with new_netra(tmp_path, operator_key=None) as netra:
        key = await ensure_operator_key(netra)
        assert await ensure_operator_key(netra) is None
        async with client_of(create_app(netra), key) as client:
            assert (await client.get(f"{API}/app")).status_code == 200
            assert await actions(client, f"{API}/audit") == ["api_key.create"]


async def test_a_start_makes_a_key_where_none_is_left_but_a_browsers_session(tmp_path):
    async with new_netra(tmp_path, operator_key=None) as netra, client_of(create_app(netra), await ensure_operator_key(netra)) as client:
        assert (await client.post("/ui/session")).status_code == 204
        own = next(each for each in (await client.get(f"{API}/keys")).json()["data"] if each["name"] != "dashboard session")
        await client.post(f"{API}/keys/{own['id']}/revoke")
        async with client_of(create_app(netra), await ensure_operator_key(netra)) as again:
            assert (await again.get(f"{API}/app")).status_code == 200


async def test_a_configured_key_needs_no_other(netra):
    assert await ensure_operator_key(netra) is None


async def test_without_a_valid_key_there_is_one_answer(app):
    async with client_of(app, None) as client:
        for header in (None, "", "Bearer", "Bearer ", "Basic abc", f"Bearer {UNKNOWN}", "Bearer \xff", "Bearer " + "x" * 5000):
            headers = {} if header is None else {"authorization": header.encode("latin-1")}
            answer = await client.get(f"{API}/app", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json() == {
                "code": "authentication_failed",
                "detail": "This request carries no valid API key.",
                "fix": "Send `Authorization: Bearer <key>` with a live key: netra key create.",
            }


async def test_unknown_expired_and_revoked_keys_look_alike(app, operator):
    revoked, expired = await tenant_key(operator), await tenant_key(operator)
    await operator.post(f"{API}/tenants/acme/keys/{revoked['id']}/revoke")
    await operator.post(f"{API}/tenants/acme/keys/{expired['id']}/rotate", json={"overlap_s": 0})
    answers = set()
    for key in (UNKNOWN, revoked["key"], expired["key"]):
        async with client_of(app, key) as client:
            answer = await client.get(f"{API}/app/acme")
            answers.add((answer.status_code, answer.text, tuple(sorted(answer.headers.items()))))
    assert [status for status, _, _ in answers] == [401]


async def test_a_revoked_key_is_refused_by_the_next_request_although_it_was_just_used(app, operator):
    made = await tenant_key(operator)
    async with client_of(app, made["key"]) as tenant:
        assert (await tenant.get(f"{API}/app/acme")).status_code == 200
        assert (await operator.post(f"{API}/tenants/acme/keys/{made['id']}/revoke")).json()["revoked_at"] is not None
        assert (await tenant.get(f"{API}/app/acme")).status_code == 401


async def test_another_process_refuses_a_revoked_key_within_a_second(tmp_path):
    async with new_netra(tmp_path) as here, new_netra(tmp_path) as there, client_of(create_app(here)) as operator:
        made = await tenant_key(operator)
        async with client_of(create_app(there), made["key"]) as tenant:
            assert (await tenant.get(f"{API}/app/acme")).status_code == 200
            await operator.post(f"{API}/tenants/acme/keys/{made['id']}/revoke")

            async def refused():
                return (await tenant.get(f"{API}/app/acme")).status_code == 401

            await eventually(refused, deadline_s=1.0)


async def test_a_rotated_key_and_its_successor_are_both_live_for_the_overlap(app, operator):
    made = await tenant_key(operator, scopes=["tenant", "endpoint:secret"])
    rotated = (await operator.post(f"{API}/tenants/acme/keys/{made['id']}/rotate", json={"overlap_s": 60})).json()
    assert rotated["scopes"] == ["tenant", "endpoint:secret"]
    for key in (made["key"], rotated["key"]):
        async with client_of(app, key) as tenant:
            assert (await tenant.get(f"{API}/app/acme")).status_code == 200
    listed = (await operator.get(f"{API}/tenants/acme/keys")).json()["data"]
    assert [each["expires_at"] is None for each in listed] == [False, True]
    assert not any("key" in each for each in listed)


async def test_a_rotated_key_that_expires_has_a_successor_that_does(operator):
    made = await tenant_key(operator, expires_at="2999-01-01T00:00:00Z")
    rotated = (await operator.post(f"{API}/tenants/acme/keys/{made['id']}/rotate")).json()
    assert rotated["expires_at"].startswith("2999-01-01")


async def test_a_tenants_keys_end_with_the_tenant(app, operator):
    made = await tenant_key(operator)
    async with client_of(app, made["key"]) as tenant:
        assert (await tenant.get(f"{API}/event-type")).status_code == 200
        assert (await operator.delete(f"{API}/app/acme")).status_code == 204
        assert (await tenant.get(f"{API}/event-type")).status_code == 401


async def test_a_key_is_shown_once_also_to_who_repeats_the_request(operator):
    headers = {"idempotency-key": "k"}
    first = await operator.post(f"{API}/tenants/acme/keys", json={"name": "n"}, headers=headers)
    again = await operator.post(f"{API}/tenants/acme/keys", json={"name": "n"}, headers=headers)
    assert first.json().pop("key").startswith("netra_tk_")
    assert (again.json()["id"], "key" in again.json()) == (first.json()["id"], False)
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_tenants_key_does_its_own_tenants_work_and_sees_no_other(app, operator):
    made = await tenant_key(operator)
    await tenant_key(operator, "other")
    theirs = await endpoint(operator, "other")
    sent = await message(operator, "other")
    async with client_of(app, made["key"]) as tenant:
        mine = await endpoint(tenant)
        assert (await tenant.get(f"{API}/app/acme/endpoint/{mine['id']}")).status_code == 200
        assert (await tenant.get(f"{API}/tenants/acme/audit")).status_code == 200
        unknown = await tenant.get(f"{API}/app/nobody/msg")
        foreign = await tenant.get(f"{API}/app/other/msg")
        assert (unknown.status_code, foreign.status_code) == (404, 404)
        assert unknown.text.replace("nobody", "other") == foreign.text
        for path in (f"endpoint/{theirs['id']}", f"msg/{sent['id']}", f"attempt/endpoint/{theirs['id']}", f"attempt/msg/{sent['id']}"):
            assert (await tenant.get(f"{API}/app/acme/{path}")).status_code == 404
        resend = await tenant.post(f"{API}/app/acme/msg/{sent['id']}/endpoint/{mine['id']}/resend")
        assert resend.status_code == 404


async def test_the_operators_routes_are_closed_to_a_tenant(app, operator):
    made = await tenant_key(operator)
    closed = [
        ("GET", "/app"),
        ("POST", "/app"),
        ("PUT", "/app/acme"),
        ("PATCH", "/app/acme"),
        ("DELETE", "/app/acme"),
        ("POST", "/event-type"),
        ("PUT", "/event-type/a"),
        ("DELETE", "/event-type/a"),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("GET", "/tenants"),
        ("POST", "/tenants"),
        ("GET", "/tenants/acme/keys"),
        ("POST", "/tenants/acme/keys"),
        ("GET", "/audit"),
        ("GET", "/no-such-route"),
    ]
    async with client_of(app, made["key"]) as tenant:
        for method, path in closed:
            answer = await tenant.request(method, API + path)
            assert (method, path, answer.status_code) == (method, path, 403)
        assert (await tenant.get("/metrics")).status_code == 403
        assert (await tenant.get(f"{API}/event-type")).status_code == 200


async def test_a_secret_is_read_with_its_scope_only_and_the_reading_is_on_record(app, operator):
    plain, reader = await tenant_key(operator), await tenant_key(operator, scopes=["endpoint:secret"])
    made = await endpoint(operator)
    path = f"{API}/app/acme/endpoint/{made['id']}"
    async with client_of(app, plain["key"]) as tenant:
        assert (await tenant.get(f"{path}/secret")).status_code == 403
        assert (await tenant.post(f"{path}/secret/rotate", json={})).status_code == 403
        given = "whsec_" + "A" * 32
        assert (await tenant.post(f"{path}/secret/rotate", json={"key": given})).json() == {"key": given}
    async with client_of(app, reader["key"]) as tenant:
        assert (await tenant.get(f"{path}/secret/")).json() == {"key": given}
        assert (await tenant.get(path)).status_code == 403
    entries = (await operator.get(f"{API}/tenants/acme/audit", params={"limit": 250})).json()["data"]
    read = [entry["actor"] for entry in entries if entry["action"] == "endpoint.secret.read"]
    assert read == [f"key:{reader['id']}"]
    assert given not in str(entries)


async def test_a_repeated_rotation_never_tells_a_secret_that_was_made_since(app, operator):
    plain, made = await tenant_key(operator), await endpoint(operator)
    path, given = f"{API}/app/acme/endpoint/{made['id']}/secret/rotate", "whsec_" + "A" * 32
    async with client_of(app, plain["key"]) as tenant:
        for _ in range(2):
            told = await tenant.post(path, json={"key": given}, headers={"idempotency-key": "once"})
            assert told.json() == {"key": given}
            assert (await operator.post(path, json={})).json() != {"key": given}


async def test_an_operators_key_from_the_database_works_and_can_be_revoked(app, operator):
    made = (await operator.post(f"{API}/keys", json={"name": "ci"})).json()
    async with client_of(app, made["key"]) as other:
        assert (await other.get(f"{API}/tenants")).status_code == 200
        await operator.post(f"{API}/keys/{made['id']}/revoke")
        assert (await other.get(f"{API}/tenants")).status_code == 401
    assert [each["id"] for each in (await operator.get(f"{API}/keys")).json()["data"]] == [made["id"]]


async def test_a_key_that_makes_no_sense_is_not_made(operator):
    for body in (
        {"name": ""},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "0001-01-01T00:00:00+14:00"},
        {"name": "x", "surprise": 1},
        {},
    ):
        answer = await operator.post(f"{API}/tenants/acme/keys", json=body)
        assert (body, answer.status_code, answer.headers["content-type"]) == (body, 422, "application/problem+json")
        assert set(answer.json()) >= {"type", "title", "status", "detail", "code", "fix"}


def test_a_path_is_split_before_it_is_decoded():
    assert segments_of(b"/api/v1/app/a%20b/msg/") == ("api", "v1", "app", "a b", "msg")
    for hostile in (b"/api/v1/app/acme%2Fmsg", b"/api/v1/app/a%00b", b"/api/v1/app/%ff", b"/api/v1/app/a%0ab", b"/api/v1/app/\xff"):
        with pytest.raises(MalformedPath):
            segments_of(hostile)


@pytest.mark.parametrize(
    ("method", "path", "rule"),
    [
        ("GET", "/ready", "public"),
        ("GET", "/metrics", "operator"),
        ("GET", "/api/v1/app/a", "tenant"),
        ("DELETE", "/api/v1/app/a", "operator"),
        ("POST", "/api/v1/app/a/msg", "tenant"),
        ("GET", "/api/v1/tenants/t/keys", "operator"),
        ("GET", "/api/v1/event-type/x", "any"),
        ("HEAD", "/api/v1/event-type/x", "operator"),
        ("GET", "/anything/else", "operator"),
        ("GET", "/anything", "operator"),
        ("GET", "/", "public"),
        ("GET", "/ui/login", "public"),
        ("GET", "/ui/overview", "session"),
        ("DELETE", "/ui/session", "session"),
    ],
)
def test_what_no_rule_names_is_the_operators(method, path, rule):
    assert rule_of(method, segments_of(path.encode())) == rule
    assert rule_of("GET", ("metrics",), dev=True) == "public"
