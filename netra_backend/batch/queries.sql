-- name: run_by_key
select id from netra_job_run where tenant = :tenant and job = :job and key = :key;

-- name: insert_run
insert into netra_job_run
  (tenant, id, job, key, params, parent, state, wanted, partitions, reason, created_us, started_us, finished_us, trace_id, span_id, audit_id,
   priority, waits_for)
values (:tenant, :id, :job, :key, :params, :parent, 'queued', :wanted, null, null, :now_us, null, null, :trace_id, :span_id, :audit_id,
  :priority, :waits_for);

-- name: get_run
select tenant, id, job, key, params, parent, state, wanted, partitions, reason, created_us, started_us, finished_us, trace_id, span_id,
  coalesce(priority, 0), coalesce(waits_for, '[]')
from netra_job_run where tenant = :tenant and id = :id;

-- name: hold_run
select state from netra_job_run where tenant = :tenant and id = :id;

-- name: run_that_runs
select trace_id, span_id from netra_job_run where tenant = :tenant and id = :id and state = 'running';

-- name: list_runs
select tenant, id, job, key, params, parent, state, wanted, partitions, reason, created_us, started_us, finished_us, trace_id, span_id,
  coalesce(priority, 0), coalesce(waits_for, '[]')
from netra_job_run where tenant = :tenant and (created_us, id) < (:created_us, :id)
order by created_us desc, id desc limit :limit;

-- name: active_runs
-- fleet: a worker looks which runs of all tenants there is something to do for; each row names its tenant
-- Of each tenant the first few: one that has started thousands hides nobody. What nobody here could work on hides nothing either.
select tenant, id, job, state, partitions, priority from (
  select r.tenant, r.id, r.job, r.state, r.partitions, coalesce(r.priority, 0) as priority, r.created_us,
    row_number() over (partition by r.tenant order by coalesce(r.priority, 0) desc, r.created_us, r.id) as place
  from netra_job_run r
  where (r.state = 'queued' or r.state = 'running') and r.job in (select j.name from rows(:jobs, name text) as j)
    and (r.state = 'running' or coalesce(r.waits_for, '[]') = '[]')) as ranked
where place <= :each order by place, created_us, id limit :limit;

-- name: count_under_way
-- fleet: the overview tells how many runs of the installation are under way, and names none
select count(*) from (select 1 from netra_job_run where state = 'queued' or state = 'running' limit :limit) as r;

-- name: waiting_runs
-- fleet: a worker looks which runs of all tenants may begin, now that others are completed; each row names its tenant
select r.tenant, r.id, r.job, r.state, r.partitions, coalesce(r.priority, 0), r.waits_for
from netra_job_run r
where (r.state = 'queued' or r.state = 'running') and r.job in (select j.name from rows(:jobs, name text) as j)
  and r.state = 'queued' and coalesce(r.waits_for, '[]') <> '[]' and (r.tenant, r.id) > (:after_tenant, :after_id)
order by r.tenant, r.id limit :limit;

-- name: states_of_runs
select r.id, j.state
from rows(:rows, id uuid) as r cross join netra_job_run j -- done in its order on SQLite, which would else read all of the tenant's runs
where j.tenant = :tenant and j.id = r.id;

-- name: hold_runs_of_job
-- Whoever claims of a job that has a limit does so in turn.
select id from netra_job_run where tenant = :tenant and job = :job and state = 'running' order by id;

-- name: working_of_job
select count(*) from netra_job_partition p join netra_job_run r on r.tenant = p.tenant and r.id = p.run_id
where p.tenant = :tenant and r.job = :job and p.state = 'open' and exists (select 1 from netra_node n where n.id = p.owner);

-- name: take_pace
-- A place further away than all who take some could have brought it was taken before the clock was put back.
insert into netra_job_pace (tenant, job, next_us) values (:tenant, :job, cast(:now_us as bigint) + cast(:step_us as bigint))
on conflict (tenant, job) do update set next_us = cast(:step_us as bigint)
  + case when netra_job_pace.next_us > cast(:now_us as bigint) and netra_job_pace.next_us <= cast(:furthest_us as bigint)
    then netra_job_pace.next_us else cast(:now_us as bigint) end
returning next_us;

-- name: hold_schedule
select id, name, state, job, cron, zone, params, partitions, priority, next_us, run_id, created_us, updated_us
from netra_job_schedule where tenant = :tenant and name = :name;

-- name: get_schedule
select id, name, state, job, cron, zone, params, partitions, priority, next_us, run_id, created_us, updated_us
from netra_job_schedule where tenant = :tenant and name = :name;

-- name: insert_schedule
insert into netra_job_schedule
  (tenant, id, name, state, job, cron, zone, params, partitions, priority, next_us, run_id, created_us, updated_us, audit_id)
values (:tenant, :id, :name, 'on', :job, :cron, :zone, :params, :partitions, :priority, :next_us, null, :now_us, :now_us, :audit_id);

-- name: update_schedule
update netra_job_schedule set state = :state, job = :job, cron = :cron, zone = :zone, params = :params, partitions = :partitions,
  priority = :priority, next_us = :next_us, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: move_schedule
update netra_job_schedule set next_us = :next_us, run_id = :run_id where tenant = :tenant and id = :id and state = 'on';

-- name: list_schedules
select id, name, state, job, cron, zone, params, partitions, priority, next_us, run_id, created_us, updated_us
from netra_job_schedule where tenant = :tenant and state = 'on' and name > :after_name order by name limit :limit;

-- name: due_schedules
-- fleet: a worker fires the schedules of all tenants, each in its own tenant's name; each row names it
select tenant, name from netra_job_schedule where state = 'on' and next_us <= :now_us order by next_us, tenant, name limit :limit;

-- name: tenant_of_run
-- fleet: a program asks for a run by its id alone, from which its tenant is to be found
select tenant from netra_job_run where id = :id;

-- name: decide_run
update netra_job_run set state = :state, audit_id = :audit_id, finished_us = :finished_us, reason = :reason
where tenant = :tenant and id = :id;

-- name: begin_run
update netra_job_run set state = 'running', partitions = coalesce(partitions, :partitions), started_us = coalesce(started_us, :now_us)
where tenant = :tenant and id = :id and state = 'queued' and (partitions is null or cast(:partitions as bigint) = 0);

-- name: end_run
update netra_job_run set state = :state, finished_us = :now_us, reason = :reason
where tenant = :tenant and id = :id and state in ('queued', 'running');

-- name: insert_partitions
insert into netra_job_partition
  (tenant, run_id, number, state, spec, cursor, position, total, done, failed, skipped, fence, owner, chunk_size, failure_ppm)
select :tenant, :run_id, r.number, 'open', r.spec, null, 0, r.total, 0, 0, 0, 0, null, :chunk_size, 0
from rows(:rows, number int, spec text, total int?) as r
where true
on conflict (tenant, run_id, number) do nothing;

-- name: partition_spec
select spec from netra_job_partition where tenant = :tenant and run_id = :run_id and number = :number;

-- name: free_partition
select p.number from netra_job_partition p
where p.tenant = :tenant and p.run_id = :run_id and p.state = 'open'
  and (p.owner is null or not exists (select 1 from netra_node n where n.id = p.owner))
order by p.number limit 1;

-- name: claim_partitions
-- Whoever takes it from an owner that has not given it back takes it from one that died.
update netra_job_partition set owner = :node, fence = fence + 1, crashes = case when owner is null then crashes else coalesce(crashes, 0) + 1 end
where tenant = :tenant and run_id = :run_id and state = 'open'
  and (owner is null or not exists (select 1 from netra_node n where n.id = netra_job_partition.owner))
  and number in (
    select p.number from netra_job_partition p
    where p.tenant = :tenant and p.run_id = :run_id and p.state = 'open'
      and (p.owner is null or not exists (select 1 from netra_node n where n.id = p.owner))
    order by p.number limit :limit)
returning number, fence, spec, cursor, position, chunk_size, failure_ppm, coalesce(crashes, 0), coalesce(item_bytes, 0);

-- name: hold_partition
select 1 from netra_job_partition p join netra_node n on n.id = p.owner
where p.tenant = :tenant and p.run_id = :run_id and p.number = :number and p.state = 'open' and p.owner = :node and p.fence = :fence;

-- name: begin_to_write
-- Committed before the chunk's own transaction begins, so that it tells whose owner died in the writer from whose died elsewhere.
update netra_job_partition set writer_tries = coalesce(writer_tries, 0) + 1
where tenant = :tenant and run_id = :run_id and number = :number and state = 'open' and owner = :node and fence = :fence
returning writer_tries;

-- name: advance_partition
update netra_job_partition
set state = :state, cursor = :cursor, position = :position, done = done + :done, failed = failed + :failed, skipped = skipped + :skipped,
  owner = case when :state = 'done' then null else owner end, chunk_size = :chunk_size, failure_ppm = :failure_ppm, crashes = 0,
  writer_tries = 0, item_bytes = :item_bytes, memory_level = :memory_level, executor = :executor
where tenant = :tenant and run_id = :run_id and number = :number and state = 'open' and owner = :node and fence = :fence;

-- name: release_partition
update netra_job_partition set owner = null, writer_tries = 0
where tenant = :tenant and run_id = :run_id and number = :number and state = 'open' and owner = :node and fence = :fence;

-- name: forgive_crashes
-- Somebody has decided that it goes on: what it died of before may be gone.
update netra_job_partition set crashes = 0, writer_tries = 0 where tenant = :tenant and run_id = :run_id and crashes > 0;

-- name: insert_failures
insert into netra_item_failure
  (tenant, run_id, number, position, key, place, payload, exact, cause, error, attempts, created_us)
select :tenant, :run_id, :number, r.position, r.key, r.place, r.payload, r.exact, r.cause, r.error, r.attempts, :now_us
from rows(:rows, position int, key text, place text, payload text, exact int, cause text, error text, attempts int) as r;

-- name: totals
select count(*), cast(coalesce(sum(case when state = 'open' then 1 else 0 end), 0) as bigint), cast(coalesce(sum(done), 0) as bigint),
  cast(coalesce(sum(failed), 0) as bigint), cast(coalesce(sum(skipped), 0) as bigint),
  cast(coalesce(sum(case when fence > 1 then fence - 1 else 0 end), 0) as bigint), count(total),
  cast(coalesce(sum(total), 0) as bigint), cast(coalesce(sum(case when owner is null then 0 else 1 end), 0) as bigint),
  cast(coalesce(max(chunk_size), 0) as bigint), cast(coalesce(max(case when owner is null then 0 else coalesce(memory_level, 0) end), 0) as bigint),
  coalesce(max(executor), '')
from netra_job_partition where tenant = :tenant and run_id = :run_id;

-- name: list_failures
select number, position, key, place, payload, exact, cause, error, attempts from netra_item_failure
where tenant = :tenant and run_id = :run_id and (number, position) > (:after_number, :after_position)
order by number, position limit :limit;

-- name: count_failures
select count(*) from netra_item_failure where tenant = :tenant and run_id = :run_id;

-- name: next_tenant_with_runs
-- fleet: retention asks which tenants there is something to look at for; each is then looked at in its own name
select tenant from netra_job_run where (tenant, created_us) > (:after_tenant, :ever_us) order by tenant, created_us limit 1;

-- name: outlived_runs
select r.id from netra_job_run r
where r.tenant = :tenant and r.created_us < :before_us and r.finished_us < :before_us
  and r.state in ('completed', 'completed_with_failures', 'failed', 'cancelled')
  and not exists (select 1 from netra_job_run c where c.tenant = r.tenant and c.parent = r.id)
  and not exists (select 1 from netra_job_run w where w.tenant = r.tenant and (w.state = 'queued' or w.state = 'running')
    and w.waits_for like '%' || lower(hex(r.id)) || '%')
order by r.created_us, r.id limit :limit;

-- name: delete_failures
delete from netra_item_failure
where tenant = :tenant and run_id = :run_id and (number, position) in (
  select f.number, f.position from netra_item_failure f where f.tenant = :tenant and f.run_id = :run_id
  order by f.number, f.position limit :limit);

-- name: delete_partitions
delete from netra_job_partition where tenant = :tenant and run_id = :run_id;

-- name: delete_run
delete from netra_job_run where tenant = :tenant and id = :id;

-- name: last_runs
-- fleet: KPIs ask how the last runs of jobs of several tenants stand; each row carries its tenant
select tenant, job, state, reason
from (
  select j.tenant, j.job, j.state, j.reason, row_number() over (partition by j.tenant, j.job order by j.created_us desc, j.id desc) as place
  from rows(:rows, tenant text, job text) as r
  join netra_job_run j on j.tenant = r.tenant and j.job = r.job) ranked
where place = 1;
