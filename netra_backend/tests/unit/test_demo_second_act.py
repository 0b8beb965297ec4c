"""The verdict on the demo's second act: it finds what went wrong in each part, and computes from the flights what must have become of them."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from ...cli.demo import company, verdict
from ..support import audit_verifier

AT_US = 1_800_000_000_000_000
S = 1_000_000
FLIGHTS = [  # number, delay, destination, plane
    (1, "5", "BOS", "N1"),
    (2, "121", "BOS", "N1"),
    (3, "400", "ORD", "N2"),
    (4, "NA", "BOS", "N1"),
    (5, "200", "XXX", "N1"),
    (6, "0", "BOS", "N?"),
    (7, "130", "BOS", "N2"),
    (8, "140", "ORD", "N1"),
]
GOOD, BAD, LATE = (1, 2, 3, 7, 8), (4, 5, 6), {2: 121, 3: 400, 7: 130, 8: 140}


def key(number):
    return ("2013-01-01T05:00:00Z", "UA", str(number), "EWR")


def body(number):
    facts = {"id": "|".join(key(number)), "carrier": "UA", "late_min": LATE.get(number, 0)}
    return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()


class Act:
    """The ledgers of a second act in which everything held, to be spoilt by a test."""

    def __init__(self, folder):
        self.folder = folder
        lines = [f"2013-01-01T05:00:00Z,UA,{number},EWR,{dest},{plane},{delay}" for number, delay, dest, plane in FLIGHTS]
        (folder / "flights").mkdir()
        (folder / "trail").mkdir()
        files = {"flights": ["time_hour,carrier,flight,origin,dest,tailnum,dep_delay", *lines]}
        files |= {"airports": ["faa", "BOS", "ORD", "EWR"], "planes": ["tailnum", "N1", "N2"]}
        for name, text in files.items():
            (folder / "flights" / f"{name}.csv").write_text("\n".join(text) + "\n")
        self.run = [
            {"event": "killed_company", "done": 2, "failed": 1},
            {"event": "partner_down", "total": 4, "good": 0, "late": 4, "lost": 0, "value_late": 791.0},
            {"event": "partner_back", "total": 4, "good": 0, "late": 4, "lost": 0, "value_late": 791.0},
            {"event": "provider", "stats": {"requests": [{}] * 4, "superseded": []}},
            {"event": "trail", "ok": True, "size": 3},
        ]
        self.ledgers = {
            "run": [{"loaded": company.digest(map(key, GOOD)), "dead": company.digest(map(key, BAD)), "restarts": 1}],
            "partner": [
                *(
                    {"webhook_id": f"m{n}", "sha256": body(n), "signature_ok": True, "status": status}
                    for n in LATE
                    for status in (503, 200)
                ),
            ],
            "tokens": [{"generation": n, "status": 200} for n in (2, 2, 3)],
            "board": [{"at_us": AT_US + n * 300_000, "truth": n, "shown": n} for n in range(5)],
            "debug": [
                {"kind": "http", "tenant": "newark", "data": {}},
                {"kind": "snapshot", "tenant": "newark", "data": {"variables": {"late_min": 400}}},
                {"kind": "dropped", "tenant": "newark", "data": {}},
            ],
        }
        self.entries = [b'{"n":1}', b'{"n":2}', b'{"n":3}']
        leaf = [hashlib.sha256(b"\0" + entry).digest() for entry in self.entries]
        left = hashlib.sha256(b"\1" + leaf[0] + leaf[1]).digest()
        self.root = base64.b64encode(hashlib.sha256(b"\1" + left + leaf[2]).digest()).decode()

    def event(self, name):
        return next(line for line in self.run if line["event"] == name)

    def broken(self):
        for name, lines in self.ledgers.items():
            (self.folder / f"company-{name}.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (self.folder / "trail" / "entries.ndjson").write_bytes(b"".join(entry + b"\n" for entry in self.entries))
        (self.folder / "trail" / "checkpoint").write_text(f"origin\n3\n{self.root}\n\n- signature\n")
        judged = verdict.Company(self.folder, self.run)
        assert judged.figures()["audit_entries"] == len(self.entries)
        return [name for name, good, _ in judged.checks() if not good]


@pytest.fixture
def good(tmp_path):
    act = Act(tmp_path)
    assert act.broken() == []
    return act


@pytest.mark.parametrize(("kind", "check"), [("loaded", "each flight is loaded once"), ("dead", "each of the others is a dead letter")])
def test_a_flight_that_is_missing_or_is_another_is_found(good, kind, check):
    numbers = GOOD if kind == "loaded" else BAD
    for wrong in (numbers[1:], (*numbers, numbers[0]), (*numbers[1:], 9)):
        good.ledgers["run"][0][kind] = company.digest(map(key, wrong))
        assert good.broken() == [check]


@pytest.mark.parametrize(("done", "restarts"), [(0, 1), (8, 1), (2, 0)])
def test_a_kill_that_was_not_in_the_middle_proves_nothing(good, done, restarts):
    good.event("killed_company").update(done=done, failed=0)
    good.ledgers["run"][0]["restarts"] = restarts
    assert good.broken() == ["the company's program was killed in the middle of its batch"]


def test_a_message_that_was_not_told_or_told_of_nothing_is_found(good):
    check = ["each late flight that is loaded was told to the partner, and no other"]
    told = good.ledgers["partner"]
    good.ledgers["partner"] = told[:-1]
    assert good.broken() == check
    good.ledgers["partner"] = [*told, told[-1] | {"webhook_id": "m9", "sha256": body(1)}]
    assert good.broken() == check
    good.ledgers["partner"] = [*told, told[-1] | {"webhook_id": "m9"}]
    assert good.broken() == check


def test_an_unsigned_request_is_found(good):
    good.ledgers["partner"][0]["signature_ok"] = None
    assert good.broken() == ["every request to the partner was signed by its secret"]


def test_a_refused_token_and_an_older_one_are_found(good):
    good.ledgers["tokens"][1]["status"] = 401
    assert good.broken() == ["the provider took every token that the vault gave"]
    good.ledgers["tokens"][1].update(status=200, generation=9)
    assert good.broken() == ["the provider took every token that the vault gave"]


def test_a_refresh_token_that_was_sent_twice_is_found_unless_the_kill_took_its_answer(good):
    good.event("provider")["stats"]["superseded"] = [{}]
    assert good.broken() == []
    good.event("provider")["stats"]["superseded"] = [{}, {}]
    assert good.broken() == ["no refresh token was sent twice, but for one whose answer a kill took"]


def test_a_board_of_which_nothing_was_changed_proves_nothing(good):
    good.ledgers["board"] = good.ledgers["board"][-3:]
    assert good.broken() == ["the cached board never showed what a second had made untrue"]


def test_a_board_that_shows_what_was_changed_more_than_a_second_ago_is_found(good):
    check = ["the cached board never showed what a second had made untrue"]
    good.ledgers["board"][3]["shown"] = 2  # the truth that it lacks is 300 ms old
    assert good.broken() == []
    good.ledgers["board"].append({"at_us": AT_US + 5 * S, "truth": 4, "shown": 3})
    assert good.broken() == check
    good.ledgers["board"][-1:] = [{"at_us": AT_US + 4 * S, "truth": 4, "shown": 3}, {"at_us": AT_US + 5 * S, "truth": 4, "shown": 4}]
    assert good.broken() == check


@pytest.mark.parametrize("wrong", [{"total": 5}, {"late": 1}, {"value_late": 790.0}])
def test_a_kpi_that_counted_otherwise_is_found(good, wrong):
    good.event("partner_down").update(wrong)
    assert "the KPI counted each late flight, and its minutes, as not told in time" in good.broken()


def test_what_was_lost_after_all_is_found(good):
    good.event("partner_back")["lost"] = 1
    assert good.broken() == ["once the partner was back none was lost"]


@pytest.mark.parametrize(
    "record",
    [{"tenant": "other", "kind": "http", "data": {}}, {"tenant": "newark", "kind": "snapshot", "data": {"variables": {"late_min": 3}}}],
)
def test_a_debug_session_that_saw_what_it_must_not_is_found(good, record):
    good.ledgers["debug"].append(record)
    assert good.broken() == ["the debug session saw its own tenant, and what it had asked for"]


def test_a_debug_session_that_saw_nothing_proves_nothing(good):
    del good.ledgers["debug"][1]
    assert good.broken() == ["the debug session saw its own tenant, and what it had asked for"]


def test_an_entry_that_is_not_the_one_which_was_signed_is_found(good):
    good.entries[1] = b'{"n":4}'
    assert good.broken() == ["the audit trail holds, its root computed once more here"]


def test_a_trail_that_netra_itself_refused_is_found(good):
    good.event("trail")["ok"] = False
    assert good.broken() == ["the audit trail holds, its root computed once more here"]


@pytest.mark.parametrize("size", range(1, 10))
def test_the_root_is_that_of_another_implementation(size):
    leaves = [hashlib.sha256(bytes([0, n])).digest() for n in range(size)]
    assert verdict.tree(leaves) == audit_verifier.tree_hash(leaves)
