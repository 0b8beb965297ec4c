-- Statements of the webhooks part. See storage/statements.py for the notation.

-- name: bump_version
insert into netra_webhook_version (tenant, version) values (:tenant, 1)
on conflict (tenant) do update set version = netra_webhook_version.version + 1;

-- name: get_version
select version from netra_webhook_version where tenant = :tenant;

-- name: current_versions
-- fleet: coalesced ingest checks the snapshots of several tenants; each row carries its tenant
select r.tenant, r.version from rows(:rows, tenant text, version int) as r
left join netra_webhook_version v on v.tenant = r.tenant
where coalesce(v.version, 0) = r.version;

-- name: changed_versions
-- fleet: the cache of endpoint snapshots asks for several tenants; each row carries its tenant
select r.tenant from rows(:rows, tenant text, version int) as r
left join netra_webhook_version v on v.tenant = r.tenant
where coalesce(v.version, 0) <> r.version;

-- name: insert_endpoint
insert into netra_endpoint
  (tenant, id, uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter,
   schedule, auth, created_us, updated_us, audit_id)
values (:tenant, :id, :uid, :url, :description, :event_types, :channels, :disabled, :rate_limit, :metadata, :headers, :ordering, :filter,
   :schedule, :auth, :now_us, :now_us, :audit_id);

-- name: hold_endpoint
update netra_endpoint set updated_us = updated_us where tenant = :tenant and id = :id;

-- name: hold_enabled_endpoint
update netra_endpoint set updated_us = updated_us where tenant = :tenant and id = :id and disabled = 0 and deleted_us is null;

-- name: disable_endpoint
update netra_endpoint set disabled = 1, updated_us = :now_us, audit_id = :audit_id where tenant = :tenant and id = :id;

-- name: update_endpoint
update netra_endpoint
set uid = :uid, url = :url, description = :description, event_types = :event_types, channels = :channels,
    disabled = :disabled, rate_limit = :rate_limit, metadata = :metadata, headers = :headers,
    ordering = :ordering, filter = :filter, schedule = :schedule, auth = :auth,
    updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id and deleted_us is null;

-- name: bury_endpoint
update netra_endpoint set deleted_us = :now_us, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id and deleted_us is null;

-- name: endpoint_by_id
select tenant, id, uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, created_us, updated_us, schedule, auth
from netra_endpoint where tenant = :tenant and id = :id and deleted_us is null;

-- name: endpoint_by_uid
select tenant, id, uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, created_us, updated_us, schedule, auth
from netra_endpoint where tenant = :tenant and uid = :uid and deleted_us is null;

-- name: list_endpoints
select tenant, id, uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, created_us, updated_us, schedule, auth
from netra_endpoint
where tenant = :tenant and deleted_us is null and (created_us, id) > (:created_us, :id)
order by created_us, id limit :limit;

-- name: list_endpoints_back
select tenant, id, uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, created_us, updated_us, schedule, auth
from netra_endpoint
where tenant = :tenant and deleted_us is null and (created_us, id) < (:created_us, :id)
order by created_us desc, id desc limit :limit;

-- name: count_endpoints
-- As far as the limit.
select count(*) from (select 1 from netra_endpoint where tenant = :tenant and deleted_us is null limit :limit) as e;

-- name: insert_secret
insert into netra_endpoint_secret (tenant, id, endpoint_id, sealed, created_us, expires_us, audit_id)
values (:tenant, :id, :endpoint_id, :sealed, :now_us, null, :audit_id);

-- name: expire_secret
update netra_endpoint_secret set expires_us = :expires_us, audit_id = :audit_id
where tenant = :tenant and id = :id and deleted_us is null;

-- name: live_secrets
select id, endpoint_id, sealed, expires_us from netra_endpoint_secret
where tenant = :tenant and deleted_us is null and (expires_us is null or expires_us > :now_us)
order by created_us desc, id desc;

-- name: endpoint_secrets
select id, endpoint_id, sealed, expires_us from netra_endpoint_secret
where tenant = :tenant and endpoint_id = :endpoint_id and deleted_us is null
  and (expires_us is null or expires_us > :now_us)
order by created_us desc, id desc;

-- name: insert_event_type
insert into netra_event_type
  (tenant, name, description, archived, deprecated, group_name, schemas, schedule, created_us, updated_us, audit_id)
values (:tenant, :name, :description, :archived, :deprecated, :group_name, :schemas, :schedule, :now_us, :now_us, :audit_id);

-- name: hold_event_type
update netra_event_type set updated_us = updated_us where tenant = :tenant and name = :name;

-- name: update_event_type
update netra_event_type
set description = :description, archived = :archived, deprecated = :deprecated, group_name = :group_name,
    schemas = :schemas, schedule = :schedule, updated_us = :now_us, deleted_us = null, audit_id = :audit_id
where tenant = :tenant and name = :name;

-- name: bury_event_type
update netra_event_type set deleted_us = :now_us, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and name = :name and deleted_us is null;

-- name: get_event_type
select name, description, archived, deprecated, group_name, schemas, created_us, updated_us, deleted_us, schedule
from netra_event_type where tenant = :tenant and name = :name;

-- name: schedules_of_event_types
select name, schedule from netra_event_type where tenant = :tenant and schedule is not null and deleted_us is null order by name;

-- name: schemas_of_event_types
select name, schemas from netra_event_type
where tenant = :tenant and deleted_us is null and schemas is not null;

-- name: list_event_types
select name, description, archived, deprecated, group_name, schemas, created_us, updated_us, deleted_us, schedule
from netra_event_type
where tenant = :tenant and deleted_us is null and archived <= :with_archived and name > :after
order by name limit :limit;

-- name: list_event_types_back
select name, description, archived, deprecated, group_name, schemas, created_us, updated_us, deleted_us, schedule
from netra_event_type
where tenant = :tenant and deleted_us is null and archived <= :with_archived and name < :after
order by name desc limit :limit;

-- name: insert_messages
-- fleet: coalesced ingest; each row carries its tenant
insert into netra_message
  (tenant, id, event_type, event_id, payload, channels, tags, ordering_key, deliver_at_us, created_us, trace_id, span_id,
   payload_until_us, schedule)
select r.tenant, r.id, r.event_type, r.event_id, r.payload, r.channels, r.tags, r.ordering_key, r.deliver_at_us, r.created_us,
  r.trace_id, r.span_id, r.payload_until_us, r.schedule
from rows(:rows, tenant text, id uuid, event_type text, event_id text?, payload text, channels text?, tags text?,
  ordering_key text?, deliver_at_us int?, created_us int, trace_id text, span_id text, payload_until_us int?,
  schedule text?) as r
where true;

-- name: insert_deliveries
-- fleet: coalesced ingest; each row carries its tenant
insert into netra_delivery
  (tenant, message_id, endpoint_id, state, number, due_us, deadline_us, manual, owner, reason, line, place)
select r.tenant, r.message_id, r.endpoint_id, r.state, 0, r.due_us, r.deadline_us, 0, r.owner, r.reason, r.line, r.place
from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, state text, due_us int, deadline_us int, owner uuid?,
  reason text?, line text?, place int?) as r
where true;

-- name: take_places
-- fleet: coalesced ingest; each row carries its tenant
insert into netra_line (tenant, endpoint_id, line, last_place, used_us)
select r.tenant, r.endpoint_id, r.line, r.count, :now_us
from rows(:rows, tenant text, endpoint_id uuid, line text, count int) as r
where true
order by r.tenant, r.endpoint_id, r.line
on conflict (tenant, endpoint_id, line) do update
set last_place = netra_line.last_place + excluded.last_place, used_us = excluded.used_us
returning tenant, endpoint_id, line, last_place;

-- name: heads_of_lines
-- fleet: coalesced ingest; each row carries its tenant
-- When the first of each line is due; null where nobody stands in it.
-- In order and no `exists`, so that SQLite seeks the line's first: it would else read all of the tenant's deliveries.
select r.tenant, r.endpoint_id, r.line, (
  select d.due_us from netra_delivery d
  where d.tenant = r.tenant and d.endpoint_id = r.endpoint_id and d.line = r.line and (d.state = 'due' or d.state = 'leased')
  order by d.place limit 1)
from rows(:rows, tenant text, endpoint_id uuid, line text) as r;

-- name: hold_lines
-- fleet: coalesced acknowledgement; each row carries its tenant
select l.tenant, l.endpoint_id, l.line
from rows(:rows, tenant text, endpoint_id uuid, line text) as r
join netra_line l on l.tenant = r.tenant and l.endpoint_id = r.endpoint_id and l.line = r.line;

-- name: free_heads
-- fleet: coalesced acknowledgement; each row carries its tenant
update netra_delivery
set due_us = (
  select max(m.due_us) from (
    select :now_us as due_us
    union all
    select x.deliver_at_us from netra_message x
    where x.tenant = netra_delivery.tenant and x.id = netra_delivery.message_id and x.deliver_at_us is not null) as m)
from ( -- by the primary key: an older SQLite would read all of the tenant's deliveries for the places themselves
  select r.tenant, r.endpoint_id, (
    select d.message_id from netra_delivery d
    where d.tenant = r.tenant and d.endpoint_id = r.endpoint_id and d.line = r.line and (d.state = 'due' or d.state = 'leased')
    order by d.place limit 1) as message_id
  from rows(:rows, tenant text, endpoint_id uuid, line text) as r) as h
where netra_delivery.tenant = h.tenant and netra_delivery.message_id = h.message_id and netra_delivery.endpoint_id = h.endpoint_id
  and state = 'due' and due_us = :never_us and line is not null;

-- name: next_line
-- fleet: the sweep looks at the first of every line, one index seek a line
select tenant, endpoint_id, line, due_us from netra_delivery
where line is not null and (state = 'due' or state = 'leased')
  and (tenant, endpoint_id, line) > (:after_tenant, :after_endpoint, :after_line)
order by tenant, endpoint_id, line, place limit 1;

-- name: point_key_at
update netra_idempotency set ref = :ref where tenant = :tenant and route = :route and key = :key;

-- name: forget_key
delete from netra_idempotency where tenant = :tenant and route = :route and key = :key;

-- name: forget_orphans
-- fleet: coalesced ingest; each row carries its tenant
-- Keys whose message is gone, other than those that lead to messages of this very call, which are stored behind their keys.
delete from netra_idempotency
where (tenant, route, key) in (select r.tenant, r.route, r.key from rows(:rows, tenant text, route text, key text) as r)
  and ref not in (select o.id from rows(:own, id uuid) as o)
  and not exists (select 1 from netra_message m where m.tenant = netra_idempotency.tenant and m.id = netra_idempotency.ref);

-- name: messages_by_id
-- fleet: coalesced ingest renders replays; each row carries its tenant
select m.tenant, m.id, m.event_type, m.event_id, m.payload, m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from rows(:rows, tenant text, id uuid) as r
join netra_message m on m.tenant = r.tenant and m.id = r.id;

-- name: standing_of_messages
-- fleet: KPIs ask why messages of several tenants have not arrived; each row carries its tenant
select d.tenant, d.message_id, d.endpoint_id, d.state, d.number, d.reason, coalesce(h.phase, 'closed')
from rows(:rows, tenant text, id uuid) as r
join netra_delivery d on d.tenant = r.tenant and d.message_id = r.id
left join netra_endpoint_health h on h.tenant = d.tenant and h.endpoint_id = d.endpoint_id;

-- name: parked_endpoints
-- fleet: KPIs ask which endpoints of several tenants are parked; each row carries its tenant
select h.tenant, h.endpoint_id from rows(:rows, tenant text) as r
join netra_endpoint_health h on h.tenant = r.tenant
where (h.phase <> 'closed' or h.slow_limit > 0 or h.gate_us > 0 or h.failing_since_us is not null) and h.phase <> 'closed'
order by h.tenant, h.endpoint_id;

-- name: event_ids
-- fleet: operational events name messages of several tenants; each row carries its tenant
select m.tenant, m.id, m.event_id
from rows(:rows, tenant text, id uuid) as r
join netra_message m on m.tenant = r.tenant and m.id = r.id;

-- name: get_message
select tenant, id, event_type, event_id, payload, channels, tags, ordering_key, deliver_at_us, created_us, trace_id, span_id,
  schedule
from netra_message where tenant = :tenant and id = :id;

-- name: message_of_event_id
select m.tenant, m.id, m.event_type, m.event_id, m.payload, m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from netra_idempotency i join netra_message m on m.tenant = i.tenant and m.id = i.ref
where i.tenant = :tenant and i.route = 'event_id' and i.key = :event_id;

-- name: list_messages
select tenant, id, event_type, event_id, payload, channels, tags, ordering_key, deliver_at_us, created_us, trace_id, span_id,
  schedule
from netra_message
where tenant = :tenant and (created_us, id) < (:created_us, :id)
order by created_us desc, id desc limit :limit;

-- name: list_messages_back
select tenant, id, event_type, event_id, payload, channels, tags, ordering_key, deliver_at_us, created_us, trace_id, span_id,
  schedule
from netra_message
where tenant = :tenant and (created_us, id) > (:created_us, :id)
order by created_us, id limit :limit;

-- name: next_due_lane
-- fleet: the skip scan over every tenant's due deliveries, one index seek a lane
select tenant, endpoint_id, due_us from netra_delivery
where state = 'due' and (tenant, endpoint_id) > (:after_tenant, :after_endpoint)
order by tenant, endpoint_id, due_us limit 1;

-- name: claim
-- fleet: one claim for the free slots of many lanes; each row carries its tenant
-- A process may not know yet that an endpoint is parked or gated, so it is asked here as well.
with lane as (
  select r.tenant, r.endpoint_id, r.free from rows(:lanes, tenant text, endpoint_id uuid, free int) as r
  where not exists (
    select 1 from netra_endpoint_health h
    where h.tenant = r.tenant and h.endpoint_id = r.endpoint_id
      and (h.gate_us > :now_us or h.phase = 'open' or (h.phase = 'half_open' and h.prober <> :node)))
),
candidate as (
  select d.tenant, d.message_id, d.endpoint_id, l.free,
    row_number() over (partition by d.tenant, d.endpoint_id order by d.due_us, d.message_id) as place
  from lane l join netra_delivery d
    on d.tenant = l.tenant and d.endpoint_id = l.endpoint_id
   and d.message_id in (
     select x.message_id from netra_delivery x
     where x.tenant = l.tenant and x.endpoint_id = l.endpoint_id and x.state = 'due' and x.due_us <= :now_us
     order by x.due_us limit :most)
)
update netra_delivery set state = 'leased', owner = :node
where state = 'due' and exists (select 1 from netra_node n where n.id = :node)
  and (tenant, message_id, endpoint_id) in
    (select c.tenant, c.message_id, c.endpoint_id from candidate c where c.place <= c.free)
returning tenant, message_id, endpoint_id, number, deadline_us, manual, line;

-- name: acknowledge
-- fleet: coalesced acknowledgement; each row carries its tenant and is fenced by its owner
update netra_delivery
set state = r.state, number = r.number, due_us = r.due_us, owner = null, manual = 0,
    last_status = r.last_status, reason = r.reason
from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, owner uuid, state text, number int, due_us int,
  last_status int, reason text) as r
where netra_delivery.tenant = r.tenant and netra_delivery.message_id = r.message_id
  and netra_delivery.endpoint_id = r.endpoint_id and netra_delivery.owner = r.owner and netra_delivery.state = 'leased'
  and exists (select 1 from netra_node n where n.id = r.owner);

-- name: lost_leases
-- fleet: coalesced acknowledgement; each row carries its tenant
select r.tenant, r.message_id, r.endpoint_id, r.owner
from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, owner uuid) as r
where not exists (select 1 from netra_node n where n.id = r.owner)
  or not exists (
    select 1 from netra_delivery d
    where d.tenant = r.tenant and d.message_id = r.message_id and d.endpoint_id = r.endpoint_id
      and d.owner = r.owner and d.state = 'leased');

-- name: insert_health
-- fleet: coalesced acknowledgement; each row carries its tenant
insert into netra_endpoint_health
  (tenant, endpoint_id, phase, since_us, until_us, openings, slow_limit, credit, prober, gate_us)
select r.tenant, r.endpoint_id, 'closed', 0, 0, 0, 0, 0, null, 0
from rows(:rows, tenant text, endpoint_id uuid) as r
where true
on conflict (tenant, endpoint_id) do nothing;

-- name: raise_gates
-- fleet: coalesced acknowledgement; each row carries its tenant
-- Whoever else has raised it: the latest holds, and one that has passed is cleared.
update netra_endpoint_health
set gate_us = case when r.gate_us > netra_endpoint_health.gate_us or netra_endpoint_health.gate_us <= :now_us
  then r.gate_us else netra_endpoint_health.gate_us end
from rows(:rows, tenant text, endpoint_id uuid, gate_us int) as r
where netra_endpoint_health.tenant = r.tenant and netra_endpoint_health.endpoint_id = r.endpoint_id;

-- name: swap_health
-- fleet: coalesced acknowledgement; each row carries its tenant
update netra_endpoint_health
set phase = r.phase, since_us = r.since_us, until_us = r.until_us, openings = r.openings, slow_limit = r.slow_limit,
    credit = r.credit, prober = r.prober,
    turns = case when netra_endpoint_health.phase = r.phase then netra_endpoint_health.turns
      else substr(substr(r.phase, 1, 1) || cast(r.since_us as text) || ',' || coalesce(netra_endpoint_health.turns, ''), 1, 2000) end
from rows(:rows, tenant text, endpoint_id uuid, was_phase text, was_since_us int, was_until_us int, was_openings int,
  was_slow_limit int, was_credit int, phase text, since_us int, until_us int, openings int, slow_limit int, credit int,
  prober uuid?) as r
where netra_endpoint_health.tenant = r.tenant and netra_endpoint_health.endpoint_id = r.endpoint_id
  and netra_endpoint_health.phase = r.was_phase and netra_endpoint_health.since_us = r.was_since_us
  and netra_endpoint_health.until_us = r.was_until_us and netra_endpoint_health.openings = r.was_openings
  and netra_endpoint_health.slow_limit = r.was_slow_limit and netra_endpoint_health.credit = r.was_credit;

-- name: take_probes
-- fleet: one process takes the probes of several endpoints; each row carries its tenant
-- Only with something to send, only by a node that lives, and only if the breaker still stands as it was seen.
update netra_endpoint_health
set phase = 'half_open', since_us = r.since_us, until_us = r.until_us, prober = :node,
    turns = case when netra_endpoint_health.phase = 'half_open' then netra_endpoint_health.turns
      else substr('h' || cast(r.since_us as text) || ',' || coalesce(netra_endpoint_health.turns, ''), 1, 2000) end
from rows(:rows, tenant text, endpoint_id uuid, was_phase text, was_since_us int, was_until_us int, since_us int,
  until_us int) as r
where netra_endpoint_health.tenant = r.tenant and netra_endpoint_health.endpoint_id = r.endpoint_id
  and netra_endpoint_health.phase = r.was_phase and netra_endpoint_health.since_us = r.was_since_us
  and netra_endpoint_health.until_us = r.was_until_us and netra_endpoint_health.gate_us <= :now_us
  and netra_endpoint_health.phase in ('open', 'half_open')
  and exists (select 1 from netra_node n where n.id = :node)
  and exists (
    select 1 from netra_delivery d
    where d.tenant = r.tenant and d.endpoint_id = r.endpoint_id and d.state = 'due' and d.due_us <= :now_us)
returning netra_endpoint_health.tenant, netra_endpoint_health.endpoint_id;

-- name: give_up_probes
-- fleet: probes are given up that nobody sends; each row carries its tenant
update netra_endpoint_health set phase = 'open', until_us = :now_us, prober = null,
  turns = substr('o' || cast(cast(:now_us as bigint) as text) || ',' || coalesce(turns, ''), 1, 2000)
where phase = 'half_open'
  and (prober = :node or not exists (select 1 from netra_node n where n.id = netra_endpoint_health.prober))
  and (tenant, endpoint_id) in
    (select r.tenant, r.endpoint_id from rows(:rows, tenant text, endpoint_id uuid) as r)
returning tenant, endpoint_id;

-- name: bury_expired
-- fleet: before a probe, what waited past its deadline while its endpoint was parked; each row carries its tenant
update netra_delivery set state = 'dead', reason = :reason
where state = 'due' and deadline_us < :now_us and (tenant, message_id, endpoint_id) in (
  select d.tenant, d.message_id, d.endpoint_id
  from rows(:lanes, tenant text, endpoint_id uuid) as l join netra_delivery d
    on d.tenant = l.tenant and d.endpoint_id = l.endpoint_id
   and d.message_id in (
     select x.message_id from netra_delivery x
     where x.tenant = l.tenant and x.endpoint_id = l.endpoint_id and x.state = 'due' and x.due_us <= :now_us
     order by x.due_us limit :most))
returning tenant, message_id, endpoint_id, number, line;

-- name: unwell_endpoints
-- fleet: each process knows which endpoints of the installation are not well, by a walk over the partial index
select tenant, endpoint_id, phase, since_us, until_us, openings, slow_limit, credit, prober, gate_us, failing_since_us
from netra_endpoint_health
where (phase <> 'closed' or slow_limit > 0 or gate_us > 0 or failing_since_us is not null) and (tenant, endpoint_id) > (:after_tenant, :after_endpoint)
order by tenant, endpoint_id limit :limit;

-- name: health_of
-- fleet: a process reads again what it has changed; each row carries its tenant
select h.tenant, h.endpoint_id, h.phase, h.since_us, h.until_us, h.openings, h.slow_limit, h.credit, h.prober, h.gate_us,
  h.failing_since_us
from rows(:rows, tenant text, endpoint_id uuid) as r
join netra_endpoint_health h on h.tenant = r.tenant and h.endpoint_id = r.endpoint_id;

-- name: turns_of
select turns from netra_endpoint_health where tenant = :tenant and endpoint_id = :endpoint_id;

-- name: reset_health
update netra_endpoint_health
set phase = 'closed', since_us = 0, until_us = 0, openings = 0, slow_limit = 0, credit = 0, prober = null, gate_us = 0,
    failing_since_us = null, failed_us = null, failing_us = null, failures = null, warned = null,
    turns = case when phase = 'closed' then turns else substr('c' || cast(cast(:now_us as bigint) as text) || ',' || coalesce(turns, ''), 1, 2000) end
where tenant = :tenant and endpoint_id = :endpoint_id and (phase <> 'closed' or slow_limit > 0 or gate_us > 0 or failing_since_us is not null);

-- name: count_unwell
-- fleet: the gauges of the whole installation; one pass over the partial index of what is not well
select phase, case when slow_limit > 0 then 1 else 0 end, case when gate_us > :now_us then 1 else 0 end,
  case when failing_since_us is not null then 1 else 0 end, count(*)
from netra_endpoint_health
where (phase <> 'closed' or slow_limit > 0 or gate_us > 0 or failing_since_us is not null)
group by 1, 2, 3, 4;

-- name: count_failures
-- fleet: coalesced acknowledgement; each row carries its tenant
-- How long it has failed is the sum of the times between failures, none of them counted for more than the longest gap.
update netra_endpoint_health
set failing_us = case
      when netra_endpoint_health.failing_since_us is null or r.at_us <= netra_endpoint_health.failed_us
        then coalesce(netra_endpoint_health.failing_us, 0)
      when r.at_us - netra_endpoint_health.failed_us > :gap_us then netra_endpoint_health.failing_us + :gap_us
      else netra_endpoint_health.failing_us + r.at_us - netra_endpoint_health.failed_us end,
    failing_since_us = coalesce(netra_endpoint_health.failing_since_us, r.at_us), failed_us = r.at_us,
    failures = coalesce(netra_endpoint_health.failures, 0) + r.count, warned = coalesce(netra_endpoint_health.warned, 0)
from rows(:rows, tenant text, endpoint_id uuid, count int, at_us int) as r
where netra_endpoint_health.tenant = r.tenant and netra_endpoint_health.endpoint_id = r.endpoint_id
returning netra_endpoint_health.tenant, netra_endpoint_health.endpoint_id, netra_endpoint_health.failing_since_us,
  netra_endpoint_health.failing_us, netra_endpoint_health.failures, netra_endpoint_health.warned;

-- name: forget_failures
-- fleet: coalesced acknowledgement; each row carries its tenant
-- The warnings stay, for the caller to see whether somebody was told; then `mark_warned` takes them back.
update netra_endpoint_health set failing_since_us = null, failed_us = null, failing_us = null, failures = null
where failing_since_us is not null and (tenant, endpoint_id) in
  (select r.tenant, r.endpoint_id from rows(:rows, tenant text, endpoint_id uuid) as r)
returning tenant, endpoint_id, warned;

-- name: mark_warned
-- fleet: coalesced acknowledgement; each row carries its tenant
update netra_endpoint_health set warned = r.warned
from rows(:rows, tenant text, endpoint_id uuid, warned int) as r
where netra_endpoint_health.tenant = r.tenant and netra_endpoint_health.endpoint_id = r.endpoint_id;

-- name: insert_attempts
-- fleet: coalesced acknowledgement; each row carries its tenant
insert into netra_attempt
  (tenant, message_id, id, endpoint_id, number, manual, started_us, duration_us, outcome, status, error_kind, error,
   response, url, late, trace_id, span_id)
select r.tenant, r.message_id, r.id, r.endpoint_id, r.number, r.manual, r.started_us, r.duration_us, r.outcome, r.status,
  r.error_kind, r.error, r.response, r.url, r.late, r.trace_id, r.span_id
from rows(:rows, tenant text, message_id uuid, id uuid, endpoint_id uuid, number int, manual int, started_us int,
  duration_us int, outcome text, status int, error_kind text, error text, response text, url text, late int,
  trace_id text, span_id text) as r
where true
on conflict (tenant, message_id, id) do nothing;

-- name: next_owner
-- fleet: the sweep looks at every owner of leased deliveries, one index seek an owner
select owner from netra_delivery where state = 'leased' and owner > :after order by owner limit 1;

-- name: release_dead
-- fleet: the sweep makes the deliveries of a dead node due again
update netra_delivery set state = 'due', owner = null
where state = 'leased' and (tenant, message_id, endpoint_id) in (
  select d.tenant, d.message_id, d.endpoint_id from netra_delivery d
  where d.state = 'leased' and d.owner = :owner and not exists (select 1 from netra_node n where n.id = :owner)
  limit :limit);

-- name: owned_by
-- fleet: a node compares what it owns in the table with what it holds in memory
select tenant, message_id, endpoint_id from netra_delivery where state = 'leased' and owner = :node;

-- name: release
-- fleet: a node gives back deliveries of several tenants; each row carries its tenant and is fenced by the owner
update netra_delivery set state = 'due', owner = null
where state = 'leased' and owner = :node and (tenant, message_id, endpoint_id) in
  (select r.tenant, r.message_id, r.endpoint_id from rows(:rows, tenant text, message_id uuid, endpoint_id uuid) as r);

-- Retention; see retention.py.

-- name: next_tenant_with_messages
-- fleet: retention walks over the tenants, one index seek a tenant
select tenant from netra_message where (tenant, created_us) > (:after_tenant, :ever_us) order by tenant limit 1;

-- name: next_tenant_with_lines
-- fleet: retention walks over the tenants, one index seek a tenant
select tenant from netra_line where (tenant, endpoint_id) > (:after_tenant, :last_endpoint) order by tenant limit 1;

-- name: finished_messages
select m.id from netra_message m
where m.tenant = :tenant and m.created_us < :before_us and not exists (
  select 1 from netra_delivery d
  where d.tenant = m.tenant and d.message_id = m.id and (d.state = 'due' or d.state = 'leased'))
order by m.created_us, m.id limit :limit;

-- name: hold_deliveries
select message_id, state from netra_delivery
where tenant = :tenant and message_id in (select r.id from rows(:rows, id uuid) as r);

-- name: delete_deliveries
delete from netra_delivery
where tenant = :tenant and state <> 'due' and state <> 'leased'
  and message_id in (select r.id from rows(:rows, id uuid) as r);

-- name: delete_attempts
delete from netra_attempt
where tenant = :tenant and message_id in (select r.id from rows(:rows, id uuid) as r)
  and not exists (
    select 1 from netra_delivery d where d.tenant = netra_attempt.tenant and d.message_id = netra_attempt.message_id);

-- name: delete_messages
delete from netra_message
where tenant = :tenant and id in (select r.id from rows(:rows, id uuid) as r)
  and not exists (select 1 from netra_delivery d where d.tenant = netra_message.tenant and d.message_id = netra_message.id);

-- name: idle_lines
select endpoint_id, line from netra_line
where tenant = :tenant and used_us < :before_us and (endpoint_id, line) > (:after_endpoint, :after_line)
order by endpoint_id, line limit :limit;

-- name: delete_lines
delete from netra_line
where tenant = :tenant and used_us < :before_us
  and (endpoint_id, line) in (select r.endpoint_id, r.line from rows(:rows, endpoint_id uuid, line text) as r)
  and ( -- as in `heads_of_lines`
    select d.state from netra_delivery d
    where d.tenant = netra_line.tenant and d.endpoint_id = netra_line.endpoint_id and d.line = netra_line.line
      and (d.state = 'due' or d.state = 'leased') order by d.place limit 1) is null;

-- name: resend
update netra_delivery
set state = 'due', number = 0, due_us = :now_us, deadline_us = :deadline_us, manual = 1, reason = 'resent', audit_id = :audit_id,
    line = null, place = null
where tenant = :tenant and message_id = :message_id and endpoint_id = :endpoint_id
  and state in ('delivered', 'skipped', 'dead', 'cancelled', 'due');

-- name: line_of
select line from netra_delivery where tenant = :tenant and message_id = :message_id and endpoint_id = :endpoint_id;

-- name: insert_resent
insert into netra_delivery
  (tenant, message_id, endpoint_id, state, number, due_us, deadline_us, manual, owner, reason, audit_id)
values (:tenant, :message_id, :endpoint_id, 'cancelled', 0, :now_us, :deadline_us, 1, null, 'resent', null)
on conflict (tenant, message_id, endpoint_id) do nothing;

-- name: get_delivery
select message_id, endpoint_id, state, number, due_us, last_status, reason from netra_delivery
where tenant = :tenant and message_id = :message_id and endpoint_id = :endpoint_id;

-- name: deliveries_of_message
select message_id, endpoint_id, state, number, due_us, last_status, reason from netra_delivery
where tenant = :tenant and message_id = :message_id order by endpoint_id;

-- name: list_dead
select d.message_id, d.endpoint_id, d.state, d.number, d.due_us, d.last_status, d.reason
from netra_delivery d join netra_message m on m.tenant = d.tenant and m.id = d.message_id
where d.tenant = :tenant and d.state = 'dead' and (d.endpoint_id, d.message_id) > (:after_endpoint, :after_message)
  and (:any_endpoint = 1 or d.endpoint_id = :endpoint_id) and m.created_us > :after_us and m.created_us < :before_us
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
order by d.endpoint_id, d.message_id limit :limit;

-- name: attempts_of_message
select tenant, message_id, id, endpoint_id, number, manual, started_us, duration_us, outcome, status, error_kind, error,
  response, url, late, trace_id, span_id
from netra_attempt
where tenant = :tenant and message_id = :message_id and id < :before
order by id desc limit :limit;

-- name: attempts_of_message_back
select tenant, message_id, id, endpoint_id, number, manual, started_us, duration_us, outcome, status, error_kind, error,
  response, url, late, trace_id, span_id
from netra_attempt
where tenant = :tenant and message_id = :message_id and id > :before
order by id limit :limit;

-- name: attempts_of_endpoint
select tenant, message_id, id, endpoint_id, number, manual, started_us, duration_us, outcome, status, error_kind, error,
  response, url, late, trace_id, span_id
from netra_attempt
where tenant = :tenant and endpoint_id = :endpoint_id and id < :before
order by id desc limit :limit;

-- name: attempts_of_endpoint_back
select tenant, message_id, id, endpoint_id, number, manual, started_us, duration_us, outcome, status, error_kind, error,
  response, url, late, trace_id, span_id
from netra_attempt
where tenant = :tenant and endpoint_id = :endpoint_id and id > :before
order by id limit :limit;

-- name: get_attempt
select tenant, message_id, id, endpoint_id, number, manual, started_us, duration_us, outcome, status, error_kind, error,
  response, url, late, trace_id, span_id
from netra_attempt where tenant = :tenant and message_id = :message_id and id = :id;

-- Lists have the length of each payload in its place, and then ask for as many as come into one page.

-- name: payloads
select id, payload from netra_message where tenant = :tenant and id in (select r.id from rows(:rows, id uuid) as r);

-- name: messages_without_payloads
select m.tenant, m.id, m.event_type, m.event_id, length(m.payload), m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from netra_message m where m.tenant = :tenant and m.id in (select r.id from rows(:rows, id uuid) as r);

-- What lists filter by. A filter that is not asked for is switched off by its first half; labels are sought as they
-- are spelled in the stored JSON, quotes included.

-- name: find_messages
select m.tenant, m.id, m.event_type, m.event_id, length(m.payload), m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from netra_message m
where m.tenant = :tenant and (m.created_us, m.id) < (:created_us, :id)
  and m.created_us > :after_us and m.created_us < :before_us
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by m.created_us desc, m.id desc limit :limit;

-- name: find_messages_back
select m.tenant, m.id, m.event_type, m.event_id, length(m.payload), m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from netra_message m
where m.tenant = :tenant and (m.created_us, m.id) > (:created_us, :id)
  and m.created_us > :after_us and m.created_us < :before_us
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by m.created_us, m.id limit :limit;

-- name: find_attempts_of_message
select a.tenant, a.message_id, a.id, a.endpoint_id, a.number, a.manual, a.started_us, a.duration_us, a.outcome, a.status,
  a.error_kind, a.error, a.response, a.url, a.late, a.trace_id, a.span_id
from netra_attempt a join netra_message m on m.tenant = a.tenant and m.id = a.message_id
where a.tenant = :tenant and a.message_id = :message_id and (:any_endpoint = 1 or a.endpoint_id = :endpoint_id)
  and a.id < :place and a.started_us > :after_us and a.started_us < :before_us
  and (:any_outcome = 1 or a.outcome in (select o.outcome from rows(:outcomes, outcome text) as o))
  and a.status >= :least_status and a.status < :above_status
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by a.id desc limit :limit;

-- name: find_attempts_of_message_back
select a.tenant, a.message_id, a.id, a.endpoint_id, a.number, a.manual, a.started_us, a.duration_us, a.outcome, a.status,
  a.error_kind, a.error, a.response, a.url, a.late, a.trace_id, a.span_id
from netra_attempt a join netra_message m on m.tenant = a.tenant and m.id = a.message_id
where a.tenant = :tenant and a.message_id = :message_id and (:any_endpoint = 1 or a.endpoint_id = :endpoint_id)
  and a.id > :place and a.started_us > :after_us and a.started_us < :before_us
  and (:any_outcome = 1 or a.outcome in (select o.outcome from rows(:outcomes, outcome text) as o))
  and a.status >= :least_status and a.status < :above_status
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by a.id limit :limit;

-- name: find_attempts_of_endpoint
select a.tenant, a.message_id, a.id, a.endpoint_id, a.number, a.manual, a.started_us, a.duration_us, a.outcome, a.status,
  a.error_kind, a.error, a.response, a.url, a.late, a.trace_id, a.span_id
from netra_attempt a join netra_message m on m.tenant = a.tenant and m.id = a.message_id
where a.tenant = :tenant and a.endpoint_id = :endpoint_id
  and a.id < :place and a.started_us > :after_us and a.started_us < :before_us
  and (:any_outcome = 1 or a.outcome in (select o.outcome from rows(:outcomes, outcome text) as o))
  and a.status >= :least_status and a.status < :above_status
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by a.id desc limit :limit;

-- name: find_attempts_of_endpoint_back
select a.tenant, a.message_id, a.id, a.endpoint_id, a.number, a.manual, a.started_us, a.duration_us, a.outcome, a.status,
  a.error_kind, a.error, a.response, a.url, a.late, a.trace_id, a.span_id
from netra_attempt a join netra_message m on m.tenant = a.tenant and m.id = a.message_id
where a.tenant = :tenant and a.endpoint_id = :endpoint_id
  and a.id > :place and a.started_us > :after_us and a.started_us < :before_us
  and (:any_outcome = 1 or a.outcome in (select o.outcome from rows(:outcomes, outcome text) as o))
  and a.status >= :least_status and a.status < :above_status
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by a.id limit :limit;

-- name: destinations_of_message
select d.message_id, d.endpoint_id, d.state, d.number, d.due_us, d.last_status, d.reason,
  e.tenant, e.id, e.uid, e.url, e.description, e.event_types, e.channels, e.disabled, e.rate_limit, e.metadata, e.headers,
  e.ordering, e.filter, e.created_us, e.updated_us, e.schedule, e.auth
from netra_delivery d join netra_endpoint e on e.tenant = d.tenant and e.id = d.endpoint_id
where d.tenant = :tenant and d.message_id = :message_id and d.endpoint_id > :after
order by d.endpoint_id limit :limit;

-- name: destinations_of_message_back
select d.message_id, d.endpoint_id, d.state, d.number, d.due_us, d.last_status, d.reason,
  e.tenant, e.id, e.uid, e.url, e.description, e.event_types, e.channels, e.disabled, e.rate_limit, e.metadata, e.headers,
  e.ordering, e.filter, e.created_us, e.updated_us, e.schedule, e.auth
from netra_delivery d join netra_endpoint e on e.tenant = d.tenant and e.id = d.endpoint_id
where d.tenant = :tenant and d.message_id = :message_id and d.endpoint_id < :after
order by d.endpoint_id desc limit :limit;

-- name: messages_of_endpoint
select d.message_id, d.endpoint_id, d.state, d.number, d.due_us, d.last_status, d.reason,
  m.tenant, m.id, m.event_type, m.event_id, length(m.payload), m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from netra_delivery d join netra_message m on m.tenant = d.tenant and m.id = d.message_id
where d.tenant = :tenant and d.endpoint_id = :endpoint_id and d.message_id < :place
  and d.message_id >= :least and d.message_id < :above
  and m.created_us > :after_us and m.created_us < :before_us
  and (:any_state = 1 or d.state in (select s.state from rows(:states, state text) as s))
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by d.message_id desc limit :limit;

-- name: messages_of_endpoint_back
select d.message_id, d.endpoint_id, d.state, d.number, d.due_us, d.last_status, d.reason,
  m.tenant, m.id, m.event_type, m.event_id, length(m.payload), m.channels, m.tags, m.ordering_key, m.deliver_at_us, m.created_us,
  m.trace_id, m.span_id, m.schedule
from netra_delivery d join netra_message m on m.tenant = d.tenant and m.id = d.message_id
where d.tenant = :tenant and d.endpoint_id = :endpoint_id and d.message_id > :place
  and d.message_id >= :least and d.message_id < :above
  and m.created_us > :after_us and m.created_us < :before_us
  and (:any_state = 1 or d.state in (select s.state from rows(:states, state text) as s))
  and (:any_type = 1 or m.event_type in (select r.event_type from rows(:types, event_type text) as r))
  and (:channel = '' or replace(coalesce(m.channels, ''), :channel, '') <> coalesce(m.channels, ''))
  and (:tag = '' or replace(coalesce(m.tags, ''), :tag, '') <> coalesce(m.tags, ''))
order by d.message_id limit :limit;

-- name: states_of_endpoint
select state, count(*) from netra_delivery
where tenant = :tenant and endpoint_id = :endpoint_id and message_id >= :least and message_id < :above
group by state;

-- name: outcomes_of_endpoint
select outcome, count(*) from netra_attempt
where tenant = :tenant and endpoint_id = :endpoint_id and id >= :least and id < :above
group by outcome;

-- name: queued_deliveries
-- As far as the limit: whether a tenant has so many waiting, not how many more.
select count(*), min(q.due_us) from (select due_us from netra_delivery where tenant = :tenant and state = 'due' limit :limit) as q;

-- name: queue_due
-- fleet: the gauges of the whole installation; one pass over the partial index of what is due
select count(*), min(due_us) from netra_delivery where state = 'due';

-- name: queue_leased
-- fleet: the gauges of the whole installation; one pass over the partial index of what is leased
select count(*) from netra_delivery where state = 'leased';

-- Tasks: operators' verbs over many messages; see tasks.py.

-- name: insert_task
insert into netra_webhook_task
  (tenant, id, kind, state, parameters, after_us, after_id, done, changed, owner, reason, created_us, updated_us, finished_us,
   trace_id, span_id, audit_id)
values (:tenant, :id, :kind, 'running', :parameters, :after_us, :after_id, 0, 0, null, null, :now_us, :now_us, null,
   :trace_id, :span_id, :audit_id);

-- name: get_task
select tenant, id, kind, state, parameters, after_us, after_id, done, changed, owner, reason, created_us, updated_us, finished_us,
  trace_id, span_id
from netra_webhook_task where tenant = :tenant and id = :id;

-- name: list_tasks
select tenant, id, kind, state, parameters, after_us, after_id, done, changed, owner, reason, created_us, updated_us, finished_us,
  trace_id, span_id
from netra_webhook_task where tenant = :tenant and (created_us, id) < (:created_us, :id)
order by created_us desc, id desc limit :limit;

-- name: list_all_tasks
-- fleet: the operator's list of background tasks; each row names its tenant
select tenant, id, kind, state, parameters, after_us, after_id, done, changed, owner, reason, created_us, updated_us, finished_us,
  trace_id, span_id
from netra_webhook_task
where (created_us, id) < (:created_us, :id) and kind in (select k.kind from rows(:kinds, kind text) as k)
  and state in (select s.state from rows(:states, state text) as s)
order by created_us desc, id desc limit :limit;

-- name: list_all_tasks_back
-- fleet: the operator's list of background tasks; each row names its tenant
select tenant, id, kind, state, parameters, after_us, after_id, done, changed, owner, reason, created_us, updated_us, finished_us,
  trace_id, span_id
from netra_webhook_task
where (created_us, id) > (:created_us, :id) and kind in (select k.kind from rows(:kinds, kind text) as k)
  and state in (select s.state from rows(:states, state text) as s)
order by created_us, id limit :limit;

-- name: tenant_of_task
-- fleet: an operator asks for a background task by its id alone, from which its tenant is to be found
select tenant from netra_webhook_task where id = :id;

-- name: claimable_tasks
-- fleet: a worker looks which tasks of all tenants nobody living works on but itself; each row names its tenant
-- One of each tenant, the oldest, then the second of each: whoever asks for hundreds keeps nobody else's waiting.
select q.tenant, q.id from (
  select t.tenant, t.id, t.created_us, row_number() over (partition by t.tenant order by t.created_us, t.id) as turn
  from netra_webhook_task t
  where t.state = 'running' and (t.owner is null or t.owner = :node or not exists (select 1 from netra_node n where n.id = t.owner))) as q
order by q.turn, q.created_us, q.id limit :limit;

-- name: claim_task
update netra_webhook_task set owner = :node
where tenant = :tenant and id = :id and state = 'running'
  and (owner is null or owner = :node or not exists (select 1 from netra_node n where n.id = netra_webhook_task.owner))
returning tenant, id, kind, state, parameters, after_us, after_id, done, changed, owner, reason, created_us, updated_us, finished_us,
  trace_id, span_id;

-- name: hold_task
select state, after_us, after_id, reason from netra_webhook_task
where tenant = :tenant and id = :id and state = 'running' and owner = :node;

-- name: move_task
update netra_webhook_task
set state = :state, after_us = :after_us, after_id = :after_id, done = done + :done, changed = changed + :changed,
  owner = case when :state = 'running' then owner else null end, reason = :reason, updated_us = :now_us, finished_us = :finished_us
where tenant = :tenant and id = :id and state = 'running' and owner = :node;

-- name: release_task
update netra_webhook_task set owner = null where tenant = :tenant and id = :id and state = 'running' and owner = :node;

-- name: hold_task_to_decide
select state from netra_webhook_task where tenant = :tenant and id = :id;

-- name: decide_task
update netra_webhook_task
set state = :state, owner = null, reason = :reason, updated_us = :now_us, finished_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: writers_in_progress
-- The number that the next transaction gets, and that of the oldest one under way. Here one writes at a time: who began before has ended.
select 0, 0;

-- name: task_page
select id, created_us, event_type, channels, tags, ordering_key, deliver_at_us, case when payload = '' then 1 else 0 end
from netra_message
where tenant = :tenant and (created_us, id) > (:after_us, :after_id) and created_us < :until_us
order by created_us, id limit :limit;

-- name: standing_deliveries
select message_id, endpoint_id, state, coalesce(last_status, 0) from netra_delivery
where tenant = :tenant and message_id in (select r.id from rows(:rows, id uuid) as r)
  and (:any_endpoint = 1 or endpoint_id = :endpoint_id);

-- name: hold_chosen
-- A cross join is done in its order on SQLite, which would else read all of the tenant's deliveries for each page.
select d.message_id, d.endpoint_id
from rows(:rows, message_id uuid, endpoint_id uuid) as r cross join netra_delivery d
where d.tenant = :tenant and d.message_id = r.message_id and d.endpoint_id = r.endpoint_id
  and d.state in (select s.state from rows(:states, state text) as s);

-- name: redrive
-- The tenant stands in the rows too, so that SQLite begins with them.
update netra_delivery
set state = 'due', number = 0, due_us = r.due_us, deadline_us = r.deadline_us, manual = 0, reason = :reason, line = r.line, place = r.place
from rows(:rows, tenant text, message_id uuid, endpoint_id uuid, due_us int, deadline_us int, line text?, place int?) as r
where r.tenant = :tenant and netra_delivery.tenant = r.tenant and netra_delivery.message_id = r.message_id and netra_delivery.endpoint_id = r.endpoint_id
  and netra_delivery.state in ('delivered', 'skipped', 'dead', 'cancelled');

-- name: insert_missing
insert into netra_delivery
  (tenant, message_id, endpoint_id, state, number, due_us, deadline_us, manual, owner, reason, line, place)
select :tenant, r.message_id, r.endpoint_id, 'due', 0, r.due_us, r.deadline_us, 0, null, :reason, r.line, r.place
from rows(:rows, message_id uuid, endpoint_id uuid, due_us int, deadline_us int, line text?, place int?) as r
where exists (select 1 from netra_message m where m.tenant = :tenant and m.id = r.message_id)
on conflict (tenant, message_id, endpoint_id) do nothing;

-- name: cancel_chosen
update netra_delivery set state = 'cancelled', reason = :reason
where tenant = :tenant and state = 'due'
  and (message_id, endpoint_id) in (select r.message_id, r.endpoint_id from rows(:rows, message_id uuid, endpoint_id uuid) as r)
returning message_id, endpoint_id, number, line;

-- Cancelling and erasing; see operators.py.

-- name: cancel_delivery
update netra_delivery set state = 'cancelled', reason = :reason, audit_id = :audit_id
where tenant = :tenant and message_id = :message_id and endpoint_id = :endpoint_id and state = 'due'
returning number, line;

-- name: expunge_message
update netra_message set payload = '', payload_until_us = null where tenant = :tenant and id = :id;

-- name: expunge_attempt
update netra_attempt set response = '' where tenant = :tenant and message_id = :message_id and id = :id;

-- name: outlived_payloads
-- fleet: retention finds whose payloads have outlived their time, without reading any tenant's messages
select payload_until_us, tenant, id from netra_message
where payload_until_us is not null and payload_until_us < :now_us and (payload_until_us, tenant, id) > (:after_us, :after_tenant, :after_id)
order by payload_until_us, tenant, id limit :limit;

-- name: erase_payloads
update netra_message set payload = '', payload_until_us = null
where tenant = :tenant and payload_until_us is not null and payload_until_us < :now_us and id in (select r.id from rows(:rows, id uuid) as r)
returning id;

-- name: cancel_erased
update netra_delivery set state = 'cancelled', reason = :reason
where tenant = :tenant and state = 'due' and message_id in (select r.id from rows(:rows, id uuid) as r)
returning message_id, endpoint_id, number, line;
