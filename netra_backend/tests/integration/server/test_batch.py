"""The routes of batches: start, look, follow, decide, rerun."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, ExitStack

import httpx
import pytest

from netra_backend import batch
from netra_backend.batch.statement import sql
from netra_backend.server import streams

from ...support.server import API, OPERATOR, actions, client_of, new_netra, serving, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")

RUNS = f"{API}/tenants/acme/batch/runs"
SCHEDULES = f"{API}/tenants/acme/batch/schedules"
NOTHING = sql("select count(*) from netra_job_run where tenant = :tenant")


def refuse_some(n):
    if n % 5 == 1:
        raise ValueError(n)
    return n


async def look(tx, rows):
    """A writer that writes nothing, on both engines."""
    await tx.all(NOTHING)


batch.job("served", read=batch.sequence(lambda params: range(params["n"])), process=refuse_some, write=look, chunk=4)


@pytest.fixture
async def working(tmp_path):
    """A server that works on runs, and its URL."""
    async with new_netra(tmp_path, workers=True) as netra, serving(netra) as url:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {OPERATOR}"}) as client:
            assert (await client.post(f"{API}/tenants", json={"uid": "acme"})).status_code == 201
            yield client


async def shown(client, run):
    return (await client.get(f"{RUNS}/{run}")).json()


async def ended(client, run):
    async def is_over():
        return (await shown(client, run))["state"].startswith("completed")

    await eventually(is_over)
    return await shown(client, run)


async def test_a_run_is_started_followed_and_rerun(working):
    made = await working.post(RUNS, json={"job": "served", "params": {"n": 12}})
    assert (made.status_code, made.json()["state"]) == (201, "queued")
    run = made.json()["run"]
    assert (await working.post(RUNS, json={"job": "served", "params": {"n": 12}})).json()["run"] == run
    status = await ended(working, run)
    assert {"done": 9, "failed": 3, "total": 12, "state": "completed_with_failures"}.items() <= status.items()
    first = (await working.get(f"{RUNS}/{run}/failures", params={"limit": 2})).json()
    rest = (await working.get(f"{RUNS}/{run}/failures", params={"limit": 2, "after": first["after"]})).json()
    assert [each["payload"] for each in first["data"] + rest["data"]] == [1, 6, 11]
    assert (first["done"], rest["done"]) == (False, True)
    child = (await working.post(f"{RUNS}/{run}/rerun")).json()
    assert (await ended(working, child["run"]))["failed"] == 3
    listed = (await working.get(RUNS, params={"limit": 1})).json()
    behind = (await working.get(RUNS, params={"limit": 1, "after": listed["after"]})).json()
    assert [each["run"] for each in listed["data"] + behind["data"]] == [child["run"], run]
    assert await actions(working) == ["tenant.create", "run.start", "run.rerun"]


async def test_a_runs_progress_is_a_stream_that_ends_with_it(working):
    run = (await working.post(RUNS, json={"job": "served", "params": {"n": 40}})).json()["run"]
    events = []
    async with working.stream("GET", f"{RUNS}/{run}/events", timeout=30) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                events.append([line.removeprefix("event: ")])
            elif line.startswith("data: "):
                events[-1].append(json.loads(line.removeprefix("data: ")))
    assert events[-1][0] == "finished"
    assert {"state": "completed_with_failures", "done": 32, "failed": 8}.items() <= events[-1][1].items()
    assert {kind for kind, _ in events[:-1]} <= {"progress"}


async def test_a_runs_stream_ends_with_the_key_that_asked_for_it(working):
    run = (await working.post(RUNS, json={"job": "nobody's"})).json()["run"]
    made = await tenant_key(working)
    headers = {"authorization": f"Bearer {made['key']}"}
    async with asyncio.timeout(60), working.stream("GET", f"{RUNS}/{run}/events", headers=headers, timeout=60) as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "event: progress"
        await working.post(f"{API}/tenants/acme/keys/{made['id']}/revoke")
        rest = [line async for line in lines]
    assert "event: finished" not in rest
    assert (await working.get(f"{RUNS}/{run}/events", headers=headers)).status_code == 401


@pytest.mark.parametrize("bound", ["MOST_OF_TENANT", "MOST"])
async def test_no_more_streams_are_open_than_a_server_keeps_and_one_that_ends_makes_room(working, monkeypatch, bound):
    monkeypatch.setattr(streams, bound, 2)
    run = (await working.post(RUNS, json={"job": "nobody's"})).json()["run"]
    read = []
    async with AsyncExitStack() as others:
        async with AsyncExitStack() as open_ones:
            for each in (others, open_ones):
                stream = await each.enter_async_context(working.stream("GET", f"{RUNS}/{run}/events", timeout=30))
                read.append(stream.aiter_lines())  # one that nobody holds closes its stream
                assert await anext(read[-1]) == "event: progress"
            refused = await working.get(f"{RUNS}/{run}/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0
            assert (await working.get(f"{RUNS}/{run}")).status_code == 200

        async def has_room():
            async with working.stream("GET", f"{RUNS}/{run}/events", timeout=30) as stream:
                return stream.status_code == 200

        await eventually(has_room)


async def test_the_streams_of_one_tenant_take_no_room_of_anothers():
    open_ones = streams.Streams()
    with ExitStack() as stack:
        for _ in range(streams.MOST_OF_TENANT):
            stack.enter_context(open_ones.one("acme"))
        with pytest.raises(streams.TooManyStreams), open_ones.one("acme"):
            pass
        with open_ones.one("globex"):
            pass
    with open_ones.one("acme"):
        pass


async def test_a_run_is_paused_resumed_and_cancelled(operator):
    run = (await operator.post(RUNS, json={"job": "nobody's"})).json()["run"]
    for event, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert (await operator.post(f"{RUNS}/{run}/{event}")).json()["state"] == state
    refused = await operator.post(f"{RUNS}/{run}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
    nothing = await operator.post(f"{RUNS}/{run}/rerun")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_to_rerun")
    assert await actions(operator) == ["tenant.create", "run.start", "run.pause", "run.resume", "run.cancel"]


async def test_an_idempotency_key_starts_one_run(operator):
    headers = {"idempotency-key": "k"}
    one = await operator.post(RUNS, json={"job": "nobody's", "key": "a"}, headers=headers)
    two = await operator.post(RUNS, json={"job": "nobody's", "key": "a"}, headers=headers)
    assert one.json()["run"] == two.json()["run"]
    assert two.headers["idempotency-replayed"] == "true"
    assert (await operator.post(RUNS, json={"job": "nobody's", "key": "b"}, headers=headers)).json()["code"] == "key_reused"


async def test_a_run_has_a_priority_and_comes_after_others(operator):
    first = (await operator.post(RUNS, json={"job": "nobody's", "key": "a", "priority": 7})).json()
    second = (await operator.post(RUNS, json={"job": "nobody's", "key": "b", "after": [first["run"]]})).json()
    assert (first["priority"], second["priority"], second["after"]) == (7, 0, [first["run"]])
    gone = await operator.post(RUNS, json={"job": "nobody's", "key": "c", "after": ["run_00000000000000000000000000"]})
    assert gone.status_code == 404


async def test_a_schedule_is_made_changed_listed_and_ended(operator):
    wanted = {"job": "served", "cron": "0 3 * * mon-fri", "zone": "Europe/Zurich", "params": {"n": 3}, "priority": 2}
    made = await operator.put(f"{SCHEDULES}/nightly", json=wanted)
    assert (made.status_code, made.json()["name"], made.json()["last_run"]) == (200, "nightly", None)
    assert wanted.items() <= made.json().items()
    changed = await operator.put(f"{SCHEDULES}/nightly", json={"job": "served", "cron": "@daily"})
    assert changed.json()["cron"] == "@daily"
    await operator.put(f"{SCHEDULES}/hourly", json={"job": "served", "cron": "@hourly"})
    page = (await operator.get(SCHEDULES, params={"limit": 1})).json()
    assert ([each["name"] for each in page["data"]], page["done"]) == (["hourly"], False)
    rest = (await operator.get(SCHEDULES, params={"after": page["after"]})).json()
    assert [each["name"] for each in rest["data"]] == ["nightly"]
    assert (await operator.get(f"{SCHEDULES}/nightly")).json() == changed.json()
    assert (await operator.delete(f"{SCHEDULES}/nightly")).status_code == 204
    for gone in (await operator.get(f"{SCHEDULES}/nightly"), await operator.delete(f"{SCHEDULES}/nightly")):
        assert gone.status_code == 404
    wrong = await operator.put(f"{SCHEDULES}/wrong", json={"job": "served", "cron": "often"})
    assert wrong.status_code in {400, 422} and wrong.json()["fix"]
    assert await actions(operator) == ["tenant.create", *["schedule.put"] * 3, "schedule.remove"]


async def test_another_tenants_key_finds_no_run(app, operator):
    run = (await operator.post(RUNS, json={"job": "nobody's"})).json()["run"]
    key = (await tenant_key(operator, "globex"))["key"]
    async with client_of(app, key) as globex:
        for path in (RUNS, f"{RUNS}/{run}", f"{API}/tenants/globex/batch/runs/{run}", f"{API}/tenants/globex/batch/runs/{run}/events"):
            assert (await globex.get(path)).status_code == 404
        for event in ("pause", "resume", "cancel", "rerun"):
            assert (await globex.post(f"{API}/tenants/globex/batch/runs/{run}/{event}")).status_code == 404
        assert (await globex.get(f"{API}/tenants/globex/batch/runs")).json()["data"] == []


@pytest.mark.parametrize(
    "body", [{}, {"job": ""}, {"job": "a\x00"}, {"job": "j", "partitions": 0}, {"job": "j", "extra": 1}, {"job": "j", "key": ""}]
)
async def test_what_is_no_run_is_refused(operator, body):
    assert (await operator.post(RUNS, json=body)).status_code in {400, 422}


@pytest.mark.parametrize("run", ["run_x", "msg_00000000000000000000000000", "run_00000000000000000000000000"])
async def test_what_names_no_run_is_refused(operator, run):
    assert (await operator.get(f"{RUNS}/{run}")).status_code in {404, 422}
    assert (await operator.get(f"{RUNS}/{run}/events")).status_code in {404, 422}
