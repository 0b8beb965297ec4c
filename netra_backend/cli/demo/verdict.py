"""The demo's verdict, from the ledgers alone: `python verdict.py FOLDER` reads them, writes `report.json`, prints a table.

It imports nothing of Netra and believes nobody: what the producer was told (`producer.ndjson`) is compared with what
the receivers wrote down before they answered (`receiver-*.ndjson`), and both with the input and with what was done to
the server (`run.ndjson`). Exit 0 only if every check holds.

A duplicate is a message that one receiver accepted twice. At-least-once delivery allows it for an attempt that was in
flight when the server was killed: accepted at most `IN_FLIGHT_S` before the kill (then its outcome may not have been
committed), or so shortly after it that the request was already on its way. Any other duplicate fails the demo.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

IN_FLIGHT_S = 1.0
ON_ITS_WAY_S = 1.0
ARRIVED_S = 0.2
MOST_SECONDS = 120.0
MIDDLE = 0.1
"""A kill is in the middle if at least this share of the messages was acknowledged before it, and as much after it."""

Line = dict[str, Any]
Check = tuple[str, bool, str]


@dataclass
class Ledgers:
    """Everything that was written down."""

    wanted: list[Line]
    acknowledged: list[Line]
    received: dict[str, list[Line]]
    run: list[Line]

    @classmethod
    def read(cls, folder: Path) -> Ledgers:
        """All ledgers of a demo's folder."""
        receivers = {path.stem.removeprefix("receiver-"): lines(path) for path in sorted(folder.glob("receiver-*.ndjson"))}
        return cls(lines(folder / "input.ndjson"), lines(folder / "producer.ndjson"), receivers, lines(folder / "run.ndjson"))

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
    return ("in under two minutes", 0 < seconds < MOST_SECONDS, f"{seconds:.1f} s")


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
    marks = [f"  {'ok  ' if check['ok'] else 'FAIL'} {check['name']} ({check['detail']})" for check in report["checks"]]
    return "\n".join([*(f"  {name:<13} {value}" for name, value in rows), "", *marks])


def _some(names: Sequence[str]) -> str:
    return f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def main(arguments: Sequence[str]) -> int:
    """Judge, write, tell."""
    folder = Path(arguments[0])
    try:
        report = judge(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"the ledgers in {folder} cannot be judged: {error!r}\n")
        return 1
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write((json.dumps(report) if "--json" in arguments else table(report)) + "\n")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
