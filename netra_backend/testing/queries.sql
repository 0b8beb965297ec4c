-- Statements of the filler: rows of any age and state, which the product's own verbs never write at once.

-- name: fill_deliveries
-- fleet: fills a database with many tenants at once; each row carries its tenant
insert into netra_delivery
  (tenant, message_id, endpoint_id, state, number, due_us, deadline_us, manual, owner, last_status, reason)
select r.tenant, r.message_id, r.endpoint_id, r.state, r.number, r.due_us, r.deadline_us, 0, r.owner, r.last_status, r.reason
from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, state text, number int, due_us int, deadline_us int,
  owner uuid?, last_status int?, reason text?) as r
where true;
