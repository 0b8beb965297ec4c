"""Secrets at rest: they open in their place, under a ring that has their root key, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from netra_backend.errors import CannotStart
from netra_backend.kernel.chance import SystemChance
from netra_backend.storage.sealing import CannotUnseal, Place, RootKeys, Sealer, load_root_keys

from ..support.storage import SYSTEM

OLD, NEW = b"o" * 32, b"n" * 32
PLACE = Place("netra_endpoint_secret", b"\x01" * 16, "sealed")


def sealing_under(*ids):
    keys = {"old": OLD, "new": NEW}
    return Sealer(RootKeys({name: keys[name] for name in ids}))


async def test_a_secret_opens_in_its_place(database):
    sealer = sealing_under("old")
    sealed = await database.write(sealer.seal, "acme", PLACE, b"s3cret", scope=SYSTEM)
    assert b"s3cret" not in sealed
    assert await database.read(sealer.unseal, "acme", PLACE, sealed, scope=SYSTEM) == b"s3cret"


@pytest.mark.parametrize(
    "place",
    [
        Place("netra_endpoint", PLACE.row, PLACE.field),
        Place(PLACE.table, b"\x02" * 16, PLACE.field),
        Place(PLACE.table, PLACE.row, "other"),
    ],
)
async def test_a_secret_moved_to_another_place_does_not_open(database, place):
    sealer = sealing_under("old")
    sealed = await database.write(sealer.seal, "acme", PLACE, b"s3cret", scope=SYSTEM)
    with pytest.raises(CannotUnseal):
        await database.read(sealer.unseal, "acme", place, sealed, scope=SYSTEM)


async def test_a_secret_moved_to_another_tenant_does_not_open(database):
    sealer = sealing_under("old")
    sealed = await database.write(sealer.seal, "acme", PLACE, b"s3cret", scope=SYSTEM)
    await database.write(sealer.seal, "globex", PLACE, b"other", scope=SYSTEM)
    for tenant in ("globex", "nobody"):
        with pytest.raises(CannotUnseal):
            await database.read(sealer.unseal, tenant, PLACE, sealed, scope=SYSTEM)


async def test_a_changed_or_cut_secret_does_not_open(database):
    sealer = sealing_under("old")
    sealed = await database.write(sealer.seal, "acme", PLACE, b"s3cret", scope=SYSTEM)
    flipped = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    cut = [sealed[:length] for length in range(len(sealed))]
    for damaged in [*flipped, *cut]:
        with pytest.raises(CannotUnseal):
            await database.read(sealer.unseal, "acme", PLACE, damaged, scope=SYSTEM)


async def test_two_first_secrets_of_a_tenant_at_once_both_open(database):
    sealer = sealing_under("old")
    seals = [database.write(sealer.seal, "acme", PLACE, bytes([n]), scope=SYSTEM) for n in range(8)]
    for number, sealed in enumerate(await asyncio.gather(*seals)):
        assert await database.read(sealer.unseal, "acme", PLACE, sealed, scope=SYSTEM) == bytes([number])
    assert await database.read(sealer.rewrap_progress, scope=SYSTEM) == (1, 1)


async def test_a_re_wrap_under_traffic_changes_no_secret_and_no_derived_key(database):
    before, during = sealing_under("old"), sealing_under("new", "old")
    tenants = [f"t{n}" for n in range(12)]
    sealed = {tenant: await database.write(before.seal, tenant, PLACE, tenant.encode(), scope=SYSTEM) for tenant in tenants}
    derived = await database.write(before.derive, "t0", "content-key", scope=SYSTEM)
    ended = asyncio.Event()

    async def traffic():
        rounds = 0
        while not ended.is_set() or not rounds:
            for tenant, value in list(sealed.items()):
                assert await database.read(during.unseal, tenant, PLACE, value, scope=SYSTEM) == tenant.encode()
                sealed[tenant] = await database.write(during.seal, tenant, PLACE, tenant.encode(), scope=SYSTEM)
            rounds += 1

    busy = asyncio.create_task(traffic())
    while await database.write(during.rewrap, 2, scope=SYSTEM):
        pass
    ended.set()
    await busy
    after = sealing_under("new")
    assert await database.read(after.rewrap_progress, scope=SYSTEM) == (12, 12)
    for tenant, value in sealed.items():
        assert await database.read(after.unseal, tenant, PLACE, value, scope=SYSTEM) == tenant.encode()
    assert await database.write(after.derive, "t0", "content-key", scope=SYSTEM) == derived


async def test_without_its_root_key_a_secret_stays_shut_and_the_error_names_the_key(database):
    sealed = await database.write(sealing_under("old").seal, "acme", PLACE, b"s3cret", scope=SYSTEM)
    with pytest.raises(CannotUnseal) as caught:
        await database.read(sealing_under("new").unseal, "acme", PLACE, sealed, scope=SYSTEM)
    assert caught.value.facts == {"root_id": "old"}
    assert "NETRA_ROOT_KEYS" in caught.value.fix


async def test_a_data_key_moved_to_another_tenant_does_not_unwrap(database):
    sealer = sealing_under("old")
    sealed = await database.write(sealer.seal, "acme", PLACE, b"s3cret", scope=SYSTEM)

    async def steal(tx):
        (row,) = await tx.all(sealer_statements().newest_data_key, tenant="acme")
        version, root_id, wrapped = row
        await tx.execute(
            sealer_statements().insert_data_key, tenant="globex", version=version, root_id=root_id, wrapped=wrapped, created_us=0
        )

    await database.write(steal, scope=SYSTEM)
    with pytest.raises(CannotUnseal):
        await database.read(sealer.unseal, "globex", PLACE, sealed, scope=SYSTEM)


def sealer_statements():
    from netra_backend.storage.sealing import Q

    return Q


# The ring


def test_a_ring_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "data" / "root-keys"
    made = load_root_keys(path, SystemChance())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    text = path.read_text()
    assert load_root_keys(path, SystemChance()).sealing_id == made.sealing_id
    assert path.read_text() == text


def test_of_two_processes_that_make_the_ring_at_once_both_use_one(tmp_path):
    for attempt in range(20):
        path = tmp_path / str(attempt) / "root-keys"
        with ThreadPoolExecutor(4) as pool:
            rings = list(pool.map(lambda _, path=path: load_root_keys(path, SystemChance()), range(4)))
        assert len({ring._keys["r1"] for ring in rings}) == 1


def test_the_first_line_seals_and_comments_are_left_out(tmp_path):
    path = tmp_path / "ring"
    path.write_text(f"# rotated\n\nr2:{base64.b64encode(NEW).decode()}\nr1:{base64.b64encode(OLD).decode()}\n")
    ring = load_root_keys(path, SystemChance())
    assert ring.sealing_id == "r2"


@pytest.mark.parametrize("text", ["", "r1", "r1:", "r1:c2hvcnQ=", ":" + "A" * 44, "r1:!!!", "r1:é"])
def test_a_damaged_ring_stops_the_start(tmp_path, text):
    path = tmp_path / "ring"
    path.write_bytes(text.encode())
    with pytest.raises(CannotStart):
        load_root_keys(path, SystemChance())
