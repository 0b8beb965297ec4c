-- name: run_by_key
select id from netra_job_run where tenant = :tenant and job = :job and key = :key;

-- name: insert_run
insert into netra_job_run
  (tenant, id, job, key, params, parent, state, wanted, partitions, reason, created_us, started_us, finished_us, trace_id, span_id, audit_id)
values (:tenant, :id, :job, :key, :params, :parent, 'queued', :wanted, null, null, :now_us, null, null, :trace_id, :span_id, :audit_id);

-- name: get_run
select tenant, id, job, key, params, parent, state, wanted, partitions, reason, created_us, started_us, finished_us, trace_id, span_id
from netra_job_run where tenant = :tenant and id = :id;

-- name: hold_run
select state from netra_job_run where tenant = :tenant and id = :id;

-- name: run_is_running
select 1 from netra_job_run where tenant = :tenant and id = :id and state = 'running';

-- name: list_runs
select tenant, id, job, key, params, parent, state, wanted, partitions, reason, created_us, started_us, finished_us, trace_id, span_id
from netra_job_run where tenant = :tenant and (created_us, id) < (:created_us, :id)
order by created_us desc, id desc limit :limit;

-- name: active_runs
-- fleet: a worker looks which runs of all tenants there is something to do for; each row names its tenant
select tenant, id, job, state, partitions, created_us from netra_job_run where state = 'queued' or state = 'running'
order by created_us, id limit :limit;

-- name: tenant_of_run
-- fleet: a program asks for a run by its id alone, from which its tenant is to be found
select tenant from netra_job_run where id = :id;

-- name: decide_run
update netra_job_run set state = :state, audit_id = :audit_id, finished_us = :finished_us, reason = :reason
where tenant = :tenant and id = :id;

-- name: begin_run
update netra_job_run set state = 'running', partitions = coalesce(partitions, :partitions), started_us = coalesce(started_us, :now_us)
where tenant = :tenant and id = :id and state = 'queued';

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
update netra_job_partition set owner = :node, fence = fence + 1
where tenant = :tenant and run_id = :run_id and state = 'open'
  and (owner is null or not exists (select 1 from netra_node n where n.id = netra_job_partition.owner))
  and number in (
    select p.number from netra_job_partition p
    where p.tenant = :tenant and p.run_id = :run_id and p.state = 'open'
      and (p.owner is null or not exists (select 1 from netra_node n where n.id = p.owner))
    order by p.number limit :limit)
returning number, fence, spec, cursor, position, chunk_size, failure_ppm;

-- name: hold_partition
select 1 from netra_job_partition
where tenant = :tenant and run_id = :run_id and number = :number and state = 'open' and owner = :node and fence = :fence;

-- name: advance_partition
update netra_job_partition
set state = :state, cursor = :cursor, position = :position, done = done + :done, failed = failed + :failed, skipped = skipped + :skipped,
  owner = case when :state = 'done' then null else owner end, chunk_size = :chunk_size, failure_ppm = :failure_ppm
where tenant = :tenant and run_id = :run_id and number = :number and state = 'open' and owner = :node and fence = :fence;

-- name: release_partition
update netra_job_partition set owner = null
where tenant = :tenant and run_id = :run_id and number = :number and state = 'open' and owner = :node and fence = :fence;

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
  cast(coalesce(max(chunk_size), 0) as bigint)
from netra_job_partition where tenant = :tenant and run_id = :run_id;

-- name: list_failures
select number, position, key, place, payload, exact, cause, error, attempts from netra_item_failure
where tenant = :tenant and run_id = :run_id and (number, position) > (:after_number, :after_position)
order by number, position limit :limit;

-- name: count_failures
select count(*) from netra_item_failure where tenant = :tenant and run_id = :run_id;
