-- Other texts for PostgreSQL; see storage/statements.py.

-- name: hold_run
-- Forced: whoever decides does so in turn, and after the chunks that are being committed.
select state from netra_job_run where tenant = :tenant and id = :id for update;

-- name: run_that_runs
-- Forced: until this transaction ends nobody pauses or cancels the run, so that a pause that was answered is one (B8). It is asked
-- at a chunk's end, for a moment, so that chunks that overlap without end cannot keep a pause waiting for ever.
select trace_id, span_id from netra_job_run where tenant = :tenant and id = :id and state = 'running' for share;

-- name: claim_partitions
-- Forced: two processes that claim at once would find the same rows, and one would wait for the other and then get nothing. The
-- candidates are found once: a subquery would be asked again for each row, and pass by what it has locked itself.
with candidate as materialized (
  select p.number from netra_job_partition p
  where p.tenant = :tenant and p.run_id = :run_id and p.state = 'open'
    and (p.owner is null or not exists (select 1 from netra_node n where n.id = p.owner))
  order by p.number limit :limit for update skip locked
)
update netra_job_partition set owner = :node, fence = fence + 1, crashes = case when owner is null then crashes else coalesce(crashes, 0) + 1 end
from candidate c
where tenant = :tenant and run_id = :run_id and state = 'open' and netra_job_partition.number = c.number
  and (owner is null or not exists (select 1 from netra_node n where n.id = netra_job_partition.owner))
returning netra_job_partition.number, fence, spec, cursor, position, chunk_size, failure_ppm, coalesce(crashes, 0), coalesce(item_bytes, 0);

-- name: hold_partition
-- Forced: nobody claims it until this transaction ends; claims skip it meanwhile, and nobody waits. Nor is its owner declared dead
-- meanwhile; his row's key is all that is locked, so that beats are not held up.
select 1 from netra_node n, netra_job_partition p
where n.id = :node
  and p.tenant = :tenant and p.run_id = :run_id and p.number = :number and p.state = 'open' and p.owner = :node and p.fence = :fence
for key share of n for no key update of p;

-- name: hold_runs_of_job
-- Forced: two processes that claim at once would each see the other's partitions free, and together pass the limit.
select id from netra_job_run where tenant = :tenant and job = :job and state = 'running' order by id for update;

-- name: hold_schedule
-- Forced: two processes that fire it at once do so in turn, and the second finds it moved on.
select id, name, state, job, cron, zone, params, partitions, priority, next_us, run_id, created_us, updated_us
from netra_job_schedule where tenant = :tenant and name = :name for update;

-- name: outlived_runs
-- Forced: each engine says an id in hexadecimal digits in its own way.
select r.id from netra_job_run r
where r.tenant = :tenant and r.created_us < :before_us and r.finished_us < :before_us
  and r.state in ('completed', 'completed_with_failures', 'failed', 'cancelled')
  and not exists (select 1 from netra_job_run c where c.tenant = r.tenant and c.parent = r.id)
  and not exists (select 1 from netra_job_run w where w.tenant = r.tenant and (w.state = 'queued' or w.state = 'running')
    and w.waits_for like '%' || encode(r.id, 'hex') || '%')
order by r.created_us, r.id limit :limit;
