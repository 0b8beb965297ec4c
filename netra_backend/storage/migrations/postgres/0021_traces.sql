-- Traces: spans of what has no row of its own, and the ways from a trace to the rows that carry one.

-- `parent` is a span of the same trace, `link_trace` another trace that this one came of, or empty.
create table netra_span (
  tenant text collate "C" not null,
  trace_id text collate "C" not null,
  span_id text collate "C" not null,
  parent text collate "C" not null,
  link_trace text collate "C" not null,
  link_span text collate "C" not null,
  part text collate "C" not null,
  name text collate "C" not null,
  start_us bigint not null,
  end_us bigint not null,
  status text collate "C" not null check (status in ('ok', 'error')),
  ref text collate "C" not null,
  primary key (tenant, trace_id, span_id)
);
create index netra_span_trace on netra_span (trace_id);
create index netra_span_link on netra_span (link_trace) where link_trace <> '';
create index netra_span_start on netra_span (start_us);

create index netra_message_trace on netra_message (trace_id);
create index netra_job_run_trace on netra_job_run (trace_id) where trace_id <> '';
create index netra_audit_entry_trace on netra_audit_entry (tenant, trace_id) where trace_id <> '';

-- Who sees what, and what each may do; see 0001. A span may be written in an adopting user's own transaction.
alter table netra_span enable row level security, force row level security;
create policy of_tenant on netra_span to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_app on netra_span for insert to netra_app with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_span to netra_fleet using (true) with check (true);
create policy of_owner on netra_span to current_user using (true) with check (true);

revoke all on netra_span from public;
grant select, insert on netra_span to netra_run;
grant insert on netra_span to netra_app;
grant select, insert, delete on netra_span to netra_fleet;
