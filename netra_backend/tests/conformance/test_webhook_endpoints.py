"""Endpoints, their secrets and event types on every engine: each change is audited and raises the tenant's version."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import Conflict, InvalidInput, NotFound
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import SYSTEM_TENANT
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.endpoints import check_event_type, check_url
from netra_backend.webhooks.keys import jwk, kind_of
from netra_backend.webhooks.model import EventType

from ..support.storage import ENGINES, SYSTEM, Q, opened, outcome_of
from ..support.webhooks import SEALER, described, endpoint_of, in_tenant, version_of

ACME = in_tenant("acme")


async def audited(database, tenant="acme"):
    async def actions(tx):
        return [row[0] for row in await tx.all(Q.actions_of, tenant=tenant)]

    return await database.read(actions, scope=SYSTEM)


async def keys_of(database, endpoint):
    return [secret.key for secret in await database.read(endpoints.live_secrets, SEALER, endpoint.id, scope=ACME)]


async def test_an_endpoint_is_found_by_its_id_and_by_its_uid(database):
    endpoint = await endpoint_of(database, uid="billing", event_types=("invoice.paid",), channels=("eu",), headers={"X-Team": "b"})
    for reference in (endpoint.text_id, "billing"):
        assert await database.read(endpoints.get, reference, scope=ACME) == endpoint
    with pytest.raises(NotFound):
        await database.read(endpoints.get, endpoint.text_id, scope=in_tenant("globex"))


async def test_every_change_raises_the_version_and_leaves_an_audit_entry(database):
    endpoint = await endpoint_of(database)
    seen = [await version_of(database)]
    for change in (
        (endpoints.update, endpoint.text_id, {"disabled": True}),
        (endpoints.rotate_secret, SEALER, endpoint.text_id, None),
        (endpoints.bury, endpoint.text_id),
    ):
        await database.write(*change, scope=ACME)
        seen.append(await version_of(database))
    assert seen == sorted(set(seen))
    actions = await audited(database)
    for action in ("endpoint.create", "endpoint.update", "endpoint.secret.expire", "endpoint.delete"):
        assert action in actions


async def test_two_creations_at_once_with_one_uid_make_one_endpoint(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        await endpoint_of(ours)
        new = described(uid="billing")
        results = await asyncio.gather(
            *(outcome_of(door.write(endpoints.create, SEALER, new, None, scope=ACME)) for door in (ours, theirs))
        )
        assert sorted(isinstance(result, Conflict) for result in results) == [False, True]


async def test_two_updates_at_once_both_happen_and_the_version_counts_both(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        endpoint = await endpoint_of(ours)
        before = await version_of(ours)
        changes = ({"description": "new"}, {"disabled": True})
        await asyncio.gather(
            *(
                door.write(endpoints.update, endpoint.text_id, change, scope=ACME)
                for door, change in zip((ours, theirs), changes, strict=True)
            )
        )
        after = await ours.read(endpoints.get, endpoint.text_id, scope=ACME)
        assert (after.description, after.disabled) == ("new", True)
        assert await version_of(ours) == before + 2


async def test_two_deletions_at_once_find_one_endpoint(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        endpoint = await endpoint_of(ours)
        results = await asyncio.gather(*(outcome_of(door.write(endpoints.bury, endpoint.text_id, scope=ACME)) for door in (ours, theirs)))
        assert sorted(isinstance(result, NotFound) for result in results) == [False, True]


async def test_a_uid_is_free_again_after_its_endpoint_was_deleted(database):
    endpoint = await endpoint_of(database, uid="billing")
    await database.write(endpoints.bury, "billing", scope=ACME)
    again = await database.write(endpoints.create, SEALER, described(uid="billing"), None, scope=ACME)
    assert again.id != endpoint.id
    assert list((await database.read(endpoints.snapshot, SEALER, "acme", scope=ACME)).endpoints) == [again.id]


async def test_no_secret_of_a_deleted_endpoint_is_read_into_memory(database):
    """They stay in the table: a tenant that makes and deletes endpoints all the time would be read for longer and longer."""
    gone, kept = [await endpoint_of(database) for _ in range(2)]
    await database.write(endpoints.bury, gone.text_id, scope=ACME)
    found = await database.read(endpoints.snapshot, SEALER, "acme", scope=ACME)
    assert set(found.secrets) == set(found.endpoints) == {kept.id}


async def test_a_tenant_has_no_more_endpoints_than_can_be_read_at_once(database, monkeypatch):
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 2)
    first, _ = [await endpoint_of(database) for _ in range(2)]
    with pytest.raises(Conflict, match="at most 2 endpoints"):
        await endpoint_of(database)
    await endpoint_of(database, "globex")
    await database.write(endpoints.bury, first.text_id, scope=ACME)
    await endpoint_of(database)


@pytest.mark.parametrize("engine", ENGINES[:1])
async def test_a_rotation_lets_both_keys_sign_for_a_day_and_then_only_the_new_one(engine, tmp_path):
    clock = FakeClock()
    async with opened(engine, tmp_path, Runtime(clock=clock)) as database:
        endpoint = await endpoint_of(database)
        (old,) = await keys_of(database, endpoint)
        await clock.advance(1)
        await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, scope=ACME)
        new, still = await keys_of(database, endpoint)
        assert still == old != new
        await clock.advance(24 * 3600 - 1)
        assert await keys_of(database, endpoint) == [new, old]
        await clock.advance(1)
        assert await keys_of(database, endpoint) == [new]


async def test_a_revoked_secret_signs_no_more_nor_does_one_whose_overlap_runs(database):
    endpoint = await endpoint_of(database)
    await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, scope=ACME)
    assert len(await keys_of(database, endpoint)) == 2
    await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, None, 0, scope=ACME)
    (only,) = await keys_of(database, endpoint)
    assert only == await database.write(endpoints.disclose_secret, SEALER, endpoint.text_id, scope=ACME)


async def test_a_key_that_is_made_is_of_the_kind_of_the_former_one_unless_another_is_named(database):
    endpoint = await endpoint_of(database)
    kinds = []
    for kind in ("ed25519", None, "hmac", None):
        await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, kind, 0, scope=ACME)
        kinds += [kind_of(key) for key in await keys_of(database, endpoint)]
    assert kinds == ["ed25519", "ed25519", "hmac", "hmac"]


async def test_the_public_keys_of_an_endpoint_are_those_of_its_live_pairs(database):
    await endpoint_of(database)
    endpoint = await database.write(endpoints.create, SEALER, described(), None, "ed25519", scope=ACME)
    await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, scope=ACME)
    await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, "hmac", scope=ACME)
    public = await database.read(endpoints.public_keys, SEALER, endpoint.id, scope=ACME)
    assert public == [jwk(key) for key in await keys_of(database, endpoint) if kind_of(key) == "ed25519"]
    assert len(public) == 2
    assert await database.read(endpoints.public_keys, SEALER, endpoint.id, scope=in_tenant("globex")) == []
    await database.write(endpoints.bury, endpoint.text_id, scope=ACME)
    assert await database.read(endpoints.public_keys, SEALER, endpoint.id, scope=ACME) == []


async def test_however_often_a_secret_is_rotated_few_keys_sign(database):
    endpoint = await endpoint_of(database)
    for _ in range(2 * endpoints.LIVE_SECRETS):
        await database.write(endpoints.rotate_secret, SEALER, endpoint.text_id, None, scope=ACME)
        assert len(await keys_of(database, endpoint)) <= endpoints.LIVE_SECRETS


async def test_reading_a_secret_leaves_an_audit_entry_and_no_secret_stands_in_the_clear(database):
    endpoint = await endpoint_of(database)
    key = await database.write(endpoints.disclose_secret, SEALER, endpoint.text_id, scope=ACME)
    assert key in await keys_of(database, endpoint)
    assert "endpoint.secret.read" in await audited(database)

    async def sealed(tx):
        return [row[0] for row in await tx.all(Q.sealed_secrets)]

    assert all(key not in value for value in await database.read(sealed, scope=ACME))


async def test_header_values_never_reach_the_audit_trail(database):
    endpoint = await endpoint_of(database, headers={"Authorization": "Bearer s3cret"})
    await database.write(endpoints.update, endpoint.text_id, {"headers": {"Authorization": "Bearer other"}}, scope=ACME)

    async def told(tx):
        return str(await tx.all(Q.audited_changes))

    words = await database.read(told, scope=ACME)
    assert "Authorization" in words and "s3cret" not in words and "other" not in words


async def test_endpoints_are_listed_page_by_page_in_both_directions(database):
    made = [await endpoint_of(database) for _ in range(5)]
    by_age = sorted(made, key=lambda endpoint: (endpoint.created_us, endpoint.id))
    first = await database.read(endpoints.page, (-1, b""), 3, scope=ACME)
    rest = await database.read(endpoints.page, (first[-1].created_us, first[-1].id), 3, scope=ACME)
    assert [*first, *rest] == by_age
    back = await database.read(lambda tx: endpoints.page(tx, (rest[0].created_us, rest[0].id), 10, back=True), scope=ACME)
    assert back == first[::-1]


async def test_an_event_type_that_was_deleted_comes_back(database):
    scope = in_tenant(SYSTEM_TENANT)
    described_type = EventType("invoice.paid", "An invoice was paid", False, False, None, {"1": {"type": "object"}}, 0, 0)
    await database.write(endpoints.create_event_type, described_type, scope=scope)
    assert isinstance(await outcome_of(database.write(endpoints.create_event_type, described_type, scope=scope)), Conflict)
    await database.write(endpoints.bury_event_type, "invoice.paid", scope=scope)
    with pytest.raises(NotFound):
        await database.read(endpoints.get_event_type, "invoice.paid", scope=scope)
    await database.write(endpoints.create_event_type, described_type, scope=scope)
    await database.write(endpoints.update_event_type, "invoice.paid", {"deprecated": True}, scope=scope)
    found = await database.read(endpoints.get_event_type, "invoice.paid", scope=scope)
    assert found.deprecated and found.schemas == {"1": {"type": "object"}}
    assert [each.name for each in await database.read(endpoints.event_types, "", 10, scope=scope)] == ["invoice.paid"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 257, "a\n", "a\x00"])
def test_what_cannot_name_an_event_type_is_refused(name):
    with pytest.raises(InvalidInput):
        check_event_type(name)


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "//x", "http://", "http://x:0/", "http://x:99999/", "http://u:p@x/", "http://x/a b", "http://x/\n", "x"]
)
def test_what_is_no_plain_http_url_is_refused(url):
    with pytest.raises(InvalidInput):
        check_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1/hook", "https://example.com", "https://[::1]:8443/x?y=z"])
def test_any_http_url_is_accepted_for_its_address_is_judged_when_connecting(url):
    assert check_url(url) == url
