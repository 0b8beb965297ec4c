"""Debug sessions in the table, on every engine: started, extended, ended, recorded, viewed, forgotten; each with its entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netra_backend
from netra_backend.errors import InvalidInput
from netra_backend.kernel.scope import Scope
from netra_backend.kernel.states import IllegalTransition
from netra_backend.observability.debug import model, retention, store
from netra_backend.observability.debug.errors import SessionEnded, TooManySessions, UnknownSession
from netra_backend.observability.debug.model import Record, wanted
from netra_backend.observability.debug.states import DECISIONS, SESSION
from netra_backend.storage import audit_append, debug_marks, tenants

from ..support.storage import ACME, SYSTEM

GLOBEX = Scope("globex", "tester")
MIGRATIONS = Path(netra_backend.__file__).parent / "storage/migrations"
HALF_AN_HOUR_US = 30 * 60 * model.US


def asked(**changed):
    given = {"reason": "deliveries fail", "ttl": None, "predicates": {}, "capture": None, "logpoints": ()}
    return wanted(**(given | changed))


@pytest.fixture
async def door(database):
    for name in ("acme", "globex"):
        await database.write(tenants.ensure, name, scope=SYSTEM)
    return database


async def started(door, scope=ACME, **changed):
    return await door.write(store.start, asked(**changed), scope=scope)


async def entries(door, scope=ACME):
    async def read(tx):
        return await tx.all(audit_append.Q.list_audit_entries, after=b"", limit=1000)

    found = sorted(await door.read(read, scope=scope), key=lambda row: row[1])  # ids of one millisecond come in any order
    return [row[3] for row in found if row[3].startswith("debug.")]


def records(count, at_us, kind="log"):
    return [Record(kind, at_us, "t" * 32, b'{"n":%d}' % n) for n in range(count)]


async def test_a_session_is_found_as_it_was_started_and_leaves_an_entry(door):
    points = ["shop.orders:Order.total", {"at": "orders.py:42", "where": "order_id == 42"}]
    made = await started(door, predicates={"user": "alice", "route": "POST /x/*"}, logpoints=points)
    found = await door.read(store.get, made.id, scope=ACME)
    assert found == made
    assert found.captures == ("log", "span", "http", "snapshot")
    assert found.expires_us - found.created_us == found.granted_us == HALF_AN_HOUR_US
    assert await entries(door) == ["debug.start"]
    assert await entries(door, GLOBEX) == []
    (live,) = await door.read(store.live, scope=SYSTEM)
    assert (live.id, "acme" in live.names) == (made.id, True)


async def test_another_tenant_finds_nothing_of_it(door):
    made = await started(door)
    await door.write(store.append, made.id, records(1, made.created_us), 0, scope=ACME)
    for verb, arguments in ((store.get, ()), (store.extend, (HALF_AN_HOUR_US,)), (store.end, ()), (store.view, (0, 10, "debug.view"))):
        with pytest.raises(UnknownSession):
            await door.write(verb, made.id, *arguments, scope=GLOBEX)
    assert await door.write(store.append, made.id, records(1, made.created_us), 0, scope=GLOBEX) == 0
    assert await door.write(store.forget, made.id, scope=GLOBEX) == 0
    assert (await door.read(store.view, made.id, 0, 10, None, scope=ACME)).rows[0][0] == 1


async def test_five_live_sessions_of_a_tenant_are_enough(door):
    made = [await started(door) for _ in range(store.MOST_OF_TENANT)]
    with pytest.raises(TooManySessions):
        await started(door)
    await started(door, GLOBEX)
    await door.write(store.end, made[0].id, scope=ACME)
    await started(door)


async def test_a_live_session_is_listed_however_many_have_ended_since_it_began(door):
    made = await started(door)
    for _ in range(2):
        await door.write(store.end, (await started(door)).id, scope=ACME)
    assert [each.id for each in await door.write(store.listed, 2, False, scope=ACME)] == [made.id]
    assert len(await door.write(store.listed, 10, True, scope=ACME)) == 3


async def test_a_session_is_extended_while_it_lives_and_never_afterwards(door):
    made = await started(door, ttl="1m")
    longer = await door.write(store.extend, made.id, HALF_AN_HOUR_US, scope=ACME)
    assert longer.expires_us > made.expires_us
    await door.write(store.end, made.id, scope=ACME)
    assert (await door.write(store.end, made.id, scope=ACME)).ended_by == "actor"  # once more changes nothing
    with pytest.raises(SessionEnded):
        await door.write(store.extend, made.id, HALF_AN_HOUR_US, scope=ACME)
    assert await entries(door) == ["debug.start", "debug.extend", "debug.end"]
    assert await door.read(store.live, scope=SYSTEM) == []


async def test_records_are_numbered_in_the_order_of_their_commits_and_none_is_after_the_end(door):
    made = await started(door)
    assert await door.write(store.append, made.id, records(3, made.created_us), 0, scope=ACME) == 3
    assert await door.write(store.append, made.id, records(2, made.expires_us + 1), 0, scope=ACME) == 0
    assert await door.write(store.append, made.id, records(2, made.expires_us), 4, scope=ACME) == 2
    view = await door.write(store.view, made.id, 0, 100, "debug.view", scope=ACME)
    assert [row[0] for row in view.rows] == [1, 2, 3, 6, 7]
    assert (view.missed, view.session.dropped) == (2, 4)
    shown = store.shown_records(view)
    assert shown[0]["kind"] == "dropped"
    assert {"session", "tenant", "kind", "at", "trace_id", "data"} <= shown[1].keys()
    assert shown[1]["data"] == {"n": 0}


async def test_the_oldest_records_go_first(door, monkeypatch):
    monkeypatch.setattr(store, "MOST_KEPT", 5)
    made = await started(door)
    for _ in range(3):
        await door.write(store.append, made.id, records(4, made.created_us), 0, scope=ACME)
    view = await door.read(store.view, made.id, 0, 100, None, scope=ACME)
    assert [row[0] for row in view.rows] == [8, 9, 10, 11, 12]
    assert (await door.read(store.view, made.id, 7, 2, None, scope=ACME)).missed == 0
    assert store.shown_records(view)[0]["data"] == {"count": 7, "why": {"old": 7}}


async def test_every_view_leaves_an_entry(door):
    made = await started(door)
    await door.write(store.view, made.id, 0, 10, "debug.view", scope=ACME)
    await door.write(store.view, made.id, 0, 10, "debug.export", scope=ACME)
    await door.write(store.listed, 10, scope=ACME)
    assert await entries(door) == ["debug.start", "debug.view", "debug.export", "debug.list"]


async def test_deleting_a_tenant_deletes_its_captures(door):
    made, other = await started(door), await started(door, GLOBEX)
    for session, scope in ((made, ACME), (other, GLOBEX)):
        await door.write(store.append, session.id, records(3, session.created_us), 0, scope=scope)

        async def mark(tx, session=session):
            await debug_marks.mark_rows(tx, [(tx.tenant, b"m" * 16, session.id)])

        await door.write(mark, scope=scope)
    await door.write(store.end_all, scope=ACME)
    assert (await door.read(store.get, made.id, scope=ACME)).ended_by == "tenant"
    assert (await door.read(store.view, made.id, 0, 10, None, scope=ACME)).rows == []
    assert await door.read(debug_marks.of, b"m" * 16, scope=ACME) == frozenset()
    assert len((await door.read(store.view, other.id, 0, 10, None, scope=GLOBEX)).rows) == 3
    assert await door.read(debug_marks.of, b"m" * 16, scope=GLOBEX) == {other.id}


async def test_what_has_outlived_its_time_is_deleted(door):
    made, kept = await started(door), await started(door)
    for session in (made, kept):
        await door.write(store.append, session.id, records(2, session.created_us), 0, scope=ACME)
    ended = await door.write(store.end, made.id, scope=ACME)
    assert await retention.retire(door, ended.ended_us + 100 * model.US, 101) == 0
    assert await retention.retire(door, ended.ended_us + 102 * model.US, 101) == 2
    assert (await door.read(store.view, made.id, 0, 10, None, scope=ACME)).rows == []
    assert len((await door.read(store.view, kept.id, 0, 10, None, scope=ACME)).rows) == 2


def test_states_are_those_of_the_table():
    with pytest.raises(IllegalTransition):
        SESSION.check("ended", "active")
    assert SESSION.terminal == ("ended",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": ""}, {"reason": "  "}, {"reason": "a\nb"}, {"reason": None}, {"ttl": "5h"}, {"ttl": 0}, {"ttl": "1x"}, {"capture": ["everything"]},
        {"capture": []}, {"predicates": {"user": ""}}, {"predicates": {"tenant": "globex"}}, {"predicates": {"user": "x" * 300}},
        {"logpoints": ["nowhere"]}, {"logpoints": [{"at": "a:b", "where": "1 +"}]}, {"logpoints": [{"at": "a:b", "if": "x"}]}, {"logpoints": [7]},
        {"logpoints": [f"m:f{n}" for n in range(11)]}, {"logpoints": ["/etc/passwd:3"]}, {"logpoints": ["a.py:0"]},
    ],
)  # fmt: skip
def test_what_is_asked_badly_is_refused_with_advice(wrong):
    with pytest.raises(InvalidInput) as refused:
        asked(**wrong)
    assert refused.value.fix


@pytest.mark.parametrize("engine_name", ["sqlite", "postgres"])
def test_the_audits_trigger_watches_the_columns_that_are_decisions(engine_name):
    (migration,) = (MIGRATIONS / engine_name).glob("*_debug.sql")
    watched = re.search(
        r"after update of ([\w, ]+)\s+on netra_debug_session\b|after update of ([\w, ]+) on netra_debug_session\b", migration.read_text()
    )
    columns = tuple(re.findall(r"\w+", watched[1] or watched[2]))
    assert columns == DECISIONS["netra_debug_session"]
    assert re.search(r"check \(state in \(([^)]*)\)\)", migration.read_text())[1].replace("'", "").split(", ") == list(SESSION.states)
