"""One trace across all parts, put together from the store alone, also after a restart; and who may see it."""

from __future__ import annotations

from functools import partial

import pytest

from netra_backend import batch
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import TraceContext
from netra_backend.kernel.spans import FRESH_US, Span, continued
from netra_backend.observability.tracing.tracer import BUFFER, Tracer
from netra_backend.server.app import create_app
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.server import API, client_of, endpoint, new_netra, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADER = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
FAST = {"workers": True, "webhooks_schedule": "10ms,10ms,10ms"}
PAID = {"eventType": "invoice.paid", "payload": {"id": 1}}


def by_name(trace):
    return {span["name"]: span for span in trace["spans"]}


async def attempts(netra, count):
    found = await netra.traces.get(TRACE)
    return len([span for span in found["spans"] if span["name"].startswith("attempt")]) == count


async def test_one_trace_joins_a_request_its_message_three_attempts_an_invalidation_and_the_entry_across_a_restart(tmp_path):
    async with (
        MisbehavingEndpoint("503-then-ok:2") as receiver,
        new_netra(tmp_path, **FAST, webhooks_breaker_failures=100) as first,
        client_of(create_app(first)) as operator,
    ):
        key = (await tenant_key(operator, "acme"))["key"]
        other = (await tenant_key(operator, "globex"))["key"]
        await endpoint(operator, "acme", url=receiver.url)
        sent = await operator.post(f"{API}/app/acme/msg", json=PAID, headers=HEADER)
        assert sent.status_code == 202
        await eventually(partial(attempts, first, 3))
    async with new_netra(tmp_path) as second, client_of(create_app(second)) as operator:
        done = await operator.post(f"{API}/tenants/acme/cache/invalidate", json={"deps": ["org:7"]}, headers=HEADER)
        assert done.status_code in {200, 202}
        trace = (await operator.get(f"{API}/traces/{TRACE}")).json()
        spans = by_name(trace)
        ids = {span["id"] for span in trace["spans"]}
        call, message = spans[f"POST {API}/app/acme/msg"], spans["message invoice.paid"]
        assert (call["parent"], call["part"], call["ref"]) == (CALLER, "server", "202")
        assert (message["parent"], message["ref"]) == (call["id"], sent.json()["id"])
        tried = [spans[name] for name in ("attempt 1 failed 503", "attempt 2 failed 503", "attempt 3 delivered 200")]
        assert {span["parent"] for span in tried} == {message["id"]}
        assert [span["status"] for span in tried] == ["error", "error", "ok"]
        again = spans[f"POST {API}/tenants/acme/cache/invalidate"]
        assert (spans["cache.invalidate"]["part"], spans["cache.invalidate"]["parent"]) == ("audit", again["id"])
        assert (spans["invalidate"]["part"], spans["invalidate"]["ref"], spans["invalidate"]["parent"]) == ("cache", "org:7", again["id"])
        assert [span["parent"] for span in trace["spans"] if span["parent"] not in ids] == [CALLER, CALLER]
        assert trace["spans"] == sorted(trace["spans"], key=lambda span: (span["start_us"], span["end_us"], span["id"]))
        for span in trace["spans"]:
            assert span.keys() >= {"id", "parent", "links", "part", "name", "start_us", "end_us", "status", "ref"}
        async with client_of(create_app(second), key) as acme, client_of(create_app(second), other) as globex:
            assert by_name((await acme.get(f"{API}/traces/{TRACE}")).json()).keys() == spans.keys()
            assert (await globex.get(f"{API}/traces/{TRACE}")).status_code == 404
            assert (await globex.get(f"{API}/traces/{TRACE}", params={"tenant": "acme"})).status_code == 404
        own = by_name((await operator.get(f"{API}/traces/{TRACE}", params={"tenant": "acme"})).json())
        assert own.keys() == spans.keys()
        for nobodys in ("globex", "nobody"):
            assert (await operator.get(f"{API}/traces/{TRACE}", params={"tenant": nobodys})).status_code == 404
        assert (await operator.get(f"{API}/traces/nothing")).status_code == 422
        assert (await operator.get(f"{API}/traces/{'0' * 31}1")).status_code == 404


async def test_spans_of_a_program_and_what_is_called_inside_are_one_tree(tmp_path):
    async with new_netra(tmp_path) as netra:
        with netra.scope(tenant="acme", trace=HEADER["traceparent"]):
            with netra.span("render", ref="inv_1"), netra.span("store"):
                async with netra.transaction() as tx:
                    sent = await netra.webhooks.send(tx, "invoice.paid", {"id": 1})
                    await netra.cache.invalidate(tx, "invoice:1")
            with pytest.raises(LookupError), netra.span("fails"):
                raise LookupError
        spans = by_name(await netra.traces.get(TRACE))
        assert spans["render"]["parent"] == CALLER
        assert spans["store"]["parent"] == spans["render"]["id"]
        assert (spans["message invoice.paid"]["parent"], spans["message invoice.paid"]["ref"]) == (spans["store"]["id"], sent)
        assert spans["invalidate"]["parent"] == spans["store"]["id"]
        assert (spans["fails"]["status"], spans["render"]["status"]) == ("error", "ok")
        with netra.scope(tenant="acme", trace=f"00-{'1' * 32}-{CALLER}-00"), netra.span("unsampled"):
            pass
        with netra.span("of nobody"):
            pass
        assert (await netra.traces.get(TRACE, tenant="acme"))["spans"]


async def test_a_programs_span_is_its_tenants_by_whatever_name_the_program_knows_it(tmp_path):
    async with new_netra(tmp_path) as netra, client_of(create_app(netra)) as operator:
        made = (await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})).json()
        await operator.put(f"{API}/app/acme", json={"name": "Acme", "uid": "acme-inc"})
        for number, reference in enumerate(("acme", "acme-inc", made["id"], "nobody-yet"), 1):
            with netra.scope(reference, trace=f"00-{str(number) * 32}-{CALLER}-01"), netra.span("render"):
                pass
            shown = netra.traces.get(str(number) * 32, tenant="nobody-yet" if reference == "nobody-yet" else "acme")
            assert [span["name"] for span in (await shown)["spans"]] == ["render"]


async def test_what_is_rolled_back_leaves_no_span_and_a_trace_that_nobody_samples_none_either(tmp_path):
    async with new_netra(tmp_path) as netra:
        with netra.scope(tenant="acme", trace=HEADER["traceparent"]):
            with pytest.raises(LookupError):
                async with netra.transaction() as tx:
                    await netra.cache.invalidate(tx, "a")
                    raise LookupError
            async with netra.transaction() as tx:
                await netra.webhooks.send(tx, "invoice.paid", {"id": 1})
        assert [span["part"] for span in (await netra.traces.get(TRACE))["spans"]] == ["webhooks"]


async def test_the_chunks_of_a_run_have_traces_of_their_own_that_link_to_it(tmp_path):
    async def write(tx, rows):
        del tx, rows

    job = batch.job("traced", read=batch.sequence(list(range(5))), process=lambda item: item, write=write, chunk=2)
    async with new_netra(tmp_path, workers=True) as netra:
        with netra.scope(tenant="acme", trace=HEADER["traceparent"]):
            async with netra.transaction() as tx:
                run = await netra.batch.start(tx, job)

        async def ended():
            return (await netra.batch.status(run))["state"] == "completed"

        await eventually(ended)
        found = await netra.traces.get(TRACE)
        chunks = [span for span in found["spans"] if span["name"].startswith("chunk")]
        assert [chunk["links"][0]["trace_id"] for chunk in chunks] == [TRACE] * len(chunks)
        assert len(chunks) >= 3
        assert {chunk["parent"] for chunk in chunks} == {None}
        assert by_name(found)["run traced"]["ref"] == str(run)


@pytest.mark.parametrize(("switch", "headers"), [({}, 0), ({"metadata": {"netra.trace": "on"}}, 1)])
async def test_a_receiver_gets_the_position_of_the_attempt_only_where_the_tenant_has_turned_that_on(tmp_path, switch, headers):
    async with new_netra(tmp_path, **FAST) as netra, client_of(create_app(netra)) as operator, MisbehavingEndpoint() as receiver:
        await tenant_key(operator, "acme")
        await endpoint(operator, "acme", url=receiver.url, **switch)
        await operator.post(f"{API}/app/acme/msg", json=PAID, headers=HEADER)
        (got,) = await receiver.until(lambda found: len(found) == 1)
        sent = [value for name, value in got.headers.items() if name.lower() == "traceparent"]
        assert len(sent) == headers
        await eventually(partial(attempts, netra, 1))
        if sent:
            (tried,) = [span for span in (await netra.traces.get(TRACE))["spans"] if span["name"].startswith("attempt")]
            assert sent == [f"00-{TRACE}-{tried['id']}-01"]


def test_work_on_what_is_old_or_many_begins_a_trace_of_its_own_with_a_link():
    trace, id_ = TraceContext(TRACE, CALLER), bytes(range(16))
    assert continued(trace, FRESH_US - 1, id_) == (TraceContext(TRACE, id_[8:].hex()), None)
    assert continued(trace, FRESH_US, id_) == (TraceContext(id_.hex(), id_[8:].hex()), trace)
    assert continued(trace, 0, id_, single=False) == (TraceContext(id_.hex(), id_[8:].hex()), trace)
    assert continued(TraceContext(), 0, id_) == (TraceContext(id_.hex(), id_[8:].hex()), None)


def test_a_full_buffer_drops_the_oldest_and_counts_them():
    tracer = Tracer(Runtime().clock, Runtime().chance)
    spans = [Span("acme", TRACE, f"{number:016x}", "", "app", "n", number, number) for number in range(BUFFER + 3)]
    for span in spans:
        tracer.span(span)
    assert (len(tracer), tracer.dropped) == (BUFFER, 3)
    taken = tracer.take(10)
    assert taken == spans[3:13]
    tracer.give_back(taken)
    assert tracer.take(BUFFER) == spans[3:]
    assert len({tracer.span_id(tracer.next_number()) for _ in range(1000)}) == 1000
