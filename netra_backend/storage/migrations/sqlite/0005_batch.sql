-- Batches: runs, their partitions, the items that failed.

-- `key` is the run's identity within its job: the same start twice is one run. `partitions` is null until a worker has planned
-- it. `audit_id` names the decision (start, pause, resume, cancel, rerun) that last changed it.
create table netra_job_run (
  tenant text not null,
  id blob not null,
  job text not null,
  key text not null,
  params text not null,
  parent blob,
  state text not null check (state in ('queued', 'running', 'completed', 'completed_with_failures', 'failed', 'paused', 'cancelled')),
  wanted integer not null,
  partitions integer,
  reason text,
  created_us integer not null,
  started_us integer,
  finished_us integer,
  trace_id text not null,
  span_id text not null,
  audit_id blob,
  primary key (tenant, id),
  unique (tenant, job, key),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, parent) references netra_job_run (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create index netra_job_run_created on netra_job_run (tenant, created_us, id);
create index netra_job_run_active on netra_job_run (tenant, id) where state = 'queued' or state = 'running';
create index netra_job_run_id on netra_job_run (id);

-- The cursor stands in the row that the chunk's own transaction changes: progress, counters and output are one fact. `fence`
-- counts the claims; `owner` is the node that holds it, and every change under the lease names both.
create table netra_job_partition (
  tenant text not null,
  run_id blob not null,
  number integer not null,
  state text not null check (state in ('open', 'done')),
  spec text not null,
  cursor text,
  position integer not null,
  total integer,
  done integer not null,
  failed integer not null,
  skipped integer not null,
  fence integer not null,
  owner blob,
  chunk_size integer not null,
  failure_ppm integer not null,
  primary key (tenant, run_id, number),
  foreign key (tenant, run_id) references netra_job_run (tenant, id),
  check (state = 'open' or owner is null)
) strict;

-- Dead letters. `place` is the cursor in front of the item, from which its reader finds it again where `payload` is only a
-- picture of it (`exact` is 0).
create table netra_item_failure (
  tenant text not null,
  run_id blob not null,
  number integer not null,
  position integer not null,
  key text not null,
  place text not null,
  payload text not null,
  exact integer not null check (exact in (0, 1)),
  cause text not null check (cause in ('error', 'crash', 'oom', 'limit')),
  error text not null,
  attempts integer not null,
  created_us integer not null,
  primary key (tenant, run_id, number, position),
  foreign key (tenant, run_id, number) references netra_job_partition (tenant, run_id, number)
) strict;

-- What somebody decides has an entry: the start, and each way into or out of the states that only people lead to.
create trigger netra_job_run_audit_insert after insert on netra_job_run begin
  select raise(abort, 'netra_audit: this change of netra_job_run has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_job_run' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_job_run_audit_update after update of state, audit_id on netra_job_run
when new.audit_id is not old.audit_id or (new.state <> old.state
  and (new.state in ('paused', 'cancelled') or old.state in ('completed', 'completed_with_failures', 'failed', 'paused', 'cancelled'))) begin
  select raise(abort, 'netra_audit: this change of netra_job_run has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_job_run' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
