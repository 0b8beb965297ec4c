"""The logs of the audit trail on every engine: dense indices, each entry once, one tree, checkpoints that only ever grow."""

from __future__ import annotations

import asyncio
import hashlib
import random
from functools import partial
from pathlib import Path

import orjson
import pytest

import netra_backend
from netra_backend.errors import Conflict, InvalidInput, NotFound
from netra_backend.kernel.clock import SystemClock
from netra_backend.kernel.ids import to_text
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.observability.audit import merkle, note, reading, retention, sequencer, store
from netra_backend.observability.audit.errors import EntryPruned, NothingToErase, NotSequencedYet, TrailDamaged
from netra_backend.observability.audit.retention import Retention
from netra_backend.observability.audit.verifying import verify, verify_receipt
from netra_backend.storage import log, nodes
from netra_backend.storage.audit_append import FACTS_BYTES, audit_append
from netra_backend.storage.statements import parse
from netra_backend.storage.tenants import by_name, ensure

from ..support import audit_verifier
from ..support.audits import SEALER, Standing, Trail
from ..support.members import new_node
from ..support.storage import ACME, SYSTEM, refuse, run
from .test_concurrent_webhook_copies import verbs_of

RAW = parse("""-- name: tile_changed
update netra_audit_tile set hashes = substr(hashes, 2) where tenant = 'acme';
-- name: tile_moved
update netra_audit_tile set number = 7 where tenant = 'acme';
-- name: tile_deleted
delete from netra_audit_tile where tenant = 'acme';
-- name: page_changed
update netra_audit_page set ids = substr(ids, 2) where tenant = 'acme';
-- name: page_deleted
delete from netra_audit_page where tenant = 'acme';
-- name: entry_changed
update netra_audit_entry set actor = 'nobody' where tenant = 'acme';
-- name: entry_deleted
delete from netra_audit_entry where tenant = 'acme';
""")


@pytest.fixture
async def trail(database, tmp_path):
    return await Trail.over(database, tmp_path / "memory")


async def ids_in_order(trail, tenant="acme"):
    found = await trail.log_of(tenant)
    pages = [
        await trail.database.read(store.ids_of, number, scope=Scope(tenant, "tester")) for number in range(-(-found.size // merkle.TILE))
    ]
    return [id_ for page in pages for id_ in page]


async def holds(trail, folder, tenant="acme", earlier=()):
    """The export of a tenant's log, once both judges have agreed to it; its entries."""
    await trail.export(folder, tenant)
    verdict = verify(folder, earlier=[text for text, _ in earlier])
    assert verdict.ok, verdict
    assert audit_verifier.judge(folder, [pair for _, pair in earlier]) is None
    return [orjson.loads(line) for line in (folder / "entries.ndjson").read_bytes().splitlines()]


async def test_entries_have_dense_indices_in_the_order_of_the_stream_and_each_one_once(trail):
    written = [await trail.write(count) for count in (1, 3, 2)]
    await trail.settle()
    assert await ids_in_order(trail) == [id_ for group in written for id_ in group]
    await trail.settle()
    found = await trail.log_of()
    assert (found.size, found.signed_size) == (6, 6)
    assert note.read_note(found.checkpoint) == note.Checkpoint(found.origin, 6, found.root)


@pytest.mark.parametrize("counts", [(255, 1, 1), (256, 256, 1), (300, 700), (1, 600)])
async def test_a_log_that_grows_in_steps_holds_for_both_judges_at_each_and_continues_every_checkpoint(trail, counts, tmp_path):
    earlier = []
    for step, count in enumerate(counts):
        await trail.write(count)
        await trail.settle()
        found = await trail.log_of()
        await holds(trail, tmp_path / f"export-{step}", earlier=earlier)
        earlier.append((found.checkpoint, (found.size, found.root)))
    assert found.size == sum(counts)


async def test_an_export_has_every_entry_of_its_tenant_and_none_of_anothers(trail, tmp_path):
    chance = random.Random(5)
    written = {name: set() for name in ("acme", "globex", "initech")}
    for _ in range(12):
        tenant = chance.choice(sorted(written))
        written[tenant] |= set(await trail.write(chance.randint(1, 40), tenant))
        if chance.random() < 0.4:
            await trail.settle()
    await trail.settle()
    for tenant, ids in written.items():
        entries = await holds(trail, tmp_path / tenant, tenant)
        assert {each["id"] for each in entries} == {to_text("aud", id_) for id_ in ids}
        assert {each["tenant"] for each in entries} == {tenant}


async def test_a_group_of_many_tenants_is_one_transaction_and_a_tree_for_each(trail):
    async def mixed(tx):
        for number in range(300):
            await audit_append(tx, "thing.done", str(number), tenant=f"tenant-{number % 100}")

    await trail.database.write(mixed, scope=SYSTEM)
    await trail.settle()
    for number in (0, 50, 99):
        found = await trail.log_of(f"tenant-{number}")
        assert (found.size, found.signed_size) == (3, 3)


PACKAGE = Path(netra_backend.__file__).parent
READS = {
    "store.find", "store.logs", "store.tiles", "store.ids_of", "store.indices_of", "store.entries", "store.unsigned", "store.to_sign",
    "store.last_waiting", "store.is_in_stream", "store.last_in_stream", "store.is_sequenced", "store.is_signed", "reading.search", "reading.by_index", "reading.entry_at", "reading.resource", "reading.prove",
}  # fmt: skip
HERE = {"store.take", "store.sign", "store.may_sign", "retention.claim", "retention.raise_minimum", "retention.delete_bundle"}


def test_every_verb_of_the_trail_has_its_two_copies_here():
    """The service's own: `erase` below, `record` inserts under a fresh id."""
    verbs = {verb for path in (PACKAGE / "observability/audit").glob("*.py") for verb in verbs_of(path)}
    assert verbs - READS - HERE == set(), "add a test of two copies at once, or say that it only reads"
    assert (READS | HERE) - verbs == set(), "no such verb any more"


async def test_two_sequencers_at_once_give_each_entry_one_index(pair, tmp_path):
    trails = [await Trail.over(door, tmp_path / "memory") for door in pair]
    written = set()
    for _ in range(3):
        written |= set(await trails[0].write(50))
        await trails[0].move()
        takes = [door.database.write(store.take, SEALER, door.node, scope=SYSTEM) for door in trails for _ in range(2)]
        outcomes = await asyncio.gather(*takes)
        assert None in outcomes  # the one without the lease
    ordered = await ids_in_order(trails[0])
    assert len(ordered) == len(set(ordered)) == 150
    assert set(ordered) == written


async def test_a_sequencer_that_was_declared_dead_appends_and_signs_nothing(trail, tmp_path):
    await trail.write(2)
    await trail.settle()
    await trail.write(2)
    await trail.move()
    before = await trail.log_of()
    await trail.database.write(nodes.reap, trail.node, 1, scope=SYSTEM)
    assert await trail.database.write(store.take, SEALER, trail.node, scope=SYSTEM) is None
    other = await Trail.over(trail.database, tmp_path / "memory")
    assert await trail.database.write(store.take, SEALER, other.node, scope=SYSTEM)
    prepared = await trail.sequencer._prepare("acme")
    assert await trail.database.write(store.sign, trail.node, [prepared[1]], scope=SYSTEM) == 0
    after = await trail.log_of()
    assert (after.signed_size, after.size) == (before.signed_size, 4)
    await other.settle()
    assert (await trail.log_of()).signed_size == 4


async def test_of_two_signatures_at_once_one_stands(trail):
    await trail.write(2)
    await trail.move()
    await trail.database.write(store.take, SEALER, trail.node, scope=SYSTEM)
    _, made = await trail.sequencer._prepare("acme")
    signed = await asyncio.gather(*(trail.database.write(store.sign, trail.node, [made], scope=SYSTEM) for _ in range(2)))
    assert sorted(signed) == [0, 1]


async def test_an_item_of_the_stream_without_an_entry_and_one_told_twice_get_no_index(trail, tmp_path):
    (id_,) = await trail.write(1)
    await trail.settle()

    async def tell(tx):
        for each in (id_, b"\1" * 16):
            tx.emit("audit", {"id": each.hex()})

    for _ in range(2):
        await trail.database.write(tell, scope=ACME)
    await trail.write(1)
    await trail.settle()
    assert (await trail.log_of()).size == 2
    assert len(await holds(trail, tmp_path / "export")) == 2


async def test_a_leader_that_dies_before_its_commit_leaves_the_next_one_the_same_work(trail):
    await trail.write(3)
    await trail.move()

    async def taken_then_killed(tx):
        await store.take(tx, SEALER, trail.node)
        raise LookupError

    with pytest.raises(LookupError):
        await trail.database.write(taken_then_killed, scope=SYSTEM)
    assert await trail.log_of() is None
    await trail.settle()
    assert (await trail.log_of()).size == 3


# Entries of the user's own


async def test_an_entry_of_ones_own_is_there_if_and_only_if_the_transaction_commits(trail, tmp_path):
    await trail.database.write(ensure, "acme", scope=SYSTEM)

    async def kept(tx):
        return await trail.audit.record(tx, "invoice.approve", "inv_42", {"state": "open"}, {"state": "approved"})

    async def lost(tx):
        await trail.audit.record(tx, "invoice.approve", "inv_43")
        raise LookupError

    id_ = await trail.database.write(kept, scope=ACME)
    with pytest.raises(LookupError):
        await trail.database.write(lost, scope=ACME)
    async with trail.database.transaction(ACME) as tx:
        other = await trail.audit.record(tx, "invoice.pay", "inv_42")
    await trail.settle()
    entries = await holds(trail, tmp_path / "export")
    assert [each["action"] for each in entries if each["table"] == ""] == ["invoice.approve", "invoice.pay"]
    assert {each["id"] for each in entries} >= {id_, other}
    approved = next(each for each in entries if each["id"] == id_)
    assert (approved["before"], approved["after"], approved["actor"]) == ({"state": "open"}, {"state": "approved"}, "tester")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("approve", "inv"), "no action"),
        (("Invoice.approve", "inv"), "no action"),
        (("a." + "b" * 127, "inv"), "no action"),
        (("log.prune", "inv"), "speaks of itself"),
        (("audit.erased", "inv"), "speaks of itself"),
        (("invoice.approve", ""), "a target is text"),
        (("invoice.approve", "x" * 513), "a target is text"),
        (("invoice.approve", "inv", None, {"x": b"bytes"}), "after is not JSON"),
        (("invoice.approve", "inv", ["x"]), "before is not a mapping"),
        (("invoice.approve", "inv", None, {"x": "y" * FACTS_BYTES}), "larger than"),
        (("invoice.approve", "inv", None, None, {"x": {1}}), "personal is not JSON"),
    ],
)
async def test_what_is_no_entry_is_refused_in_words_and_leaves_nothing(trail, arguments, words):
    async def record(tx):
        await trail.audit.record(tx, *arguments)

    with pytest.raises(InvalidInput, match=words) as refused:
        await trail.database.write(record, scope=ACME)
    assert refused.value.fix
    assert await trail.audit.search(ACME, reading.Filter()) == []


async def test_the_largest_entry_fits_and_what_does_not_is_told_by_its_digest(trail, tmp_path):
    big = "ü" * 40_000
    scope = Scope("acme", "\x01" * 5000)

    async def append(tx):
        await trail.audit.record(tx, "a." + "b" * 126, "\x01" * 512, None, {"x": "y" * (FACTS_BYTES - 8)})
        await audit_append(tx, "thing.done", "t", before={"schema": big, "kept": 1}, after={"schema": big[1:], "kept": 2})

    await trail.database.write(append, scope=scope)
    await trail.settle()
    largest, told = await holds(trail, tmp_path / "export")
    assert len(orjson.dumps(largest)) <= 65_535
    assert largest["actor"] == "\x01" * 256
    data = orjson.dumps(big)
    assert told["before"] == {"kept": 1, "schema": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    assert told["after"]["kept"] == 2


# Receipts, and files as they are served


async def test_a_receipt_proves_an_entry_by_its_index_and_by_its_id(trail):
    ids = await trail.write(300)
    await trail.settle()
    found = await trail.audit.log(ACME)
    for index in (0, 1, 128, 255, 256, 299):
        made = await trail.audit.prove(ACME, index)
        assert made.entry == (await trail.audit.prove(ACME, to_text("aud", ids[index]))).entry
        verdict = verify_receipt(made.text.encode(), found.vkey.text)
        assert (verdict.ok, verdict.size, verdict.tenant) == (True, 300, "acme")
        assert audit_verifier.judge_receipt(made.text.encode(), found.vkey.text + "\n") is None
    with pytest.raises(NotFound):
        await trail.audit.prove(ACME, 300)
    with pytest.raises(NotFound):
        await trail.audit.prove(ACME, to_text("aud", b"\1" * 16))
    (fresh,) = await trail.write(1)
    with pytest.raises(NotSequencedYet):
        await trail.audit.prove(ACME, to_text("aud", fresh))


async def test_a_tile_that_the_checkpoint_does_not_cover_is_not_served(trail):
    with pytest.raises(NotFound, match="no signed checkpoint"):
        await trail.audit.resource(ACME, "checkpoint")
    await trail.write(260)
    await trail.settle()
    assert len(await trail.audit.resource(ACME, "tile/0/000")) == 8192
    assert await trail.audit.resource(ACME, "tile/0/001.p/3") == (await trail.audit.resource(ACME, "tile/0/001.p/4"))[:96]
    for path in ("tile/0/001", "tile/0/001.p/5", "tile/1/000.p/2", "tile/2/000.p/1", "tile/entries/002.p/1", "tile/x", "anything"):
        with pytest.raises(NotFound):
            await trail.audit.resource(ACME, path)


async def test_entries_are_found_again_by_what_they_say(trail):
    await trail.write(3)
    await trail.write(2, action="thing.undone")
    await trail.settle()
    found = await trail.audit.search(ACME, reading.Filter(action="thing.undone"))
    assert {(each.action, each.target, each.index) for each in found} == {("thing.undone", "thing-0", 3), ("thing.undone", "thing-1", 4)}
    assert len(await trail.audit.search(ACME, reading.Filter(actor="tester", target="thing-0"))) == 2
    assert await trail.audit.search(ACME, reading.Filter(until_us=1)) == []
    assert [each.id for each in await trail.audit.search(ACME, reading.Filter(), found[0].id, 1)] > [found[0].id]


async def test_entries_come_by_index_and_whoever_remembers_the_last_one_misses_none(trail):
    assert await trail.audit.entries(ACME) == []
    written = await trail.write(600)
    await trail.settle()
    seen, last = [], -1
    while found := await trail.audit.entries(ACME, last, 100):
        seen += found
        last = found[-1].index
    assert [each.index for each in seen] == list(range(600))
    assert [each.id for each in seen] == written


async def test_whoever_reads_by_index_from_the_start_comes_past_what_was_given_away(trail):
    await trail.write(600)
    await trail.settle()
    await retention_of(trail).run()
    await trail.settle()
    seen, last = [], -1
    while found := await trail.audit.entries(ACME, last, 100):
        seen += [each.index for each in found]
        last = seen[-1]
    assert seen == list(range(512, (await trail.log_of()).size))


class Busy(SystemClock):
    """A clock that does not wait: meanwhile somebody else does something, and the time is over."""

    at_s = 0.0

    def monotonic(self):
        return self.at_s

    async def sleep(self, seconds):
        self.at_s += seconds
        await self.meanwhile()


async def test_whoever_waits_for_a_checkpoint_waits_for_nothing_that_is_written_meanwhile(database, tmp_path):
    clock = Busy()
    trail = await Trail.over(database, tmp_path / "memory", Runtime(clock=clock))

    async def somebody_writes():
        for tenant in ("acme", "globex"):
            await trail.write(1, tenant)
        await trail.move()

    clock.meanwhile = somebody_writes
    await trail.write(3)
    await trail.audit.settle(ACME)
    assert (await trail.log_of()).signed_size >= 3


async def test_a_steady_load_does_not_keep_what_was_there_before_it_from_being_signed(trail, monkeypatch):
    taken = 0
    take_some = trail.sequencer._take_some

    async def more_comes():
        nonlocal taken
        taken += 1
        found = await take_some()
        if taken < 20:
            await trail.write(1)
            await trail.move()
        return found

    monkeypatch.setattr(trail.sequencer, "_take_some", more_comes)
    await trail.write(3)
    await trail.settle()
    assert taken == 1
    assert (await trail.log_of()).signed_size == 3
    await trail.settle()
    assert (await trail.log_of()).signed_size == 4


# A6


async def test_erasure_takes_the_data_away_and_changes_no_root(trail, tmp_path):
    async def record(tx):
        return await trail.audit.record(tx, "user.invite", "user_1", personal={"email": "a@b.example"})

    id_ = await trail.database.write(record, scope=ACME)
    await trail.settle()
    before = await trail.log_of()
    told = await trail.audit.personal(ACME, id_)
    data = orjson.dumps({"email": "a@b.example"})
    (entry, *_) = await holds(trail, tmp_path / "before")
    assert entry["personal"] == hashlib.sha256(bytes.fromhex(told["salt"]) + data).hexdigest()
    assert b"a@b.example" not in b"".join(path.read_bytes() for path in (tmp_path / "before").rglob("*") if path.is_file())
    erased = await trail.audit.erase(ACME, 0, "the user asked for it")
    assert to_text("aud", erased.id) == id_
    assert await trail.audit.personal(ACME, id_) is None
    await trail.settle()
    entries = await holds(trail, tmp_path / "after", earlier=[(before.checkpoint, (before.size, before.root))])
    assert [each["action"] for each in entries] == ["user.invite", "audit.personal.read", "audit.erased"]
    assert entries[0] == entry
    assert entries[2]["after"] == {"index": 0, "reason": "the user asked for it"}
    with pytest.raises(NothingToErase, match="any more"):
        await trail.audit.erase(ACME, 0, "again")
    with pytest.raises(NothingToErase):
        await trail.audit.erase(ACME, 1, "there was none")
    with pytest.raises(NotFound):
        await trail.audit.erase(ACME, 99, "no entry")
    with pytest.raises(InvalidInput):
        await trail.audit.erase(ACME, 0, " ")


async def test_two_erasures_at_once_are_one(trail):
    async def record(tx):
        return await trail.audit.record(tx, "user.invite", "user_1", personal={"email": "a@b.example"})

    await trail.database.write(record, scope=ACME)
    await trail.settle()
    outcomes = await asyncio.gather(*(trail.audit.erase(ACME, 0, "asked") for _ in range(2)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Entry", "NothingToErase"]


# Around Netra


@pytest.mark.parametrize("name", sorted(RAW))
async def test_raw_sql_changes_no_hash_no_index_and_no_entry(trail, name):
    await trail.write(2)
    await trail.settle()
    statement = RAW[name]
    before = await trail.log_of()
    with pytest.raises(Exception, match=r"netra_audit|permission denied"):
        await trail.database.write(run, statement, scope=ACME)
    assert await trail.log_of() == before


async def test_an_entry_that_a_database_owner_has_changed_is_found_when_it_is_read(trail, tmp_path, monkeypatch):
    """Below the triggers: the row comes back other than it was hashed."""
    ids = await trail.write(3)
    await trail.settle()
    entries = store.entries

    async def other(tx, wanted):
        found = await entries(tx, wanted)
        return {id_: (*row[:2], "somebody", *row[3:]) if id_ == ids[1] else row for id_, row in found.items()}

    monkeypatch.setattr(store, "entries", other)
    with pytest.raises(TrailDamaged, match="the entry 1 of acme"):
        await trail.export(tmp_path / "export")
    assert not (tmp_path / "export").exists()
    with pytest.raises(TrailDamaged):
        await trail.audit.prove(ACME, 1)


async def test_an_export_never_overwrites(trail, tmp_path):
    await trail.write(1)
    await trail.settle()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(Conflict):
        await trail.export(tmp_path / "full")
    (tmp_path / "empty").mkdir()
    await holds(trail, tmp_path / "empty")


async def test_a_tenants_key_that_does_not_open_stops_that_log_alone(trail, caplog, monkeypatch):
    monkeypatch.setattr(sequencer, "LOGS_AT_ONCE", 1)  # there may be more of them than are signed at once
    await trail.write(1)
    await trail.write(1, "globex")
    await trail.move()
    await trail.database.write(store.take, SEALER, trail.node, scope=SYSTEM)

    async def spoil(tx):
        await tx.execute(SPOIL)

    await trail.database.write(spoil, scope=ACME)
    await trail.sequencer.drain()
    assert (await trail.log_of()).signed_size == 0
    assert (await trail.log_of("globex")).signed_size == 1
    assert "cannot be signed" in caplog.text


SPOIL = parse("""-- name: spoil
update netra_audit_log set sealed = public_key where tenant = :tenant;
""")["spoil"]


async def test_the_stream_is_not_trimmed_before_its_entries_are_in_a_log(trail):
    await trail.write(2)
    await trail.move()
    assert await trail.database.write(log.trim, "audit", 2**62, 100, scope=SYSTEM) == 0
    await trail.settle()
    assert await trail.database.write(log.trim, "audit", 2**62, 100, scope=SYSTEM) >= 1


# Retention


def retention_of(trail, keep_s=0.0):
    return Retention(trail.database, trail.runtime, Standing(trail.node), keep_s, lambda _: trail.settle())


async def test_an_error_with_one_log_is_told_and_keeps_nothing_of_those_behind_it(trail, monkeypatch, caplog):
    for tenant in ("acme", "globex"):
        await trail.write(300, tenant)
    await trail.settle()
    refuse(monkeypatch, trail.database, "acme")
    await retention_of(trail).run()
    assert [(await trail.log_of(tenant)).minimum for tenant in ("acme", "globex")] == [0, 256]
    assert "old audit entries of tenant acme stay until the next pass: a row of acme is damaged" in caplog.text


async def test_what_is_old_is_given_away_by_bundles_and_said_so_and_the_rest_still_verifies(trail, tmp_path):
    await trail.write(600)
    await trail.settle()
    before = await trail.log_of()
    old = await trail.audit.entries(ACME, -1, 600)
    await retention_of(trail, keep_s=1e6).run()
    assert (await trail.log_of()) == before  # nothing is so old
    await retention_of(trail).run()
    await trail.settle()
    log = await trail.log_of()
    assert log.minimum == 512
    kept = await trail.audit.entries(ACME, -1, 10_000)
    assert [each.index for each in kept] == list(range(512, log.size))
    await holds(trail, tmp_path / "export", earlier=[(before.checkpoint, (before.size, before.root))])
    assert verify(tmp_path / "export").minimum == 512
    for question in (trail.audit.prove(ACME, 3), trail.audit.resource(ACME, "tile/entries/000"), trail.audit.erase(ACME, 3, "gone")):
        with pytest.raises(EntryPruned):
            await question
    assert len(await trail.audit.resource(ACME, "tile/0/000")) == 8192
    with pytest.raises(Exception, match="netra_audit"):
        await trail.database.write(partial(run, statement=store.Q.delete_entry, id=kept[0].id), scope=ACME)
    assert old[0].index == 0


async def test_an_entry_that_a_row_refers_to_stays_with_the_row(trail):
    await trail.database.write(ensure, "acme", scope=SYSTEM)
    await trail.write(511)
    await trail.settle()
    await retention_of(trail).run()
    await trail.settle()
    assert (await trail.log_of()).minimum >= 256
    left = await trail.audit.search(ACME, reading.Filter(until_us=2**62), limit=10_000)
    assert [each.action for each in left if each.index < 256] == ["tenant.create"]
    assert (await trail.database.read(by_name, "acme", scope=ACME)).name == "acme"


async def test_two_passes_at_once_give_away_the_same(pair, tmp_path):
    trails = [await Trail.over(door, tmp_path / "memory") for door in pair]
    await trails[0].write(300)
    await trails[0].settle()
    far = 2**62
    for verb in (partial(retention.claim, before_us=far), partial(retention.raise_minimum, minimum=256), retention.delete_bundle):
        await asyncio.gather(*(each.database.write(verb, scope=ACME) for each in trails))
    await trails[0].settle()
    log = await trails[0].log_of()
    assert log.minimum == 256
    assert [each.index for each in await trails[1].audit.entries(ACME, -1, 1000)] == list(range(256, log.size))


async def test_another_node_takes_over_where_the_first_one_ended(trail, tmp_path):
    await trail.write(2)
    await trail.settle()
    await trail.database.write(log.drop_lead, "audit", trail.node, scope=SYSTEM)
    other = Trail(trail.database, await new_node(trail.database), tmp_path / "memory")
    await other.write(2)
    await other.settle()
    found = await other.log_of()
    assert (found.size, found.signed_size, found.epoch) == (4, 4, 1)
