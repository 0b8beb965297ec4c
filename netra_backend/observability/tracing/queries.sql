-- Statements of traces, over the rows of all parts: they only read what the parts write, but for the retention of spans.
--
-- SQLite has no statistics here and would read all of a tenant's rows in the order that is asked for, to find those of one trace. So
-- the tenant is compared as no index has it (`tenant || ''`) where the trace has an index of its own, and entries stand in the order of time.

-- name: tenants_of_trace
-- fleet: an operator asks for a trace by its id alone, from which its tenants are to be found
select tenant from netra_message where trace_id = :trace_id
union
select tenant from netra_span where trace_id = :trace_id
union
select tenant from netra_span where link_trace = :trace_id and link_trace <> ''
union
select tenant from netra_job_run where trace_id = :trace_id and trace_id <> ''
limit :limit;

-- name: spans_of_trace
select trace_id, span_id, parent, link_trace, link_span, part, name, start_us, end_us, status, ref from netra_span
where tenant = :tenant and trace_id = :trace_id
order by start_us, span_id limit :limit;

-- name: spans_linked_to_trace
select trace_id, span_id, parent, link_trace, link_span, part, name, start_us, end_us, status, ref from netra_span
where tenant = :tenant and link_trace = :trace_id and link_trace <> ''
order by start_us, span_id limit :limit;

-- name: messages_of_trace
select id, span_id, event_type, created_us from netra_message
where tenant || '' = :tenant and trace_id = :trace_id
order by id limit :limit;

-- name: attempts_of_trace
select a.message_id, a.id, a.endpoint_id, a.number, a.outcome, a.status, a.error_kind, a.started_us, a.duration_us, a.trace_id, m.trace_id
from netra_message m join netra_attempt a on a.tenant = m.tenant and a.message_id = m.id
where m.tenant || '' = :tenant and m.trace_id = :trace_id
order by a.started_us, a.id limit :limit;

-- name: entries_of_trace
select id, span_id, action, target, at_us, outcome from netra_audit_entry
where tenant = :tenant and trace_id = :trace_id and trace_id <> ''
order by at_us, id limit :limit;

-- name: runs_of_trace
select id, span_id, job, state, created_us, coalesce(finished_us, created_us) from netra_job_run
where tenant || '' = :tenant and trace_id = :trace_id and trace_id <> ''
order by id limit :limit;

-- name: forget_spans
-- fleet: retention, in small batches
delete from netra_span where (tenant, trace_id, span_id) in (
  select s.tenant, s.trace_id, s.span_id from netra_span s where s.start_us < :before_us order by s.start_us, s.tenant limit :limit);
