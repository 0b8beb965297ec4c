-- Traces: spans of what has no row of its own, and the ways from a trace to the rows that carry one.

-- `parent` is a span of the same trace, `link_trace` another trace that this one came of, or empty.
create table netra_span (
  tenant text not null,
  trace_id text not null,
  span_id text not null,
  parent text not null,
  link_trace text not null,
  link_span text not null,
  part text not null,
  name text not null,
  start_us integer not null,
  end_us integer not null,
  status text not null check (status in ('ok', 'error')),
  ref text not null,
  primary key (tenant, trace_id, span_id)
) strict, without rowid;
create index netra_span_trace on netra_span (trace_id);
create index netra_span_link on netra_span (link_trace) where link_trace <> '';
create index netra_span_start on netra_span (start_us);

create index netra_message_trace on netra_message (trace_id);
create index netra_job_run_trace on netra_job_run (trace_id) where trace_id <> '';
create index netra_audit_entry_trace on netra_audit_entry (tenant, trace_id) where trace_id <> '';
