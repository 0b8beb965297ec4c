-- Schedules, priorities, runs that come after others, and paces.

-- `waits_for` is a JSON list of run ids in hex, which must have been completed before this one begins.
alter table netra_job_run add column priority bigint;
alter table netra_job_run add column waits_for text collate "C";

-- When runs are started by themselves. `next_us` is when it fires next; whoever fires it moves it on in the same transaction that
-- starts the run, whose key names the time, so that each time gives one run.
create table netra_job_schedule (
  tenant text collate "C" not null,
  id bytea not null,
  name text collate "C" not null,
  state text collate "C" not null check (state in ('on', 'off')),
  job text collate "C" not null,
  cron text collate "C" not null,
  zone text collate "C" not null,
  params text collate "C" not null,
  partitions bigint not null,
  priority bigint not null,
  next_us bigint not null,
  run_id bytea,
  created_us bigint not null,
  updated_us bigint not null,
  audit_id bytea,
  primary key (tenant, id),
  unique (tenant, name),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create index netra_job_schedule_due on netra_job_schedule (next_us) where state = 'on';

-- How far a job's items are ahead of its pace, for all processes: the theoretical arrival time of GCRA.
create table netra_job_pace (
  tenant text collate "C" not null,
  job text collate "C" not null,
  next_us bigint not null,
  primary key (tenant, job),
  foreign key (tenant) references netra_tenant (tenant)
);

create trigger netra_job_schedule_audit_insert after insert on netra_job_schedule
for each row execute function netra_audit_by_id();
create trigger netra_job_schedule_audit_update
after update of state, job, cron, zone, params, partitions, priority, audit_id on netra_job_schedule
for each row execute function netra_audit_by_id();

-- Who sees what, and what each may do; see 0001.

alter table netra_job_schedule enable row level security, force row level security;
create policy of_tenant on netra_job_schedule to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_job_schedule for select to netra_fleet using (true);
create policy of_owner on netra_job_schedule to current_user using (true) with check (true);

alter table netra_job_pace enable row level security, force row level security;
create policy of_tenant on netra_job_pace to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_job_pace to current_user using (true) with check (true);

revoke all on netra_job_schedule, netra_job_pace from public;
grant select, insert, update on netra_job_schedule, netra_job_pace to netra_run;
grant select on netra_job_schedule to netra_fleet;
