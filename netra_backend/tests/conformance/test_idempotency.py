"""One key, one effect, however many ask at once and through how many connections."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import KeyReused
from netra_backend.kernel.scope import Scope
from netra_backend.storage.idempotency import Claim, Q, Replay, claim, hash_body, trim

from ..support.storage import ACME, SYSTEM, put, rows_of

BODY = Claim("POST /app/{a}/msg", "key-1", hash_body(b"{}"))


async def effect(tx, wanted, ref):
    """What a route does: claim, and only then act."""
    replay = await claim(tx, wanted, ref, 202)
    if replay is None:
        await put(tx, ref.hex())
    return replay


async def test_the_second_caller_gets_the_firsts_result(database):
    first, second = b"\x01" * 16, b"\x02" * 16
    assert await database.write(effect, BODY, first, scope=ACME) is None
    assert await database.write(effect, BODY, second, scope=ACME) == Replay(first, 202)
    assert await database.read(rows_of, second.hex(), scope=ACME) == []


async def test_of_many_at_once_through_two_doors_one_acts(pair):
    refs = [bytes([n]) * 16 for n in range(8)]
    outcomes = await asyncio.gather(*(pair[n % 2].write(effect, BODY, ref, scope=ACME) for n, ref in enumerate(refs)))
    (winner,) = [ref for ref, outcome in zip(refs, outcomes, strict=True) if outcome is None]
    assert all(outcome in {None, Replay(winner, 202)} for outcome in outcomes)
    for ref in refs:
        assert len(await pair[0].read(rows_of, ref.hex(), scope=ACME)) == (2 if ref == winner else 0)


async def test_another_body_under_the_same_key_is_refused(database):
    await database.write(effect, BODY, b"\x01" * 16, scope=ACME)
    other = Claim(BODY.route, BODY.key, hash_body(b"{ }"))
    with pytest.raises(KeyReused, match="key-1"):
        await database.write(effect, other, b"\x02" * 16, scope=ACME)


@pytest.mark.parametrize(("scope", "wanted"), [(Scope("globex"), BODY), (ACME, Claim("POST /other", BODY.key, BODY.body_hash))])
async def test_another_tenant_or_route_has_keys_of_its_own(database, scope, wanted):
    await database.write(effect, BODY, b"\x01" * 16, scope=ACME)
    assert await database.write(effect, wanted, b"\x02" * 16, scope=scope) is None


async def test_a_claim_is_undone_with_its_effect(database):
    async def claims_then_fails(tx):
        await effect(tx, BODY, b"\x01" * 16)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(claims_then_fails, scope=ACME)
    assert await database.write(effect, BODY, b"\x02" * 16, scope=ACME) is None


async def test_claims_in_a_list_are_told_apart_from_those_that_were_there(database):
    await database.write(effect, BODY, b"\x01" * 16, scope=ACME)
    rows = [
        ("acme", BODY.route, BODY.key, BODY.body_hash, b"\x02" * 16, 202, 0),
        ("acme", BODY.route, "key-2", BODY.body_hash, b"\x03" * 16, 202, 0),
        ("globex", BODY.route, BODY.key, BODY.body_hash, b"\x04" * 16, 202, 0),
    ]

    async def claim_all(tx):
        return await tx.execute(Q.insert_idempotency_rows, rows=rows)

    assert await database.write(claim_all, scope=SYSTEM) == 2
    wanted = [row[:3] for row in rows]
    found = await database.read(_found, wanted, scope=SYSTEM)
    assert {(row[0], row[2]): row[4] for row in found} == {
        ("acme", "key-1"): b"\x01" * 16,
        ("acme", "key-2"): b"\x03" * 16,
        ("globex", "key-1"): b"\x04" * 16,
    }


async def _found(tx, rows):
    return await tx.all(Q.get_idempotency_rows, rows=rows)


async def test_old_keys_are_trimmed_in_small_batches(database):
    for number in range(3):
        await database.write(effect, Claim("r", f"k{number}", "h"), bytes([number]) * 16, scope=ACME)

    assert await database.write(trim, 0, 10, scope=SYSTEM) == 0
    assert [await database.write(trim, 2**62, 2, scope=SYSTEM) for _ in range(3)] == [2, 1, 0]
