"""What was promised, what was received and what we wrote down ourselves, compared: a lost message has nowhere to hide.

Three witnesses that share no code: the producer's ledger (durable lines for what it was about to submit and for every
acknowledgement it saw), the receiver's (whole requests, durable before they were answered), and the tables. `compare`
raises for everything that reliability.md forbids and returns the counts:

* acknowledged is a subset of received + dead letters + skipped + cancelled, endpoint by endpoint;
* received is a subset of submitted, with equal hashes and tenants, each signature valid by the official library;
* our attempt log is a subset of the receiver's, short only by attempts that were in flight when a process was killed;
* what stands in a line reaches its endpoint in the line's order, save in such an attempt or one that is marked late;
* a message is taken twice by an endpoint only in such an attempt, in one that is marked late, or in one whose answer came
  after our time-out (then our log has no status), under one webhook-id.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from ...kernel.ids import to_text
from .places import Query

BEFORE_A_KILL_US = 3_000_000
AFTER_A_KILL_US = 1_500_000
"""The receiver may read, a moment later, what a killed process had sent."""

IN_FLIGHT = 10
ACKNOWLEDGED_TOGETHER = 256
"""What one process has on its way to one endpoint, and what one of its groups of acknowledgements may hold."""

DELIVERIES = "select tenant, message_id, endpoint_id, state, reason, owner from netra_delivery"
PLACES = "select tenant, message_id, endpoint_id, line, place from netra_delivery where line is not null"
ATTEMPTS = "select tenant, message_id, endpoint_id, id, outcome, status, late from netra_attempt"


@dataclass(frozen=True)
class Target:
    """An endpoint under test."""

    tenant: str
    name: str
    id: str
    secret: str


@dataclass(frozen=True)
class Counts:
    """What the comparison saw; `lost` is 0 or `compare` has raised."""

    submitted: int
    acknowledged: int
    received: int
    delivered: int
    dead: int
    duplicates: int
    late: int
    unrecorded: int
    signatures: int
    lost: int = 0


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a ledger; a kill may have cut the last one."""
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


def compare(*, producers: Iterable[Path], receiver: Path, query: Query, targets: Sequence[Target], kills_us: Sequence[int] = ()) -> Counts:
    """See the module's docstring."""
    submitted, acknowledged = _producers(producers)
    received = lines(receiver)
    by_place = {(target.tenant, target.name): target for target in targets}
    _requests_are_genuine(received, submitted, by_place)
    taken = _taken(received, by_place)
    _nothing_is_lost(acknowledged, submitted, _deliveries(query), taken, targets)
    recorded = {to_text("atmpt", row[3]): row for row in query(ATTEMPTS)}
    unrecorded = _logs_agree(received, recorded, kills_us)
    _order_holds(received, by_place, query, recorded)
    duplicates = _duplicates_are_excused(taken, recorded, unrecorded)
    states = Counter(row[3] for row in query(DELIVERIES))
    return Counts(
        submitted=len(submitted),
        acknowledged=len(acknowledged),
        received=len(received),
        delivered=states["delivered"],
        dead=states["dead"],
        duplicates=duplicates,
        late=sum(row[6] for row in recorded.values()),
        unrecorded=len(unrecorded),
        signatures=len(received),
    )


def _producers(paths: Iterable[Path]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    submitted: dict[str, dict[str, Any]] = {}
    acknowledged: dict[str, str] = {}
    for line in (line for path in paths for line in lines(path)):
        if "submitted" in line:
            submitted[line["submitted"]] = line
        elif "acknowledged" in line:
            assert acknowledged.setdefault(line["acknowledged"], line["message"]) == line["message"], f"one key, two messages: {line}"
    assert acknowledged.keys() <= submitted.keys()
    return submitted, acknowledged


def _requests_are_genuine(received: Iterable[dict[str, Any]], submitted: dict[str, Any], by_place: dict[tuple[str, str], Target]) -> None:
    for request in received:
        _, _, tenant, name = request["path"].split("/")
        payload = Webhook(by_place[tenant, name].secret).verify(request["body"], request["headers"])
        line = submitted.get(payload["ref"])
        assert line is not None, f"received what nobody submitted: {payload}"
        assert line["tenant"] == tenant == payload["tenant"], f"{payload['ref']} reached another tenant"
        assert line["sha256"] == hashlib.sha256(request["body"].encode()).hexdigest(), f"{payload['ref']} was changed on its way"


def _order_holds(
    received: Iterable[dict[str, Any]], by_place: dict[tuple[str, str], Target], query: Query, recorded: dict[str, Any]
) -> None:
    """W6: within each line nothing arrives before what stands before it, as the numbers of the committed rows say."""
    places = {(to_text("msg", row[1]), row[2].hex()): (row[3], row[4]) for row in query(PLACES)}
    reached: dict[tuple[str, str], int] = {}
    for request in received:
        _, _, tenant, name = request["path"].split("/")
        message, endpoint = request["headers"]["webhook-id"], by_place[tenant, name].id
        attempt = recorded.get(request["headers"]["netra-attempt"])
        if (message, endpoint) in places and attempt is not None and not attempt[6]:
            line, place = places[message, endpoint]
            assert place >= reached.get((endpoint, line), 0), f"{message} came after one that stands behind it in {line}"
            reached[endpoint, line] = place


def _taken(received: Iterable[dict[str, Any]], by_place: dict[tuple[str, str], Target]) -> dict[tuple[str, str], list[str]]:
    """(message id, endpoint id) -> the attempts that this endpoint answered with 2xx."""
    taken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for request in received:
        _, _, tenant, name = request["path"].split("/")
        if request["status"] is not None and 200 <= request["status"] < 300:
            headers = request["headers"]
            taken[headers["webhook-id"], by_place[tenant, name].id].append(headers["netra-attempt"])
    return taken


def _deliveries(query: Query) -> dict[tuple[str, str], tuple[str, str | None]]:
    found = {}
    for _, message, endpoint, state, reason, owner in query(DELIVERIES):
        assert state not in {"due", "leased"}, f"not drained: {message.hex()} is {state} of {owner and owner.hex()}"
        found[to_text("msg", message), endpoint.hex()] = (state, reason)
    return found


def _nothing_is_lost(
    acknowledged: dict[str, str],
    submitted: dict[str, dict[str, Any]],
    deliveries: dict[tuple[str, str], tuple[str, str | None]],
    taken: dict[tuple[str, str], list[str]],
    targets: Sequence[Target],
) -> None:
    lost = []
    for ref, message in acknowledged.items():
        for target in targets:
            if target.tenant != submitted[ref]["tenant"]:
                continue
            state, reason = deliveries.get((message, target.id), ("missing", None))
            received = state == "delivered" and (message, target.id) in taken
            recorded = state in {"dead", "skipped", "cancelled"} and bool(reason)
            if not received and not recorded:
                lost.append((ref, message, target.name, state, reason))
    assert lost == [], f"{len(lost)} acknowledged deliveries are lost, the first: {lost[:3]}"


def _logs_agree(received: Sequence[dict[str, Any]], recorded: dict[str, Any], kills_us: Sequence[int]) -> set[str]:
    """Attempts of the receiver's ledger that our log lacks; each was in flight at a kill, or this raises."""
    seen = {request["headers"]["netra-attempt"]: request for request in received}
    assert len(seen) == len(received), "an attempt id was used for two requests"
    invented = [name for name, row in recorded.items() if row[5] and name not in seen]
    assert invented == [], f"our log has answered attempts that the receiver never saw: {invented[:3]}"
    unrecorded = seen.keys() - recorded.keys()
    strange = [
        name for name in unrecorded if not any(-BEFORE_A_KILL_US <= seen[name]["at_us"] - kill <= AFTER_A_KILL_US for kill in kills_us)
    ]
    assert len(unrecorded) <= len(kills_us) * (IN_FLIGHT * len({seen[name]["path"] for name in unrecorded}) + ACKNOWLEDGED_TOGETHER)
    assert strange == [], f"{len(strange)} requests are not in our log although nobody was killed then: {strange[:3]}"
    return set(unrecorded)


def _duplicates_are_excused(taken: dict[tuple[str, str], list[str]], recorded: dict[str, Any], unrecorded: set[str]) -> int:
    duplicates = 0
    for (message, endpoint), attempts in taken.items():
        duplicates += len(attempts) - 1
        plain = [name for name in attempts if name not in unrecorded and recorded[name][5] and not recorded[name][6]]
        assert len(plain) <= 1, f"{message} was delivered to {endpoint} {len(plain)} times with no kill and no lost lease between: {plain}"
    return duplicates
