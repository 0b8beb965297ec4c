"""The demo's verdict, from the ledgers alone: `python verdict.py FOLDER` reads them, writes `report.json`, prints a table.

It imports nothing of Netra and believes nobody: what the producer was told (`producer.ndjson`) is compared with what
the receivers wrote down before they answered (`receiver-*.ndjson`), and both with the input and with what was done to
the server (`run.ndjson`). Of the second act it reads the flights themselves, and computes from them what must have become of each: which
are loaded, announced, counted. Exit 0 only if every check holds.

A duplicate is a message that one receiver accepted twice. At-least-once delivery allows it for an attempt that was in
flight when the server was killed: accepted at most `IN_FLIGHT_S` before the kill (then its outcome may not have been
committed), or so shortly after it that the request was already on its way. Any other duplicate fails the demo.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

IN_FLIGHT_S = 1.0
ON_ITS_WAY_S = 1.0
ARRIVED_S = 0.2
MOST_SECONDS = 180.0
MIDDLE = 0.1
"""A kill is in the middle if at least this share of the messages was acknowledged before it, and as much after it."""

STALE_AFTER_S = 1.0
"""The cache's bound: what was committed so long before a read must be seen by it (`cache_lease`, 1 s by default)."""

LATE_MIN = 120
LOGPOINT_MIN = 240
TENANT = "newark"

Line = dict[str, Any]
Check = tuple[str, bool, str]


@dataclass
class Ledgers:
    """Everything that was written down."""

    wanted: list[Line]
    acknowledged: list[Line]
    received: dict[str, list[Line]]
    run: list[Line]
    company: Company | None

    @classmethod
    def read(cls, folder: Path) -> Ledgers:
        """All ledgers of a demo's folder."""
        receivers = {path.stem.removeprefix("receiver-"): lines(path) for path in sorted(folder.glob("receiver-*.ndjson"))}
        run = lines(folder / "run.ndjson")
        second = any(line["event"] == "began" and line["rows"] for line in run)
        company = Company(folder, run) if second else None
        return cls(lines(folder / "input.ndjson"), lines(folder / "producer.ndjson"), receivers, run, company)

    def events(self, name: str) -> list[Line]:
        """What was done to the server or a receiver."""
        return [line for line in self.run if line["event"] == name]


@dataclass
class Facts:
    """What the ledgers add up to."""

    accepted: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """receiver -> message -> when it was accepted, in order."""
    retried: int = 0
    unsigned: int = 0
    altered: int = 0
    strangers: set[str] = field(default_factory=set)
    late_duplicates: list[str] = field(default_factory=list)
    duplicates: int = 0
    lost: list[str] = field(default_factory=list)


def lines(path: Path) -> list[Line]:
    """The objects of an NDJSON file, which must end with a whole line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def add_up(ledgers: Ledgers) -> Facts:
    """Compare what was acknowledged with what was received."""
    facts = Facts()
    digests = {line["event_id"]: line["sha256"] for line in ledgers.wanted}
    expected = {line["message_id"]: digests.get(line["event_id"]) for line in ledgers.acknowledged}
    kills = [line["at_us"] for line in ledgers.events("killed")]
    for receiver, got in ledgers.received.items():
        requests: Counter[str] = Counter()
        accepted: defaultdict[str, list[int]] = defaultdict(list)
        for line in sorted(got, key=lambda each: each["at_us"]):
            message = line["webhook_id"] or ""
            requests[message] += 1
            facts.unsigned += line["signature_ok"] is not True
            if message not in expected:
                facts.strangers.add(message)
            elif line["sha256"] != expected[message]:
                facts.altered += 1
            if line["status"] is not None and 200 <= line["status"] < 300:
                accepted[message].append(line["at_us"])
        facts.accepted[receiver] = dict(accepted)
        facts.retried += sum(1 for message, count in requests.items() if count > len(accepted.get(message, ())))
        facts.lost += [f"{message} at {receiver}" for message in expected if message not in accepted]
        _judge_duplicates(facts, receiver, kills)
    return facts


def _judge_duplicates(facts: Facts, receiver: str, kills: Sequence[int]) -> None:
    for message, times in facts.accepted[receiver].items():
        for earlier, later in pairwise(times):
            facts.duplicates += 1
            if not any(_was_in_flight(earlier, later, kill) for kill in kills):
                facts.late_duplicates.append(f"{message} at {receiver}")


def _was_in_flight(earlier: int, later: int, kill: int) -> bool:
    return kill - IN_FLIGHT_S * 1e6 <= earlier <= kill + ON_ITS_WAY_S * 1e6 and later > kill


def checks(ledgers: Ledgers, facts: Facts) -> list[Check]:
    """(what is promised, whether it holds, the figures)."""
    acknowledged, wanted = ledgers.acknowledged, ledgers.wanted
    events = Counter(line["event_id"] for line in acknowledged)
    missing = {line["event_id"] for line in wanted} - events.keys()
    messages = {line["message_id"] for line in acknowledged}
    return [
        ("every event was acknowledged", bool(wanted) and not missing, f"{len(events)} of {len(wanted)}"),
        ("one event is one message", len(messages) == len(events) == len(acknowledged), f"{len(messages)} messages, {len(events)} events"),
        ("three receivers wrote ledgers", len(ledgers.received) == 3, ", ".join(ledgers.received)),
        ("nothing acknowledged was lost", bool(acknowledged) and not facts.lost, f"{len(facts.lost)} lost {_some(facts.lost)}"),
        (
            "duplicates only among attempts in flight at a kill",
            not facts.late_duplicates,
            f"{facts.duplicates}, of these others: {len(facts.late_duplicates)} {_some(facts.late_duplicates)}",
        ),
        ("every request was signed by its endpoint's secret", not facts.unsigned, f"{facts.unsigned} were not"),
        ("every body arrived as it was sent", not facts.altered, f"{facts.altered} did not"),
        ("nothing arrived that was not acknowledged", not facts.strangers, f"{len(facts.strangers)} did {_some(sorted(facts.strangers))}"),
        *_the_faults_were_real(ledgers),
        *(ledgers.company.checks() if ledgers.company else ()),
        _in_time(ledgers),
    ]


def _the_faults_were_real(ledgers: Ledgers) -> list[Check]:
    kills = ledgers.events("killed")
    total = len(ledgers.acknowledged)
    before = [sum(line["at_us"] < kill["at_us"] for line in ledgers.acknowledged) for kill in kills]
    middle = bool(kills) and all(total * MIDDLE <= count <= total * (1 - MIDDLE) for count in before)
    answers = {name: Counter(line["status"] for line in got) for name, got in ledgers.received.items()}
    errors = sum(count for status, count in answers.get("flaky", Counter()).items() if status in {500, 503})
    silence = answers.get("hanging", Counter())[None]
    stopped = [line["exit_code"] for line in ledgers.events("stopped")]
    return [
        ("the server was killed with SIGKILL in the middle", middle, f"acknowledged before it: {before} of {total}"),
        ("the flaky receiver refused with 500 and 503", errors > 0, f"{errors} times"),
        ("the hanging receiver left requests unanswered", silence > 0, f"{silence} times"),
        ("SIGTERM ended the server cleanly", stopped == [0] * (1 + len(ledgers.events("working"))), f"exit codes {stopped}"),
        *_the_others_went_on(ledgers),
    ]


def _the_others_went_on(ledgers: Ledgers) -> list[Check]:
    """Of a run with workers beside the server: what receivers got while the server was away, they got from those.

    What the server had sent before it died has arrived `ARRIVED_S` later.
    """
    workers, outages = ledgers.events("working"), list(zip(ledgers.events("killed"), ledgers.events("serving")[1:], strict=False))
    if not workers:
        return []
    times = [line["at_us"] for got in ledgers.received.values() for line in got]
    count = sum(down["at_us"] + ARRIVED_S * 1e6 < at_us < up["at_us"] for down, up in outages for at_us in times)
    return [("the other processes went on while the server was away", count > 0, f"{count} requests of {len(workers)} workers")]


def _in_time(ledgers: Ledgers) -> Check:
    times = [line["at_us"] for line in ledgers.run]
    seconds = (max(times) - min(times)) / 1e6 if times else 0.0
    return ("in under three minutes", 0 < seconds < MOST_SECONDS, f"{seconds:.1f} s")


def figures(ledgers: Ledgers, facts: Facts) -> Line:
    """The table: counts, rate, and how long a message took from its first send to the healthy receiver."""
    acknowledged = ledgers.acknowledged
    began = min((line["first_sent_us"] for line in acknowledged), default=0)
    ended = max((line["at_us"] for line in acknowledged), default=0)
    first = {message: times[0] for message, times in facts.accepted.get("healthy", {}).items()}
    outages = list(zip(ledgers.events("killed"), ledgers.events("serving")[1:], strict=False))
    took, calm = [], []
    for line in acknowledged:
        arrived = first.get(line["message_id"])
        if arrived is not None:
            took.append((arrived - line["first_sent_us"]) / 1000)
            if not any(line["first_sent_us"] < up["at_us"] and max(arrived, line["at_us"]) > down["at_us"] for down, up in outages):
                calm.append(took[-1])
    return {
        "acknowledged": len(acknowledged),
        "delivered": sum(map(len, facts.accepted.values())),
        "retried": facts.retried,
        "duplicates": facts.duplicates,
        "lost": len(facts.lost),
        "messages_per_s": round(len(acknowledged) / ((ended - began) / 1e6), 1) if ended > began else None,
        "p50_ms": percentile(took, 0.50),
        "p99_ms": percentile(took, 0.99),
        "p99_without_outage_ms": percentile(calm, 0.99),
        "outage_s": round(sum(up["at_us"] - down["at_us"] for down, up in outages) / 1e6, 2),
    }


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


def judge(folder: Path) -> Line:
    """The whole report."""
    ledgers = Ledgers.read(folder)
    facts = add_up(ledgers)
    found = checks(ledgers, facts)
    return {
        "ok": all(good for _, good, _ in found),
        **figures(ledgers, facts),
        **({"company": ledgers.company.figures()} if ledgers.company else {}),
        "checks": [{"name": name, "ok": good, "detail": detail.strip()} for name, good, detail in found],
    }


def table(report: Mapping[str, Any]) -> str:
    """The report in words."""
    rows = [
        ("acknowledged", f"{report['acknowledged']:,} messages"),
        ("delivered", f"{report['delivered']:,} times, to three receivers"),
        ("retried", f"{report['retried']:,} deliveries"),
        ("duplicates", f"{report['duplicates']:,}"),
        ("lost", f"{report['lost']:,}"),
        ("messages/s", f"{report['messages_per_s'] or 0:,}, the outage of {report['outage_s']} s included"),
        ("p99", f"{report['p99_ms']} ms to the healthy receiver; {report['p99_without_outage_ms']} ms without the outage"),
    ]
    rows += [(name.replace("_", " "), f"{value:,}") for name, value in report.get("company", {}).items()]
    marks = [f"  {'ok  ' if check['ok'] else 'FAIL'} {check['name']} ({check['detail']})" for check in report["checks"]]
    return "\n".join([*(f"  {name:<22} {value}" for name, value in rows), "", *marks])


class Company:
    """The second act: what the company's program and those around it wrote down, beside what the flights themselves say."""

    def __init__(self, folder: Path, run: Sequence[Line]) -> None:
        self._folder = folder
        self._run = run

    def checks(self) -> list[Check]:
        """As those of the first act."""
        return [
            *self._of_the_batch(),
            *self._of_the_messages(),
            *self._of_the_tokens(),
            self._of_the_board(),
            *self._of_the_kpi(),
            self._of_debug(),
            self._of_the_trail(),
        ]

    def figures(self) -> Line:
        """For the table."""
        loaded = self._ledger("run")[-1]
        return {
            "flights_loaded": loaded["loaded"]["count"],
            "dead_letters": loaded["dead"]["count"],
            "late_flights_told": len({line["webhook_id"] for line in self._accepted}),
            "tokens_asked_for": len(self._ledger("tokens")),
            "refreshes": len(self._stats["requests"]) - 1,
            "reads_of_the_board": len(self._ledger("board")),
            "debug_records": len(self._ledger("debug")),
            "audit_entries": len(self._entries),
        }

    def _of_the_batch(self) -> list[Check]:
        loaded, dead = digest(map(key_of, self._good)), digest(map(key_of, self._bad))
        found, kill = self._ledger("run")[-1], self._event("killed_company")
        before = kill["done"] + kill["failed"]
        return [
            ("each flight is loaded once", found["loaded"] == loaded, f"{found['loaded']['count']} of {loaded['count']}"),
            ("each of the others is a dead letter", found["dead"] == dead, f"{found['dead']['count']} of {dead['count']}"),
            (
                "the company's program was killed in the middle of its batch",
                0 < before < len(self._flights) and found["restarts"] > 0,
                f"{before} of {len(self._flights)} flights before it, {found['restarts']} chunks begun anew",
            ),
        ]

    def _of_the_messages(self) -> list[Check]:
        bodies = [{"id": "|".join(key_of(row)), "carrier": row["carrier"], "late_min": int(row["dep_delay"])} for row in self._late]
        wanted = {hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest() for body in bodies}
        got = {line["webhook_id"]: line["sha256"] for line in self._accepted}
        unsigned = sum(line["signature_ok"] is not True for line in self._ledger("partner"))
        return [
            (
                "each late flight that is loaded was told to the partner, and no other",
                bool(wanted) and set(got.values()) == wanted and len(got) == len(wanted),
                f"{len(got)} messages, {len(wanted)} late flights",
            ),
            ("every request to the partner was signed by its secret", not unsigned, f"{unsigned} were not"),
        ]

    def _of_the_tokens(self) -> list[Check]:
        asked, stats = [line for line in self._ledger("tokens") if line["generation"] is not None], self._stats
        refused = sum(line["status"] != 200 for line in asked)
        order = all(before["generation"] <= after["generation"] for before, after in pairwise(asked))
        kills = sum(line["event"] == "killed_company" for line in self._run)
        return [
            (
                "the provider took every token that the vault gave",
                bool(asked) and not refused and order,
                f"{refused} of {len(asked)} refused",
            ),
            (
                "no refresh token was sent twice, but for one whose answer a kill took",
                len(stats["requests"]) > 2 and len(stats["superseded"]) <= kills,
                f"{len(stats['requests'])} requests, {len(stats['superseded'])} superseded",
            ),
        ]

    def _of_the_board(self) -> Check:
        reads, stale, newest = self._ledger("board"), 0, 0
        old: list[Line] = []
        for read in reads:
            while old and old[0]["at_us"] <= read["at_us"] - STALE_AFTER_S * 1e6:
                newest = max(newest, old.pop(0)["truth"])
            stale += read["shown"] < newest
            old.append(read)
        last = reads[-1]
        right = last["shown"] == last["truth"] == len(self._late)
        moved = len({read["truth"] for read in reads}) > 3
        return (
            "the cached board never showed what a second had made untrue",
            moved and right and not stale,
            f"{stale} of {len(reads)} reads",
        )

    def _of_the_kpi(self) -> list[Check]:
        down, back = self._event("partner_down"), self._event("partner_back")
        minutes = sum(int(row["dep_delay"]) for row in self._late)
        counted = (down["total"], down["late"], down["value_late"]) == (len(self._late), len(self._late), minutes)
        return [
            (
                "the KPI counted each late flight, and its minutes, as not told in time",
                counted,
                f"{down['late']}, {down['value_late']:,.0f} minutes",
            ),
            (
                "once the partner was back none was lost",
                (back["total"], back["lost"]) == (down["total"], 0),
                f"{back['lost']} of {back['total']}",
            ),
        ]

    def _of_debug(self) -> Check:
        records = [line for line in self._ledger("debug") if line["kind"] != "dropped"]
        kinds = {line["kind"] for line in records}
        strangers = [line for line in records if line["tenant"] != TENANT]
        variables = [line["data"]["variables"] for line in records if line["kind"] == "snapshot"]
        seen = [each["late_min"] for each in variables if "late_min" in each]  # a snapshot's own limits end some before that
        good = kinds == {"http", "snapshot"} and not strangers and bool(seen) and min(seen) >= LOGPOINT_MIN
        return (
            "the debug session saw its own tenant, and what it had asked for",
            good,
            f"{len(records)} records, {len(seen)} at the logpoint",
        )

    def _of_the_trail(self) -> Check:
        """RFC 6962, section 2.1, over the exported lines, against the root that was signed."""
        _, size, root = (self._folder / "trail" / "checkpoint").read_text(encoding="utf-8").splitlines()[:3]
        computed = base64.b64encode(tree([hashlib.sha256(b"\0" + line).digest() for line in self._entries])).decode()
        verdict = self._event("trail")
        good = verdict["ok"] is True and int(size) == len(self._entries) == verdict["size"] and root == computed
        return ("the audit trail holds, its root computed once more here", good, f"{size} entries, root {root[:12]}...")

    def _ledger(self, name: str) -> list[Line]:
        return lines(self._folder / f"company-{name}.ndjson")

    def _event(self, name: str) -> Line:
        return next(line for line in self._run if line["event"] == name)

    def _rows(self, name: str) -> list[dict[str, str]]:
        with (self._folder / "flights" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @cached_property
    def _flights(self) -> list[dict[str, str]]:
        return self._rows("flights")

    @cached_property
    def _bad(self) -> list[dict[str, str]]:
        """Flights that never left, and those whose airport or plane nobody knows."""
        known = {name: {row[key] for row in self._rows(name)} for name, key in (("airports", "faa"), ("planes", "tailnum"))}
        return [
            row
            for row in self._flights
            if row["dep_delay"] == "NA" or row["dest"] not in known["airports"] or row["tailnum"] not in known["planes"]
        ]

    @cached_property
    def _good(self) -> list[dict[str, str]]:
        bad = {key_of(row) for row in self._bad}
        return [row for row in self._flights if key_of(row) not in bad]

    @cached_property
    def _late(self) -> list[dict[str, str]]:
        return [row for row in self._good if int(row["dep_delay"]) >= LATE_MIN]

    @cached_property
    def _accepted(self) -> list[Line]:
        return [line for line in self._ledger("partner") if line["status"] is not None and 200 <= line["status"] < 300]

    @property
    def _stats(self) -> Line:
        found: Line = self._event("provider")["stats"]
        return found

    @cached_property
    def _entries(self) -> list[bytes]:
        return (self._folder / "trail" / "entries.ndjson").read_bytes().splitlines()


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a flight is known by."""
    return row["time_hour"], row["carrier"], row["flight"], row["origin"]


def digest(keys: Iterable[Sequence[str]]) -> Line:
    """How many there are, and one digest of all in order."""
    joined = sorted("|".join(key) for key in keys)
    return {"count": len(joined), "sha256": hashlib.sha256("\n".join(joined).encode()).hexdigest()}


def tree(leaves: Sequence[bytes]) -> bytes:
    """The root over hashes of leaves."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree(leaves[:left]) + tree(leaves[left:])).digest()


def _some(names: Sequence[str]) -> str:
    return f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def main(arguments: Sequence[str]) -> int:
    """Judge, write, tell."""
    folder = Path(arguments[0])
    try:
        report = judge(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"the ledgers in {folder} cannot be judged, for the story has not come to its end: {why}\n")
        return 1
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write((json.dumps(report) if "--json" in arguments else table(report)) + "\n")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
