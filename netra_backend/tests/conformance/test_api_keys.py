"""API keys: shown once, found by their hash, ended at once."""

from __future__ import annotations

import asyncio
import re
from functools import partial

import pytest

from netra_backend.errors import InvalidInput, NotFound
from netra_backend.kernel.scope import SYSTEM_TENANT
from netra_backend.storage import api_keys

from ..support.storage import SYSTEM, everything_stored

PEPPER = b"pepper"


def create(database, name="ci", tenant="acme", scopes=("tenant",), **options):
    verb = partial(api_keys.create, tenant=tenant, pepper=PEPPER, name=name, scopes=scopes, **options)
    return database.write(verb, scope=SYSTEM)


def found(database, secret, pepper=PEPPER):
    return database.read(api_keys.by_hash, api_keys.keyed_hash(pepper, secret), scope=SYSTEM)


async def test_a_key_is_found_by_its_secret_and_the_secret_is_nowhere(database):
    key, secret = await create(database)
    assert re.fullmatch(r"netra_tk_[0-9a-hjkmnp-tv-z]{38}", secret)
    assert await found(database, secret) == key
    assert await found(database, secret, b"another pepper") is None
    everything = everything_stored(database)
    assert secret.encode() not in everything and secret.encode().hex().encode() not in everything
    assert key.actor.startswith("key:key_")


async def test_keys_differ_and_an_operators_says_so(database):
    made = [await create(database) for _ in range(3)] + [await create(database, tenant=SYSTEM_TENANT, scopes=())]
    assert len({secret for _, secret in made}) == 4
    assert made[-1][1].startswith("netra_op_") and made[-1][0].is_operator
    assert not made[0][0].is_operator
    assert await database.read(api_keys.has_operator_key, scope=SYSTEM)


async def test_an_unknown_scope_is_refused(database):
    with pytest.raises(InvalidInput, match="everything"):
        await create(database, scopes=["everything"])


async def test_a_revoked_key_is_invalid_and_is_revoked_once(database):
    key, secret = await create(database)
    verdicts = await asyncio.gather(
        *(database.write(api_keys.revoke, "acme", key.id, scope=SYSTEM) for _ in range(2)), return_exceptions=True
    )
    assert [type(verdict) for verdict in verdicts].count(NotFound) == 1
    assert not (await found(database, secret)).is_valid(0)
    with pytest.raises(NotFound):
        await database.write(api_keys.expire, "acme", key.id, 5, scope=SYSTEM)


async def test_a_key_ends_at_its_expiry_not_before(database):
    key, secret = await create(database, expires_us=1_000)
    assert key.is_valid(999) and not key.is_valid(1_000)
    await database.write(api_keys.expire, "acme", key.id, 500, scope=SYSTEM)
    assert not (await found(database, secret)).is_valid(500)


async def test_another_tenant_can_neither_revoke_nor_list_a_key(database):
    key, secret = await create(database)
    with pytest.raises(NotFound):
        await database.write(api_keys.revoke, "globex", key.id, scope=SYSTEM)
    assert (await found(database, secret)).is_valid(0)
    assert await database.read(api_keys.page, "globex", b"", 10, scope=SYSTEM) == []
    assert await database.read(api_keys.page, "acme", b"", 10, scope=SYSTEM) == [key]


async def test_a_key_that_failed_to_revoke_left_no_entry(database):
    from netra_backend.storage.audit_append import Q

    async def entries(tx):
        return [row[3] for row in await tx.all(Q.list_audit_entries, tenant="acme", after=b"", limit=10)]

    with pytest.raises(NotFound):
        await database.write(api_keys.revoke, "acme", b"\x01" * 16, scope=SYSTEM)
    assert await database.read(entries, scope=SYSTEM) == []


@pytest.mark.parametrize("position", range(9, 47))
def test_one_wrong_character_is_noticed_without_a_look_up(position):
    secret = api_keys.new_secret(bytes(range(20)), operator=False)
    assert api_keys.is_well_formed(secret)
    wrong = "0" if secret[position] != "0" else "1"
    assert not api_keys.is_well_formed(secret[:position] + wrong + secret[position + 1 :])


@pytest.mark.parametrize(
    "text", ["", "netra_", "netra_tk", "netra_tk_é" + "0" * 37, "netra_" + "é" * 6, "netra_\ud800aaaaaa", "svix_tk_x", "\x00" * 50]
)
def test_anything_else_is_no_key_and_no_error(text):
    assert not api_keys.is_well_formed(text)
