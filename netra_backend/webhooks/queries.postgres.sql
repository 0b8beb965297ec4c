-- Other texts for PostgreSQL; see storage/statements.py.

-- name: claim
-- Forced: two processes that claim from one lane would find the same rows, one would wait for the other and then get
-- nothing. Locked rows are skipped, each gets its own. The node's row is locked against its reaping until the commit.
with lane as (
  select r.tenant, r.endpoint_id, r.free from rows(:lanes, tenant text, endpoint_id uuid, free int) as r
  where not exists (
    select 1 from netra_endpoint_health h
    where h.tenant = r.tenant and h.endpoint_id = r.endpoint_id
      and (h.gate_us > :now_us or h.phase = 'open' or (h.phase = 'half_open' and h.prober <> :node)))
),
node as (
  select n.id from netra_node n where n.id = :node for key share
),
candidate as (
  select x.tenant, x.message_id, x.endpoint_id
  from lane l cross join lateral (
    select d.tenant, d.message_id, d.endpoint_id from netra_delivery d
    where d.tenant = l.tenant and d.endpoint_id = l.endpoint_id and d.state = 'due' and d.due_us <= :now_us
    order by d.due_us, d.message_id
    limit least(l.free, :most)
    for update skip locked
  ) x
)
update netra_delivery set state = 'leased', owner = (select node.id from node)
from candidate c
where netra_delivery.tenant = c.tenant and netra_delivery.message_id = c.message_id
  and netra_delivery.endpoint_id = c.endpoint_id and netra_delivery.state = 'due' and exists (select 1 from node)
returning netra_delivery.tenant, netra_delivery.message_id, netra_delivery.endpoint_id, netra_delivery.number,
  netra_delivery.deadline_us, netra_delivery.manual, netra_delivery.line;

-- name: lost_leases
-- Forced: the nodes' rows are locked against their reaping until this transaction ends, so that what is not lost now is
-- not lost at its commit either.
with alive as (
  select n.id from netra_node n
  where n.id in (
    select k.owner from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, owner uuid) as k)
  for key share
)
select r.tenant, r.message_id, r.endpoint_id, r.owner
from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, owner uuid) as r
where not exists (select 1 from alive a where a.id = r.owner)
  or not exists (
    select 1 from netra_delivery d
    where d.tenant = r.tenant and d.message_id = r.message_id and d.endpoint_id = r.endpoint_id
      and d.owner = r.owner and d.state = 'leased');

-- name: hold_lines
-- Forced: a line whose row another transaction holds is passed over, for that may be a caller's own and last long.
select l.tenant, l.endpoint_id, l.line
from rows(:rows, tenant text, endpoint_id uuid, line text) as r
join netra_line l on l.tenant = r.tenant and l.endpoint_id = r.endpoint_id and l.line = r.line
order by l.tenant, l.endpoint_id, l.line
for update of l skip locked;

-- name: hold_deliveries
-- Forced: a delivery that is being sent again just now is waited for, so that its message is kept whole.
select message_id, state from netra_delivery
where tenant = :tenant and message_id in (select r.id from rows(:rows, id uuid) as r)
order by message_id, endpoint_id
for update;

-- name: hold_task
-- Forced: nobody decides about the task, or claims it, until this page is committed.
select state, after_us, after_id, reason from netra_webhook_task
where tenant = :tenant and id = :id and state = 'running' and owner = :node
for no key update;

-- name: hold_task_to_decide
-- Forced: whoever decides does so after the page that is being committed.
select state from netra_webhook_task where tenant = :tenant and id = :id for update;

-- name: writers_in_progress
-- Forced: many write at once, and a snapshot tells who does.
select cast(cast(pg_snapshot_xmax(pg_current_snapshot()) as text) as bigint),
  cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as bigint);

-- name: hold_chosen
-- Forced: whoever changes one of them just now is waited for, so that places in lines go to those only that take them.
select d.message_id, d.endpoint_id
from rows(:rows, message_id uuid, endpoint_id uuid) as r
join netra_delivery d on d.tenant = :tenant and d.message_id = r.message_id and d.endpoint_id = r.endpoint_id
where d.state in (select s.state from rows(:states, state text) as s)
order by d.message_id, d.endpoint_id
for update of d;
