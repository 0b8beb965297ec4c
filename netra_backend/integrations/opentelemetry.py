"""OpenTelemetry beside Netra: one trace for both, and Netra's spans by OTLP.

    provider = instrument(netra, endpoint="http://127.0.0.1:4318/v1/traces")

The span that is active in a program is the parent of what Netra does inside it, unless `netra.scope(trace=...)` says another one.
Netra's spans are handed to the SDK's processor as they end: its queue and its thread send them, nothing here waits. Needs the extra
`opentelemetry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace as api

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "spans by OTLP need OpenTelemetry's SDK: pip install 'netra-backend[opentelemetry]'", name=error.name
    ) from error
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ..errors import UsageError
from ..kernel.scope import TraceContext
from ..kernel.spans import ERROR, OK, Span
from ..netra import Netra, entered_scope
from ..observability.tracing.tracer import Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SCOPE: Final = InstrumentationScope("netra_backend")
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
OWN: Final = "netra.part"
_KINDS: Final = {"server": SpanKind.SERVER, "webhooks": SpanKind.PRODUCER}


def instrument(
    netra: Netra,
    *,
    endpoint: str | None = None,
    exporter: SpanExporter | None = None,
    provider: TracerProvider | None = None,
    spans: bool = False,
    service: str = "netra",
) -> TracerProvider:
    """Join Netra's traces and OpenTelemetry's; the provider for your own tracers.

    Netra's spans are exported to `endpoint` (OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`) or by `exporter`, and to whatever
    processors `provider` has. With `spans=True` your spans are stored beside Netra's, where a tenant is entered. Call it once.
    """
    tracer = netra.runtime.tracer
    if not isinstance(tracer, Tracer):
        raise UsageError("this Netra has a tracer of its own", fix="Make it without `Runtime(tracer=...)`.")
    made = provider or TracerProvider(resource=Resource.create({"service.name": service}))
    if endpoint is not None and exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=endpoint)
    if exporter is not None:
        processor = BatchSpanProcessor(exporter)
        tracer.exporters.append(lambda span: processor.on_end(_readable(span, made.resource)))
        made.add_span_processor(processor)
    if spans:
        made.add_span_processor(_Store(tracer))
    netra.trace_around = active_trace
    return made


def active_trace() -> TraceContext | None:
    """The position of the span that is active in this program."""
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", bool(context.trace_flags & TraceFlags.SAMPLED))


class _Store(SpanProcessor):
    """Stores the spans of a program beside Netra's own, for the tenant that is entered when they end."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        scope, context = entered_scope(), span.get_span_context()
        if scope is None or not scope.tenant or context is None or OWN in (span.attributes or {}):
            return
        parent = f"{span.parent.span_id:016x}" if span.parent is not None else ""
        status = ERROR if span.status.status_code is StatusCode.ERROR else OK
        times = ((span.start_time or 0) // 1000, (span.end_time or 0) // 1000)
        place = (scope.tenant, f"{context.trace_id:032x}", f"{context.span_id:016x}", parent)
        self._tracer.store(Span(*place, "app", span.name[:200], *times, status))


def _readable(span: Any, resource: Resource) -> ReadableSpan:
    trace_id = int(span.trace_id, 16)
    link = span.link
    attributes = {OWN: span.part, "netra.tenant": span.tenant, **({"netra.ref": span.ref} if span.ref else {}), **span.attributes}
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=SAMPLED),
        parent=SpanContext(trace_id, int(span.parent, 16), is_remote=True, trace_flags=SAMPLED) if span.parent else None,
        resource=resource,
        attributes=attributes,
        links=[Link(SpanContext(int(link.trace_id, 16), int(link.span_id, 16), is_remote=True))] if link is not None else [],
        kind=_KINDS.get(span.part, SpanKind.INTERNAL),
        status=Status(StatusCode.ERROR if span.status == ERROR else StatusCode.UNSET),
        start_time=span.start_us * 1000,
        end_time=span.end_us * 1000,
        instrumentation_scope=SCOPE,
    )
