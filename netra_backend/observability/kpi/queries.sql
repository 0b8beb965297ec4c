-- Statements of KPIs. See storage/statements.py for the notation.

-- name: lock_definitions
update netra_lease set fence = fence + 1 where name = :name;

-- name: live_kpis
select id, name, definition from netra_kpi where tenant = :tenant and deleted_us is null order by name;

-- name: versions_of_kpi
select id from netra_kpi where tenant = :tenant and name = :name order by created_us;

-- name: insert_kpi
insert into netra_kpi (tenant, id, name, definition, created_us, updated_us, audit_id)
values (:tenant, :id, :name, :definition, :now_us, :now_us, :audit_id);

-- name: update_kpi
update netra_kpi set definition = :definition, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id and deleted_us is null;

-- name: bury_kpi
update netra_kpi set deleted_us = :now_us, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id and deleted_us is null;

-- name: objects_of
-- fleet: one process follows the log for all tenants; each row carries its tenant
select o.tenant, o.kpi, o.key, o.total_us, o.total_ref, o.value, o.message, o.trace_id, o.good_us, o.good_same_us, o.dead_us, o.dead_same_us,
  o.result, o.next_us, o.turned_us, o.judged_us, o.keep_us, o.cause
from rows(:rows, tenant text, kpi uuid, key text) as r
join netra_kpi_object o on o.tenant = r.tenant and o.kpi = r.kpi and o.key = r.key;

-- name: due_objects
-- fleet: deadlines pass for all tenants; each row names its own
select tenant, kpi, key, total_us, total_ref, value, message, trace_id, good_us, good_same_us, dead_us, dead_same_us,
  result, next_us, turned_us, judged_us, keep_us, cause
from netra_kpi_object where next_us <= :now_us order by next_us limit :limit;

-- name: turned_objects
-- fleet: the clock stepped back for all tenants; each row names its own
select tenant, kpi, key, total_us, total_ref, value, message, trace_id, good_us, good_same_us, dead_us, dead_same_us,
  result, next_us, turned_us, judged_us, keep_us, cause
from netra_kpi_object where turned_us > :now_us order by turned_us limit :limit;

-- name: has_due_objects
-- fleet: whether time has changed something, whoever's
select 1 from netra_kpi_object where next_us <= :now_us
union all
select 1 from netra_kpi_object where turned_us > :now_us
limit 1;

-- name: keys_of_traces
-- fleet: what goes wrong in a trace concerns the objects of that trace; each row carries its tenant
select o.tenant, o.trace_id, o.kpi, o.key
from rows(:rows, tenant text, trace_id text) as r
join netra_kpi_object o on o.tenant = r.tenant and o.trace_id = r.trace_id and o.trace_id <> '';

-- name: put_objects
-- fleet: one process follows the log for all tenants; each row carries its tenant
insert into netra_kpi_object
  (tenant, kpi, key, total_us, total_ref, value, message, trace_id, good_us, good_same_us, dead_us, dead_same_us,
   result, next_us, turned_us, judged_us, keep_us, cause)
select r.tenant, r.kpi, r.key, r.total_us, r.total_ref, r.value, r.message, r.trace_id, r.good_us, r.good_same_us, r.dead_us, r.dead_same_us,
  r.result, r.next_us, r.turned_us, r.judged_us, r.keep_us, r.cause
from rows(:rows, tenant text, kpi uuid, key text, total_us int?, total_ref text?, value int, message uuid?, trace_id text,
  good_us int?, good_same_us int?, dead_us int?, dead_same_us int?, result text, next_us int?, turned_us int?, judged_us int?,
  keep_us int?, cause text?) as r
where true
on conflict (tenant, kpi, key) do update
set total_us = excluded.total_us, total_ref = excluded.total_ref, value = excluded.value, message = excluded.message,
    trace_id = excluded.trace_id, good_us = excluded.good_us, good_same_us = excluded.good_same_us, dead_us = excluded.dead_us,
    dead_same_us = excluded.dead_same_us, result = excluded.result, next_us = excluded.next_us, turned_us = excluded.turned_us,
    judged_us = excluded.judged_us, keep_us = excluded.keep_us, cause = excluded.cause;

-- name: add_figures
-- fleet: one process follows the log for all tenants; each row carries its tenant
-- Both sides are below 2^62, and a sum that is not stays as it was: one that did not fit would stop the counting of all.
insert into netra_kpi_bucket
  (tenant, kpi, minute_us, total, good, late, lost, value, value_good, value_late, value_lost, met, missed)
select r.tenant, r.kpi, r.minute_us, r.total, r.good, r.late, r.lost, r.value, r.value_good, r.value_late, r.value_lost, r.met, r.missed
from rows(:rows, tenant text, kpi uuid, minute_us int, total int, good int, late int, lost int, value int, value_good int, value_late int,
  value_lost int, met int, missed int) as r
where true
on conflict (tenant, kpi, minute_us) do update
set total = netra_kpi_bucket.total + excluded.total, good = netra_kpi_bucket.good + excluded.good,
    late = netra_kpi_bucket.late + excluded.late, lost = netra_kpi_bucket.lost + excluded.lost,
    value = case when abs(netra_kpi_bucket.value + excluded.value) < 4611686018427387904 then netra_kpi_bucket.value + excluded.value else netra_kpi_bucket.value end,
    value_good = case when abs(netra_kpi_bucket.value_good + excluded.value_good) < 4611686018427387904 then netra_kpi_bucket.value_good + excluded.value_good else netra_kpi_bucket.value_good end,
    value_late = case when abs(netra_kpi_bucket.value_late + excluded.value_late) < 4611686018427387904 then netra_kpi_bucket.value_late + excluded.value_late else netra_kpi_bucket.value_late end,
    value_lost = case when abs(netra_kpi_bucket.value_lost + excluded.value_lost) < 4611686018427387904 then netra_kpi_bucket.value_lost + excluded.value_lost else netra_kpi_bucket.value_lost end,
    met = netra_kpi_bucket.met + excluded.met, missed = netra_kpi_bucket.missed + excluded.missed;

-- name: forget_objects
-- fleet: retention, in small batches
delete from netra_kpi_object where (tenant, kpi, key) in (
  select o.tenant, o.kpi, o.key from netra_kpi_object o where o.keep_us < :now_us order by o.keep_us limit :limit);

-- name: forget_figures
-- fleet: retention, in small batches
delete from netra_kpi_bucket where (tenant, kpi, minute_us) in (
  select b.tenant, b.kpi, b.minute_us from netra_kpi_bucket b where b.minute_us < :before_us order by b.minute_us, b.tenant limit :limit);

-- name: figures
-- whole units and their millionths apart, each of which has room in 64 bits for every minute that is kept
select coalesce(sum(total), 0), coalesce(sum(good), 0), coalesce(sum(late), 0), coalesce(sum(lost), 0),
  coalesce(sum(value / 1000000), 0), coalesce(sum(value_good / 1000000), 0),
  coalesce(sum(value_late / 1000000), 0), coalesce(sum(value_lost / 1000000), 0),
  coalesce(sum(value % 1000000), 0), coalesce(sum(value_good % 1000000), 0),
  coalesce(sum(value_late % 1000000), 0), coalesce(sum(value_lost % 1000000), 0)
from netra_kpi_bucket
where tenant = :tenant and kpi = :kpi and minute_us >= :since_us and minute_us < :until_us;

-- name: judged
select cast(coalesce(sum(met), 0) as bigint), cast(coalesce(sum(missed), 0) as bigint)
from netra_kpi_bucket where tenant = :tenant and kpi = :kpi and minute_us >= :since_us and minute_us <= :until_us;

-- name: causes
select coalesce(cause, ''), count(*), 1
from netra_kpi_object
where tenant = :tenant and kpi = :kpi and (result = 'late' or result = 'lost') and total_us >= :since_us and total_us < :until_us
group by 1 order by 2 desc, 1 limit :limit;

-- name: causes_of_all
-- fleet: the operator's figures are of the whole installation
select coalesce(cause, ''), count(*), count(distinct tenant)
from netra_kpi_object
where kpi = :kpi and (result = 'late' or result = 'lost') and total_us >= :since_us and total_us < :until_us
group by 1 order by 2 desc, 1 limit :limit;

-- name: missed
select tenant, key, trace_id, result, value, total_us, coalesce(cause, '') from netra_kpi_object
where tenant = :tenant and kpi = :kpi and (result = 'late' or result = 'lost') and total_us >= :since_us and total_us < :until_us
  and (:any_cause = 1 or coalesce(cause, '') = :cause)
order by total_us, key limit :limit;

-- name: missed_of_all
-- fleet: the operator's figures are of the whole installation; each row names its tenant
select tenant, key, trace_id, result, value, total_us, coalesce(cause, '') from netra_kpi_object
where kpi = :kpi and (result = 'late' or result = 'lost') and total_us >= :since_us and total_us < :until_us
  and (:any_cause = 1 or coalesce(cause, '') = :cause)
order by total_us, tenant, key limit :limit;

-- name: tenants_concerned
-- fleet: the operator's figures are of the whole installation
select count(distinct tenant) from netra_kpi_object
where kpi = :kpi and (result = 'late' or result = 'lost') and total_us >= :since_us and total_us < :until_us;

-- name: alerts
select rule, firing, since_us from netra_kpi_alert where tenant = :tenant and kpi = :kpi order by rule;

-- name: put_alert
insert into netra_kpi_alert (tenant, kpi, rule, firing, since_us) values (:tenant, :kpi, :rule, :firing, :now_us)
on conflict (tenant, kpi, rule) do update set firing = excluded.firing, since_us = excluded.since_us
where netra_kpi_alert.firing <> excluded.firing;
