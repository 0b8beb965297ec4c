"""The hashes of RFC 6962, the tiles of C2SP tlog-tiles, the notes of C2SP signed-note: against vectors of others, and against their definitions."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_backend.observability.audit import merkle, note, receipt, tiles
from netra_backend.observability.audit.note import Checkpoint, MalformedNote, VerifierKey

from ..support import audit_forger, audit_verifier

LEAVES = [
    b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"\x40\x41\x42\x43", bytes(range(0x50, 0x58)), bytes(range(0x60, 0x70)),
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Certificate Transparency's own test vectors: the roots over the first 1 to 8 of these leaves."""

SIZES = (0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1023, 65_535, 65_536, 65_537)


def mth(leaves):
    """RFC 6962 section 2.1 as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def grown(hashes, chunks):
    """The tree of these leaves, appended in such pieces, and every tile of it."""
    size, standing, at = 0, {}, 0
    for count in chunks:
        growth = merkle.Growth(
            size, {place: standing.get(place, b"")[: merkle.width(size, place[0]) * 32] for place in merkle.edges_of(size)}
        )
        growth.append(b"".join(hashes[at : at + count]))
        standing |= growth.changed
        size, at, root = growth.size, at + count, growth.root()
    return size, root, standing


def test_the_roots_are_those_of_certificate_transparency():
    hashes = [merkle.leaf_hash(each) for each in LEAVES]
    for count, root in enumerate(ROOTS, 1):
        assert grown(hashes, [count])[1].hex() == root
    assert hashlib.sha256(b"").digest() == merkle.EMPTY_ROOT == merkle.range_root({}, 0, 0)


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_tree_has_the_root_of_its_definition_around_every_power_of_256(size):
    hashes = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
    root = mth(hashes)
    for chunks in ([size], [1] * min(size, 600) + [size - min(size, 600)], [size // 3, size - size // 3]):
        assert grown(hashes, [each for each in chunks if each])[:2] == (size, root)
    assert audit_verifier.tree_hash(hashes) == root


@given(st.integers(1, 1200), st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_proof_leads_to_the_root_and_a_changed_one_does_not(size, data):
    hashes = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
    _, root, standing = grown(hashes, [size])
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    ranges = merkle.inclusion_ranges(index, size)
    proof = [merkle.range_root({place: standing[place] for place in merkle.tiles_of(ranges)}, *each) for each in ranges]
    assert merkle.root_by_inclusion(hashes[index], index, size, proof) == root
    assert merkle.root_by_inclusion(merkle.leaf_hash(b"other"), index, size, proof) != root
    assert merkle.root_by_inclusion(hashes[index], index, size, [*proof, root]) is None
    old_root = mth(hashes[:old])
    assert merkle.range_root(standing, 0, old) == old_root
    consistency = [merkle.range_root(standing, *each) for each in merkle.consistency_ranges(old, size)]
    assert merkle.is_consistent(old, old_root, size, root, consistency)
    other = merkle.leaf_hash(b"another root")
    assert not merkle.is_consistent(old, other, size, root, consistency)
    assert old == 0 or not merkle.is_consistent(old, old_root, size, other, consistency)
    if consistency:
        wrong = data.draw(st.integers(0, len(consistency) - 1))
        assert not merkle.is_consistent(old, old_root, size, root, [other if at == wrong else each for at, each in enumerate(consistency)])


def test_a_tree_is_not_grown_from_the_edge_of_another():
    with pytest.raises(ValueError, match="tile 0/0"):
        merkle.Growth(3, {(0, 0): bytes(64)})
    with pytest.raises(ValueError, match="no leaf 3"):
        merkle.inclusion_ranges(3, 3)
    with pytest.raises(ValueError, match="no later one"):
        merkle.consistency_ranges(4, 3)
    with pytest.raises(ValueError, match="too short"):
        merkle.range_root({(0, 0): bytes(32)}, 0, 2)


# Tiles


def test_a_tree_of_70000_has_the_tiles_of_the_specifications_example():
    paths = [each.path for each in tiles.resources_of(70_000)]
    of_level = {level: [path for path in paths if path.startswith(f"tile/{level}/")] for level in ("0", "1", "2", "entries")}
    assert len(of_level["0"]) == 274 == len(of_level["entries"])
    assert of_level["0"][-1] == "tile/0/273.p/112"
    assert of_level["1"] == ["tile/1/000", "tile/1/001.p/17"]
    assert of_level["2"] == ["tile/2/000.p/1"]
    assert [each.path for each in tiles.resources_of(256)] == ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]


@pytest.mark.parametrize(("number", "path"), [(0, "000"), (999, "999"), (1000, "x001/000"), (1_234_067, "x001/x234/067")])
def test_a_number_is_a_path_of_three_digits_each(number, path):
    assert tiles.number_path(number) == path == audit_verifier.path_of(number)
    assert tiles.parse(f"tile/5/{path}.p/7") == tiles.Resource(5, number, 7)
    assert tiles.parse(f"tile/entries/{path}") == tiles.Resource(None, number)


@pytest.mark.parametrize(
    "path",
    ["tile/0/1", "tile/0/0001", "tile/00/001", "tile/64/001", "tile/0/x000/001", "tile/0/001.p/256", "tile/0/001.p/0", "tile/0/001.p/01",
     "tile/data/001", "tile/0/x1/001", "tile/0/001/", "tile/0/../001", "tile/0/٠٠١", "checkpoint", ""],
)  # fmt: skip
def test_a_path_that_is_not_written_in_the_one_way_names_nothing(path):
    assert tiles.parse(path) is None


def test_no_number_is_read_from_a_path_that_no_tree_is_large_enough_for():
    assert tiles.parse("tile/0/" + "x001/" * 6 + "001") == tiles.Resource(0, int("001" * 7))
    assert tiles.parse("tile/0/" + "x001/" * 1500 + "001") is None


def test_a_bundle_that_ends_inside_an_entry_is_none():
    whole = tiles.bundle([b"a", b"", b"x" * tiles.MOST_BYTES])
    assert tiles.unbundle(whole) == [b"a", b"", b"x" * tiles.MOST_BYTES]
    assert all(tiles.unbundle(whole[:end]) is None for end in (1, 2, 4, len(whole) - 1))


# Notes


def test_a_note_of_gos_own_documentation_verifies():
    """From the documentation of golang.org/x/mod/sumdb/note."""
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    _, [(name, found)] = note._parts(f"{text}\n\u2014 PeterNeumann {signature}\n")
    assert name == key.name
    assert found[:4] == key.id
    assert key.has_signed(text, found[4:])
    assert not key.has_signed(text + " ", found[4:])


def test_the_key_of_the_go_checksum_database_reads_and_writes_as_it_is():
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert VerifierKey.parse(text).text == text


def test_a_checkpoint_that_is_signed_here_is_the_one_that_the_other_implementation_signs():
    root = bytes(range(32))
    made = note.sign(Checkpoint(audit_forger.ORIGIN, 7, root), audit_forger.SEED)
    assert made == audit_forger.note_of(7, root)
    key = VerifierKey(audit_forger.ORIGIN, note.public_of(audit_forger.SEED))
    assert key.text == audit_forger.vkey_of()
    assert note.open_note(made, key) == note.read_note(made) == Checkpoint(audit_forger.ORIGIN, 7, root)


def test_signatures_of_others_are_passed_over_and_a_false_one_of_the_key_is_refused():
    key = VerifierKey(audit_forger.ORIGIN, note.public_of(audit_forger.SEED))
    good = audit_forger.note_of(1, bytes(32))
    witnessed = good + "\u2014 witness.example AAAAAAAA\n"
    assert note.open_note(witnessed, key).size == 1
    false = good + audit_forger.note_of(2, bytes(32)).rpartition("\n\n")[2]
    for bad in (false, good.replace("\n1\n", "\n2\n"), good.partition("\n\n")[0], good[:-1], good.replace("\n1\n", "\n01\n")):
        with pytest.raises(MalformedNote):
            note.open_note(bad, key)


@pytest.mark.parametrize(
    "text",
    ["", "a+b", "a b+00000000+AAAA", "a+00000000+AQ==", "x" * 50, "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"],
)
def test_what_is_no_verifier_key_is_refused(text):
    with pytest.raises(MalformedNote):
        VerifierKey.parse(text)


# Receipts


def test_a_receipt_is_written_as_c2sp_tlog_proof_has_it():
    made = receipt.Receipt(b"entry", 3, [bytes(32)], audit_forger.note_of(4, bytes(32)))
    lines = made.text.split("\n")
    assert lines[:4] == ["c2sp.org/tlog-proof@v1", "extra ZW50cnk=", "index 3", "A" * 43 + "="]
    assert receipt.parse(made.text.encode()) == made
    for bad in (
        made.text.replace("@v1", "@v2"),
        made.text.replace("index 3", "index 03"),
        made.text.replace("extra ", "Extra "),
        "",
        "\xff",
    ):
        with pytest.raises(receipt.MalformedReceipt):
            receipt.parse(bad.encode("latin-1", "replace"))
