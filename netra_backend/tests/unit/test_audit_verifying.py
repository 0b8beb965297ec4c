"""A4: any flipped byte is found. Both judges agree, on every honest log and on every forgery."""

from __future__ import annotations

import ast
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netra_backend
from netra_backend.observability.audit import note
from netra_backend.observability.audit.errors import EntryPruned
from netra_backend.observability.audit.exporting import export
from netra_backend.observability.audit.verifying import MINIMUM, verify, verify_receipt

from ..support import audit_forger, audit_verifier

PACKAGE = Path(netra_backend.__file__).parent
OFFLINE = ("entry", "merkle", "note", "receipt", "tiles", "verifying")


def both(folder, vkey="", earlier=()):
    """What the product says, once the second judge has said the same. `earlier` are checkpoints as they were signed."""
    verdict = verify(folder, vkey or None, earlier=earlier)
    seen = [audit_verifier.signed_head(each, audit_forger.vkey_of() + "\n")[1:] for each in earlier]
    other = audit_verifier.judge(folder, seen, vkey and vkey + "\n")
    assert verdict.ok == (other is None), (verdict, other)
    return verdict


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537])
def test_an_honest_log_holds_for_both_judges_around_every_power_of_256(size, tmp_path):
    log = audit_forger.entries(size)
    verdict = both(audit_forger.write(tmp_path / "log", log))
    assert verdict.as_dict() == {
        "ok": True,
        "tenant": "acme",
        "size": size,
        "root": audit_forger.root_of(log).hex(),
        "first_bad": None,
        "file": None,
        "reason": None,
        "origin": audit_forger.ORIGIN,
        "minimum": 0,
    }


@pytest.mark.parametrize("size", [2, 5, 256, 259, 520])
@pytest.mark.parametrize("forge", audit_forger.WITHOUT_MORE)
def test_a_forgery_is_found_from_the_files_by_both_judges(forge, size, tmp_path):
    log = audit_forger.entries(size)
    published = audit_forger.note_of(size, audit_forger.root_of(log))
    least = forge(tmp_path / "log", log, published)
    verdict = both(tmp_path / "log")
    assert not verdict.ok
    assert verdict.first_bad >= 0
    if forge is audit_forger.edited_in_the_bundle:
        assert verdict.first_bad == least


@pytest.mark.parametrize("forge", audit_forger.BY_THE_KEY)
def test_a_log_that_another_key_has_signed_is_found_by_whoever_has_the_key(forge, tmp_path):
    log = audit_forger.entries(5)
    forge(tmp_path / "log", log, "")
    assert both(tmp_path / "log").ok  # alone it agrees with itself
    verdict = both(tmp_path / "log", audit_forger.vkey_of())
    assert (verdict.ok, verdict.first_bad, verdict.file) == (False, 0, "vkey")


@pytest.mark.parametrize("size", [5, 256, 300])
@pytest.mark.parametrize("forge", audit_forger.BY_MEMORY)
def test_history_that_was_written_anew_is_found_by_whoever_kept_a_checkpoint(forge, size, tmp_path):
    """Two roots for one size, a changed past, and a log that is shorter than it was."""
    log = audit_forger.entries(size)
    root = audit_forger.root_of(log)
    forge(tmp_path / "log", log, "")
    assert both(tmp_path / "log").ok
    assert not both(tmp_path / "log", earlier=[audit_forger.note_of(size, root)]).ok


def test_a_log_that_went_on_continues_every_checkpoint_that_was_kept(tmp_path):
    log = audit_forger.entries(600)
    kept = [audit_forger.note_of(size, audit_forger.root_of(log[:size])) for size in (0, 1, 255, 256, 257, 511, 600)]
    audit_forger.write(tmp_path / "log", log)
    assert both(tmp_path / "log", audit_forger.vkey_of(), kept).ok
    assert not verify(tmp_path / "log", earlier=[audit_forger.note_of(1, audit_forger.root_of(log[:1]), seed=b"\x07" * 32)]).ok
    assert not verify(tmp_path / "log", earlier=["no note"]).ok


def test_any_flipped_byte_of_any_file_is_found(tmp_path):
    """Every byte of a small log, one after the other, by both judges; a flipped bit of each."""
    folder = audit_forger.write(tmp_path / "log", audit_forger.entries(3))
    flips = 0
    chance = random.Random(1)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for at in range(len(whole)):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
            assert not verify(folder).ok, f"{file} at {at}"
            assert audit_verifier.judge(folder) is not None, f"{file} at {at}"
            flips += 1
        file.write_bytes(whole)
    assert flips > 1500
    assert both(folder).ok


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return audit_forger.write(tmp_path_factory.mktemp("large") / "log", audit_forger.entries(777))


@given(st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_byte_that_is_changed_taken_out_or_put_in_is_found_in_a_larger_log(large, data):
    file = data.draw(st.sampled_from(sorted(path for path in large.rglob("*") if path.is_file())))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    changed = data.draw(
        st.sampled_from(
            [
                whole[:at] + bytes([byte]) + whole[at + 1 :],
                whole[:at] + whole[at + 1 :],
                whole[:at] + bytes([byte]) + whole[at:],
                whole[:at],
            ]
        )
    )
    try:
        file.write_bytes(changed)
        verdict = both(large)
        assert not verdict.ok
        if "entries" in str(file.relative_to(large)):
            assert verdict.first_bad <= 777
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "name", ["checkpoint", "vkey", "entries.ndjson", "tile/0/001", "tile/0/002.p/8", "tile/1/000.p/2", "tile/entries/000"]
)
def test_a_missing_file_is_named(name, tmp_path):
    folder = audit_forger.write(tmp_path / "log", audit_forger.entries(520))
    (folder / name).unlink()
    verdict = both(folder)
    assert (verdict.ok, verdict.file) == (False, name)
    assert verdict.first_bad == {"tile/0/001": 256, "tile/0/002.p/8": 512}.get(name, 0)


def test_entries_that_were_given_away_are_told_by_an_entry_of_the_log(tmp_path):
    said = audit_forger.entry(520, action="log.prune", after={"minimum": 256})
    folder = audit_forger.write(tmp_path / "log", [*audit_forger.entries(520), said])
    given_away(folder)
    verdict = both(folder)
    assert (verdict.ok, verdict.minimum, verdict.size) == (True, 256, 521)
    silent = both(given_away(audit_forger.write(tmp_path / "silent", audit_forger.entries(521))))
    assert (silent.ok, silent.file) == (False, "minimum-index")
    for text in ("256", "255\n", "0\n", "768\n", "0256\n", "x\n", "", "256x", "256 ", "25\u0666\n", "9" * 5000 + "\n"):
        (folder / "minimum-index").write_text(text)
        assert not both(folder).ok, text
    (folder / "minimum-index").write_text("256\n")
    tile = (folder / "tile/0/000").read_bytes()
    for bad in (tile[:-1], tile[:32][::-1] + tile[32:]):
        (folder / "tile/0/000").write_bytes(bad)
        assert not both(folder).ok


@pytest.mark.parametrize("after", [None, {}, {"minimum": None}, {"minimum": "256x"}, {"minimum": [256]}])
def test_an_entry_that_only_looks_like_a_giving_away_gives_nothing_away(after, tmp_path):
    said = audit_forger.entry(520, action="log.prune", after=after)
    assert both(audit_forger.write(tmp_path / "whole", [*audit_forger.entries(520), said])).ok
    assert both(given_away(audit_forger.write(tmp_path / "less", [*audit_forger.entries(520), said]))).file == "minimum-index"


async def test_an_export_in_the_middle_of_a_giving_away_is_whole_or_none(tmp_path):
    """The minimum rises after the entry that says so is under a checkpoint: whoever reads the two apart must read it first."""
    entries = audit_forger.entries(520)
    said = audit_forger.entry(520, action="log.prune", after={"minimum": 256})
    before = audit_forger.write(tmp_path / "before", entries)
    after = given_away(audit_forger.write(tmp_path / "after", [*entries, said]))
    asked = []

    async def source(path):
        """A log that is given away once its first file was read."""
        asked.append(path)
        file = (before if len(asked) == 1 else after) / path
        if path == MINIMUM and not file.exists():
            return b"0\n"
        if not file.exists():
            raise EntryPruned
        return file.read_bytes()

    with pytest.raises(EntryPruned):
        await export(source, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def given_away(folder):
    """Without its first 256 entries."""
    (folder / "tile/entries/000").unlink()
    lines = (folder / "entries.ndjson").read_bytes().splitlines(keepends=True)
    (folder / "entries.ndjson").write_bytes(b"".join(lines[256:]))
    (folder / "minimum-index").write_text("256\n")
    return folder


def test_a_receipt_without_its_entry_or_under_another_key_does_not_hold():
    from netra_backend.observability.audit import merkle, receipt

    log = audit_forger.entries(5)
    hashes = {(0, 0): b"".join(merkle.leaf_hash(each) for each in log)}
    proof = [merkle.range_root(hashes, *each) for each in merkle.inclusion_ranges(3, 5)]
    signed = audit_forger.note_of(5, audit_forger.root_of(log))
    good = receipt.Receipt(log[3], 3, proof, signed)
    assert both_of_receipt(good.text.encode())
    others = [
        receipt.Receipt(log[2], 3, proof, signed),
        receipt.Receipt(log[3], 2, proof, signed),
        receipt.Receipt(log[3], 5, proof, signed),
        receipt.Receipt(log[3], 3, proof[:-1], signed),
        receipt.Receipt(log[3], 3, proof, audit_forger.note_of(5, audit_forger.root_of(log), seed=b"\x07" * 32)),
        receipt.Receipt(log[3], 3, proof, audit_forger.note_of(6, audit_forger.root_of(audit_forger.entries(6)))),
    ]
    for each in others:
        assert not both_of_receipt(each.text.encode())
    assert not both_of_receipt(good.text.encode(), "no key")
    data = good.text.encode()
    survivors = [at for at in range(len(data)) if both_of_receipt(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])]
    assert survivors == []


def both_of_receipt(data, vkey=""):
    """Whether a receipt holds, once both judges have said the same."""
    key = vkey or audit_forger.vkey_of()
    holds = verify_receipt(data, key).ok
    assert holds == (audit_verifier.judge_receipt(data, key + "\n") is None)
    return holds


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 255, 256, 257, 513])
def test_a_receipt_of_every_place_holds_for_both_judges(size):
    from netra_backend.observability.audit import merkle, receipt

    log = audit_forger.entries(size)
    hashes = b"".join(merkle.leaf_hash(each) for each in log)
    tiles = {(0, number): hashes[at : at + 8192] for number, at in enumerate(range(0, len(hashes), 8192))}
    tiles[1, 0] = b"".join(merkle.complete_root(each) for each in tiles.values() if len(each) == 8192)
    signed = audit_forger.note_of(size, audit_forger.root_of(log))
    for index in {*range(0, size, 37), size - 1}:
        proof = [merkle.range_root(tiles, *each) for each in merkle.inclusion_ranges(index, size)]
        assert both_of_receipt(receipt.Receipt(log[index], index, proof, signed).text.encode()), index


def test_the_second_judge_is_a_program_that_needs_nothing_of_ours(tmp_path):
    """Run apart from the package, from a copy of its one file."""
    program = Path(shutil.copy(audit_verifier.__file__, tmp_path / "judge.py"))
    log = audit_forger.entries(300)
    folder = audit_forger.write(tmp_path / "log", log)
    (tmp_path / "seen").write_text(audit_forger.note_of(5, audit_forger.root_of(log[:5])))
    (tmp_path / "other").write_text(audit_forger.vkey_of(seed=b"\x07" * 32) + "\n")

    def said(*arguments):
        done = subprocess.run([sys.executable, "-I", program, folder, *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    assert said("--vkey", folder / "vkey", "--seen", tmp_path / "seen") == (0, "holds")
    assert said("--vkey", tmp_path / "other") == (1, "another key")
    (folder / "tile/1/000.p/1").write_bytes(bytes(32))
    assert said() == (1, "tile/1/000.p/1 differs")


def test_the_judge_opens_no_database_and_no_network():
    """What it imports, and what those import, is named here; a process that has judged has loaded nothing else of ours."""
    for name in OFFLINE:
        tree = ast.parse((PACKAGE / "observability/audit" / f"{name}.py").read_text())
        modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
        assert modules <= {"", "merkle", "note", "tiles", "kernel.ids", "entry", "receipt"}, name
    code = (
        "import sys\nfrom netra_backend.observability.audit import verifying\n"
        "print([m for m in sys.modules if m.startswith('netra_backend.') and 'storage' in m or m in ('sqlite3', 'apsw', 'asyncpg', 'aiohttp')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_second_judge_shares_no_line_with_the_product():
    for module in (audit_verifier, audit_forger):
        source = Path(module.__file__).read_text()
        assert "netra_backend" not in source
        assert "from ...observability" not in source
    assert note.__name__ not in sys.modules[audit_verifier.__name__].__dict__.values()
