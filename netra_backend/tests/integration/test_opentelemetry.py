"""OpenTelemetry's spans and Netra's in one trace, received by OTLP over HTTP and decoded by the official messages."""

from __future__ import annotations

import importlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from netra_backend.errors import UsageError
from netra_backend.integrations.opentelemetry import instrument
from netra_backend.kernel.runtime import Runtime

from ..support.server import new_netra


class Collector:
    """An OTLP/HTTP receiver: `spans` by name."""

    def __init__(self):
        collector, self.spans = self, {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans |= {span.name: (span, scope.scope.name) for span in scope.spans}
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


async def test_a_programs_spans_and_netras_are_one_trace_in_the_store_and_at_the_collector(tmp_path):
    with Collector() as collector:
        async with new_netra(tmp_path) as netra:
            provider = instrument(netra, endpoint=collector.url, spans=True)
            tracer = provider.get_tracer("shop")
            with tracer.start_as_current_span("checkout") as outer, netra.scope(tenant="acme"):
                with netra.span("reserve", ref="order_7"), tracer.start_as_current_span("inner"):
                    async with netra.transaction() as tx:
                        await netra.webhooks.send(tx, "order.placed", {"order": 7})
            trace_id = f"{outer.get_span_context().trace_id:032x}"
            stored = {span["name"]: span for span in (await netra.traces.get(trace_id))["spans"]}
            provider.shutdown()
        outer_id = f"{outer.get_span_context().span_id:016x}"
        assert stored["reserve"]["parent"] == outer_id
        assert stored["message order.placed"]["parent"] == stored["reserve"]["id"]
        assert stored["inner"]["parent"] == outer_id
        assert collector.spans.keys() == {"checkout", "reserve", "inner"}
        reserve, scope = collector.spans["reserve"]
        assert scope == "netra_backend"
        assert (reserve.trace_id.hex(), reserve.parent_span_id.hex()) == (trace_id, outer_id)
        assert reserve.span_id.hex() == stored["reserve"]["id"]
        attributes = {each.key: each.value.string_value for each in reserve.attributes}
        assert attributes == {"netra.part": "app", "netra.tenant": "acme", "netra.ref": "order_7"}
        assert reserve.end_time_unix_nano >= reserve.start_time_unix_nano > 0


async def test_a_collector_that_does_not_answer_holds_up_nobody(tmp_path):
    class Dead:
        def __init__(self):
            self.asked = threading.Event()
            self.free = threading.Event()

        def export(self, spans):
            del spans
            self.asked.set()
            self.free.wait(30)

        def shutdown(self):
            self.free.set()

        def force_flush(self, timeout_millis=0):
            del timeout_millis
            return True

    dead = Dead()
    async with new_netra(tmp_path) as netra:
        instrument(netra, exporter=dead)
        with netra.scope(tenant="acme", trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
            for _ in range(5000):
                with netra.span("work"):
                    pass
        assert (await netra.traces.get("0af7651916cd43dd8448eb211c80319c"))["spans"]
        dead.free.set()


async def test_a_runtime_with_a_tracer_of_its_own_is_left_alone(tmp_path):
    class Own:
        def span(self, span):
            pass

    netra = new_netra(tmp_path, runtime=Runtime(tracer=Own()))
    with pytest.raises(UsageError, match="tracer of its own"):
        instrument(netra)


def test_without_its_extra_it_says_which_one_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    monkeypatch.delitem(sys.modules, instrument.__module__)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'netra-backend\[opentelemetry\]'"):
        importlib.import_module(instrument.__module__)
