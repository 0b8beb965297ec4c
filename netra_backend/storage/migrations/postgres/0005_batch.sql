-- Batches: runs, their partitions, the items that failed.

-- `key` is the run's identity within its job: the same start twice is one run. `partitions` is null until a worker has planned
-- it. `audit_id` names the decision (start, pause, resume, cancel, rerun) that last changed it.
create table netra_job_run (
  tenant text collate "C" not null,
  id bytea not null,
  job text collate "C" not null,
  key text collate "C" not null,
  params text collate "C" not null,
  parent bytea,
  state text collate "C" not null check (state in ('queued', 'running', 'completed', 'completed_with_failures', 'failed', 'paused', 'cancelled')),
  wanted bigint not null,
  partitions bigint,
  reason text collate "C",
  created_us bigint not null,
  started_us bigint,
  finished_us bigint,
  trace_id text collate "C" not null,
  span_id text collate "C" not null,
  audit_id bytea,
  primary key (tenant, id),
  unique (tenant, job, key),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, parent) references netra_job_run (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create index netra_job_run_created on netra_job_run (tenant, created_us, id);
create index netra_job_run_active on netra_job_run (tenant, id) where state = 'queued' or state = 'running';
create index netra_job_run_id on netra_job_run (id);

-- The cursor stands in the row that the chunk's own transaction changes: progress, counters and output are one fact. `fence`
-- counts the claims; `owner` is the node that holds it, and every change under the lease names both.
create table netra_job_partition (
  tenant text collate "C" not null,
  run_id bytea not null,
  number bigint not null,
  state text collate "C" not null check (state in ('open', 'done')),
  spec text collate "C" not null,
  cursor text collate "C",
  position bigint not null,
  total bigint,
  done bigint not null,
  failed bigint not null,
  skipped bigint not null,
  fence bigint not null,
  owner bytea,
  chunk_size bigint not null,
  failure_ppm bigint not null,
  primary key (tenant, run_id, number),
  foreign key (tenant, run_id) references netra_job_run (tenant, id),
  check (state = 'open' or owner is null)
);

-- Dead letters. `place` is the cursor in front of the item, from which its reader finds it again where `payload` is only a
-- picture of it (`exact` is 0).
create table netra_item_failure (
  tenant text collate "C" not null,
  run_id bytea not null,
  number bigint not null,
  position bigint not null,
  key text collate "C" not null,
  place text collate "C" not null,
  payload text collate "C" not null,
  exact bigint not null check (exact in (0, 1)),
  cause text collate "C" not null check (cause in ('error', 'crash', 'oom', 'limit')),
  error text collate "C" not null,
  attempts bigint not null,
  created_us bigint not null,
  primary key (tenant, run_id, number, position),
  foreign key (tenant, run_id, number) references netra_job_partition (tenant, run_id, number)
);

-- What somebody decides has an entry: the start, and each way into or out of the states that only people lead to.
create trigger netra_job_run_audit_insert after insert on netra_job_run
for each row execute function netra_audit_by_id();
create trigger netra_job_run_audit_update after update of state, audit_id on netra_job_run
for each row when (new.audit_id is distinct from old.audit_id or (new.state <> old.state
  and (new.state in ('paused', 'cancelled') or old.state in ('completed', 'completed_with_failures', 'failed', 'paused', 'cancelled'))))
execute function netra_audit_by_id();

-- Who sees what, and what each may do; see 0001. A worker works on one tenant's run at a time, in that tenant's name; the fleet
-- only looks which runs there are.

alter table netra_job_run enable row level security, force row level security;
create policy of_tenant on netra_job_run to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_job_run for select to netra_fleet using (true);
create policy of_owner on netra_job_run to current_user using (true) with check (true);

alter table netra_job_partition enable row level security, force row level security;
create policy of_tenant on netra_job_partition to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_job_partition to current_user using (true) with check (true);

alter table netra_item_failure enable row level security, force row level security;
create policy of_tenant on netra_item_failure to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_item_failure to current_user using (true) with check (true);

revoke all on netra_job_run, netra_job_partition, netra_item_failure from public;
grant select, insert, update on netra_job_run, netra_job_partition to netra_run;
grant select, insert on netra_item_failure to netra_run;
grant select, insert on netra_job_run to netra_app;
grant select on netra_job_run to netra_fleet;
