"""Definitions, objects and figures in the database: one function per question, and `take`, which counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Final

import orjson

from ...errors import NotFound
from ...kernel.failpoints import declare
from ...kernel.scope import SYSTEM_TENANT
from ...kernel.witnesses import Dependencies, Messages
from ...storage import log
from ...storage.audit_append import audit_append
from ...storage.log import LogEntry
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx
from . import alerts
from .evaluation import COUNTERS, KEEP_MISSED_US, Figures, Judgement, Object, difference, figures_of, judge, merge
from .joining import Definitions, Key, Occurrence, Said, concerning, message_of, occurrence, read
from .model import MICRO, RESULTS, Definition

Q = Statements(__package__)

STREAMS: Final = {"events": "kpi", "cache": "kpi.cache"}
"""Stream -> the cursor on it."""

DEFINING: Final = "kpi.define"
DUE_AT_ONCE: Final = 500
OBJECTS_OF_A_CAUSE: Final = 20
MOST_CAUSES: Final = 50
MOST_ADDED: Final = 2**62 - 1
"""In millionths, to a figure at once: two such sums fit into 64 bits, and no tenant's amounts stop the counting of all."""

COUNTED: Final = declare("kpi.counted_before_commit", "objects and figures are written and the cursor is moved, nothing is committed")


@dataclass(slots=True)
class Known:
    """An object as its row has it."""

    key: Key
    found: Object
    judgement: Judgement
    cause: str | None


# Definitions


async def definitions(tx: Tx) -> list[Definition]:
    """What is defined, by name."""
    rows = await tx.all(Q.live_kpis, tenant=SYSTEM_TENANT)
    return [Definition.of_json(name, orjson.loads(text), id_) for id_, name, text in rows]


async def define(tx: Tx, wanted: Sequence[Definition]) -> None:
    """Write what is declared and not so defined yet. Where events would be judged otherwise, the KPI is counted anew."""
    await tx.execute(log.Q.ensure_lease, name=DEFINING)
    await tx.execute(Q.lock_definitions, name=DEFINING)  # every process of a fleet declares the same at its start
    known = {each.name: each for each in await definitions(tx)}
    for each in wanted:
        there = known.get(each.name)
        if there == each:
            continue
        is_same = there is not None and there.judging() == each.judging()
        if there is not None and there.slo is not None and (each.slo is None or not is_same):
            await alerts.clear(tx, there)
        if there is not None and is_same:
            entry = await _audited(tx, "kpi.update", there.id, each)
            await tx.execute(Q.update_kpi, id=there.id, definition=_text(each), now_us=tx.now_us, audit_id=entry)
            continue
        if there is not None:
            entry = await _audited(tx, "kpi.retire", there.id, there)
            await tx.execute(Q.bury_kpi, id=there.id, now_us=tx.now_us, audit_id=entry)
        id_ = tx.new_id()
        entry = await _audited(tx, "kpi.define", id_, each)
        await tx.execute(Q.insert_kpi, id=id_, name=each.name, definition=_text(each), now_us=tx.now_us, audit_id=entry)
    for stream, cursor in STREAMS.items():  # from here on; what is older than the first definition is not counted
        if wanted and await tx.one(log.Q.get_cursor, name=cursor) is None:
            await log.move_cursor(tx, cursor, stream, await log.last_seq(tx, stream))


async def _audited(tx: Tx, action: str, id_: bytes, definition: Definition) -> bytes:
    return await audit_append(tx, action, id_, table="netra_kpi", after={"name": definition.name, **definition.to_json()})


def _text(definition: Definition) -> str:
    return orjson.dumps(definition.to_json()).decode()


async def named(tx: Tx, name: str) -> Definition:
    """The KPI of that name."""
    for each in await definitions(tx):
        if each.name == name:
            return each
    raise NotFound(f"there is no KPI {name[:80]!r}", fix="`netra kpi list` shows what is defined.")


# Counting


@dataclass(frozen=True, slots=True)
class Look:
    """What stands behind the cursors and what it says, and where each cursor stood and is to stand."""

    known: Definitions
    said: Said
    before: Mapping[str, int]
    after: Mapping[str, int]


async def look(tx: Tx, messages: Messages, rows_at_once: int, events_at_once: int) -> Look:
    """Read the next rows and what they say of objects: payloads and conditions are worked on here, where no write lock is held."""
    known = Definitions(await definitions(tx))
    streams, before, after = {}, {}, {}
    for stream, cursor in STREAMS.items():
        before[cursor] = await log.cursor(tx, cursor)
        streams[stream] = _some(await log.read_after(tx, stream, before[cursor], rows_at_once), events_at_once)
        # without rows the log was trimmed before this cursor was in it
        after[cursor] = streams[stream][-1].seq if streams[stream] else max(before[cursor], await log.last_seq(tx, stream))
    return Look(known, read(await _occurrences(tx, known, streams, messages), known), before, after)


def _some(rows: Sequence[LogEntry], events_at_once: int) -> list[LogEntry]:
    """As many of the rows as hold about so many events, one at least."""
    taken: list[LogEntry] = []
    events = 0
    for row in rows:
        if taken and events + len(row.items) > events_at_once:
            break
        taken.append(row)
        events += len(row.items)
    return taken


async def take(tx: Tx, seen: Look, messages: Messages, troubles: Dependencies) -> Counter[tuple[str, str]] | None:
    """Count what was seen and move the cursors behind it; how many objects came to which result, by KPI.

    None where a cursor does not stand any more where it was seen: somebody else has counted.
    """
    for cursor, seq in seen.before.items():
        if await log.cursor(tx, cursor) != seq:
            return None
    said = seen.said
    standing = await _standing(tx, said)
    moves = []
    for key in sorted(said.objects.keys() | said.troubles.keys() & standing.keys()):
        before = standing.get(key) or Known(key, Object(), Judgement(), None)
        after = merge(before.found, said.objects[key]) if key in said.objects else before.found
        moves.append((before, after, said.troubles.get(key, before.cause)))
    results = await _judge_all(tx, seen.known, moves, messages, troubles)
    for stream, cursor in STREAMS.items():
        await log.move_cursor(tx, cursor, stream, seen.after[cursor])
    tx.runtime.failpoints.hit(COUNTED)
    return results


async def pass_time(tx: Tx, known: Definitions, messages: Messages, troubles: Dependencies) -> tuple[int, Counter[tuple[str, str]]]:
    """Judge again what time alone has changed; of how many objects, and what they came to."""
    rows = await tx.all(Q.due_objects, now_us=tx.now_us, limit=DUE_AT_ONCE)
    rows += await tx.all(Q.turned_objects, now_us=tx.now_us, limit=DUE_AT_ONCE)
    found = {each.key: each for each in map(_known, rows)}
    results = await _judge_all(tx, known, [(each, each.found, each.cause) for each in found.values()], messages, troubles)
    return len(found), results


async def has_due(tx: Tx) -> bool:
    """Whether time alone has changed something."""
    return await tx.one(Q.has_due_objects, now_us=tx.now_us) is not None


async def forget(tx: Tx, limit: int) -> int:
    """Delete what is not kept any longer, in small pieces; how many rows went."""
    gone = await tx.execute(Q.forget_objects, now_us=tx.now_us, limit=limit)
    return gone + await tx.execute(Q.forget_figures, before_us=tx.now_us - KEEP_MISSED_US, limit=limit)


async def _occurrences(tx: Tx, known: Definitions, streams: Mapping[str, Sequence[LogEntry]], messages: Messages) -> list[Occurrence]:
    items = [(tenant, item, row.at_us) for row in streams.get("events", ()) for tenant, item in row.items if concerning(item, known.types)]
    if "cache.invalidated" in known.types:
        invalidated = [(tenant, item, row.at_us) for row in streams.get("cache", ()) for tenant, item in row.items]
        items += [(tenant, {"type": "cache.invalidated", "id": item["t"], "deps": item["d"]}, at_us) for tenant, item, at_us in invalidated]
    wanted = {key for tenant, item, _ in items if (key := message_of(tenant, item)) is not None}
    facts = await messages.facts(tx, wanted) if wanted else {}
    made = (occurrence(tenant, item, at_us, facts) for tenant, item, at_us in items)
    return [each for each in made if each is not None]


async def _standing(tx: Tx, said: Said) -> dict[Key, Known]:
    """The objects' rows; of what went wrong in a trace also those of its objects."""
    if said.traces:
        for tenant, trace_id, kpi, key in await tx.all(Q.keys_of_traces, rows=sorted(said.traces)):
            said.troubles.setdefault((tenant, kpi, key), said.traces[tenant, trace_id])
    wanted = sorted(said.objects.keys() | said.troubles.keys())
    rows = await tx.all(Q.objects_of, rows=wanted) if wanted else []
    return {each.key: each for each in map(_known, rows)}


_Move = tuple[Known, Object, str | None]
"""An object as it was, as it is, and what went wrong with it lately."""


async def _judge_all(
    tx: Tx, known: Definitions, moves: Iterable[_Move], messages: Messages, troubles: Dependencies
) -> Counter[tuple[str, str]]:
    results: Counter[tuple[str, str]] = Counter()
    judged: list[Known] = []
    totals: dict[tuple[str, bytes, int], Counter[str]] = {}
    for before, after, trouble in moves:
        definition = known.by_id.get(before.key[1])
        if definition is None:  # retired meanwhile: it is not looked at again
            judged.append(replace_judgement(before))
            continue
        now = Known(before.key, after, judge(definition, after, tx.now_us), trouble)
        _add(totals, before.key, difference(figures_of(before.found, before.judgement), figures_of(after, now.judgement)))
        if now.judgement.result in RESULTS and now.judgement.result != before.judgement.result:
            results[definition.name, now.judgement.result] += 1
        judged.append(now)
    await _find_causes(tx, known, judged, messages, troubles)
    if judged:
        await tx.execute(Q.put_objects, rows=sorted(map(_row, judged), key=lambda row: row[:3]))
    if totals:
        rows = sorted((*place, *(max(-MOST_ADDED, min(sums[name], MOST_ADDED)) for name in COUNTERS)) for place, sums in totals.items())
        await tx.execute(Q.add_figures, rows=rows)
    return results


def replace_judgement(known: Known) -> Known:
    """The same, with nothing for time to change."""
    return Known(known.key, known.found, replace(known.judgement, next_us=None, turned_us=None), known.cause)


def _add(totals: dict[tuple[str, bytes, int], Counter[str]], key: Key, figures: Figures) -> None:
    for (minute, name), change in figures.items():
        for tenant in (key[0], SYSTEM_TENANT):
            totals.setdefault((tenant, key[1], minute), Counter())[name] += change


async def _find_causes(tx: Tx, known: Definitions, judged: Sequence[Known], messages: Messages, troubles: Dependencies) -> None:
    """Say of each that was missed why: its deliveries, else what went wrong with it, else with what its KPI depends on."""
    missed = [each for each in judged if each.judgement.result in {"late", "lost"} and each.found.kept_us is None]
    for each in judged:
        if each.judgement.result == "good":
            each.cause = None
    keys = {(each.key[0], each.found.message) for each in missed if each.found.message is not None}
    said = await messages.causes(tx, keys) if keys else {}
    silent = []
    for each in missed:
        told = said.get((each.key[0], each.found.message)) if each.found.message is not None else None
        each.cause = told or each.cause
        if not each.cause:
            silent.append(each)
    asked = {(each.key[0], name) for each in silent for name in _definition(known, each).depends_on}
    found = await troubles.troubles(tx, asked) if asked else {}
    for each in silent:
        definition = _definition(known, each)
        words = (found.get((each.key[0], name)) for name in definition.depends_on)
        each.cause = next((word for word in words if word), f"no {definition.good.type} came")
    for each in judged:
        if each.judgement.result in {"late", "lost"} and not each.cause:
            each.cause = f"{_definition(known, each).good.type} came late"


def _definition(known: Definitions, each: Known) -> Definition:
    return known.by_id[each.key[1]]


def _known(row: Row) -> Known:
    tenant, kpi, key, *facts, result, next_us, turned_us, judged_us, keep_us, cause = row
    return Known((tenant, kpi, key), Object(*facts), Judgement(result, next_us, turned_us, judged_us, keep_us), cause)


def _row(each: Known) -> Row:
    return (*each.key, *astuple(each.found), *astuple(each.judgement), each.cause)


# What became of it


async def figures(tx: Tx, ids: Sequence[bytes], since_us: int, until_us: int) -> dict[str, int]:
    """The sums over the minutes of the scope's tenant (the system's: over all tenants), values in millionths."""
    names = COUNTERS[:8]
    sums = dict.fromkeys(names, 0)
    for id_ in ids:
        row = await tx.one(Q.figures, kpi=id_, since_us=since_us, until_us=until_us)
        assert row is not None  # an aggregate
        counts, wholes, rests = row[:4], row[4:8], row[8:]
        values = [int(whole) * MICRO + int(rest) for whole, rest in zip(wholes, rests, strict=True)]
        for name, amount in zip(names, [*counts, *values], strict=True):
            sums[name] += int(amount)
    return sums


async def causes(tx: Tx, id_: bytes, since_us: int, until_us: int) -> list[dict[str, Any]]:
    """Why objects were missed, the most frequent first, each with some of its objects and traces."""
    given = {"kpi": id_, "since_us": since_us, "until_us": until_us}
    rows = await tx.all(Q.causes_of_all if tx.scope.is_system else Q.causes, limit=MOST_CAUSES, **given)
    found = []
    for cause, count, _ in rows:
        some = await missed(tx, id_, since_us, until_us, cause=cause, limit=OBJECTS_OF_A_CAUSE)
        traces = sorted({each["trace_id"] for each in some if each["trace_id"]})
        found.append({"cause": cause, "count": int(count), "objects": [each["key"] for each in some], "traces": traces})
    return found


async def missed(tx: Tx, id_: bytes, since_us: int, until_us: int, *, cause: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
    """Objects that were missed, the oldest first."""
    given = {"kpi": id_, "since_us": since_us, "until_us": until_us, "any_cause": int(cause is None), "cause": cause or ""}
    rows = await tx.all(Q.missed_of_all if tx.scope.is_system else Q.missed, limit=limit, **given)
    return [
        {"tenant": tenant, "key": key, "trace_id": trace_id, "result": result, "value": value, "promised_us": total_us, "cause": words}
        for tenant, key, trace_id, result, value, total_us, words in rows
    ]


async def tenants_concerned(tx: Tx, id_: bytes, since_us: int, until_us: int) -> int:
    """Of how many tenants an object was missed."""
    given = {"kpi": id_, "since_us": since_us, "until_us": until_us}
    if not tx.scope.is_system:
        return int(bool(await missed(tx, id_, since_us, until_us, limit=1)))
    row = await tx.one(Q.tenants_concerned, **given)
    return int(row[0]) if row else 0


async def versions(tx: Tx, name: str) -> list[bytes]:
    """Every id that a KPI of this name has had, the oldest first."""
    return [row[0] for row in await tx.all(Q.versions_of_kpi, tenant=SYSTEM_TENANT, name=name)]
