-- Schedules, priorities, runs that come after others, and paces.

-- `waits_for` is a JSON list of run ids in hex, which must have been completed before this one begins.
alter table netra_job_run add column priority integer;
alter table netra_job_run add column waits_for text;

-- When runs are started by themselves. `next_us` is when it fires next; whoever fires it moves it on in the same transaction that
-- starts the run, whose key names the time, so that each time gives one run.
create table netra_job_schedule (
  tenant text not null,
  id blob not null,
  name text not null,
  state text not null check (state in ('on', 'off')),
  job text not null,
  cron text not null,
  zone text not null,
  params text not null,
  partitions integer not null,
  priority integer not null,
  next_us integer not null,
  run_id blob,
  created_us integer not null,
  updated_us integer not null,
  audit_id blob,
  primary key (tenant, id),
  unique (tenant, name),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create index netra_job_schedule_due on netra_job_schedule (next_us) where state = 'on';

-- How far a job's items are ahead of its pace, for all processes: the theoretical arrival time of GCRA.
create table netra_job_pace (
  tenant text not null,
  job text not null,
  next_us integer not null,
  primary key (tenant, job),
  foreign key (tenant) references netra_tenant (tenant)
) strict;

create trigger netra_job_schedule_audit_insert after insert on netra_job_schedule begin
  select raise(abort, 'netra_audit: this change of netra_job_schedule has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_job_schedule' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_job_schedule_audit_update
after update of state, job, cron, zone, params, partitions, priority, audit_id on netra_job_schedule begin
  select raise(abort, 'netra_audit: this change of netra_job_schedule has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_job_schedule' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
