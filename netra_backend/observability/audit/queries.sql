-- Statements of the audit trail's logs. See storage/statements.py for the notation.
--
-- A cross join is done in its order on SQLite, which would else read all of the tenant's rows for each list.

-- name: entries_by_id
-- fleet: the sequencer puts every tenant's entries into its log; each row carries its tenant
select e.tenant, e.id, e.at_us, e.actor, e.action, e.target_table, e.target, e.outcome, e.trace_id, e.span_id, e.before, e.after, e.personal
from rows(:rows, tenant text, id uuid) as r
join netra_audit_entry e on e.tenant = r.tenant and e.id = r.id;

-- name: entries_of
select e.id, e.at_us, e.actor, e.action, e.target_table, e.target, e.outcome, e.trace_id, e.span_id, e.before, e.after, e.personal
from rows(:rows, id uuid) as r cross join netra_audit_entry e
where e.tenant = :tenant and e.id = r.id;

-- name: search_entries
select e.id, e.at_us, e.actor, e.action, e.target_table, e.target, e.outcome, e.trace_id, e.span_id, e.before, e.after, e.personal
from netra_audit_entry e
where e.tenant = :tenant and e.id > :after and e.at_us >= :since_us and e.at_us < :until_us
  and (cast(:actor as text) is null or e.actor = :actor)
  and (cast(:action as text) is null or e.action = :action)
  and (cast(:target as text) is null or e.target = :target)
  and (cast(:trace_id as text) is null or e.trace_id = :trace_id)
order by e.id limit :limit;

-- name: get_log
select size, root, epoch, origin, signed_size, checkpoint, minimum, public_key, sealed, updated_us from netra_audit_log
where tenant = :tenant;

-- name: list_logs
-- fleet: the operator's look at every log
select tenant, size, root, epoch, origin, signed_size, checkpoint, minimum, public_key, sealed, updated_us from netra_audit_log
where (tenant, size) > (:after_tenant, :any_size)
order by tenant limit :limit;

-- name: insert_log
insert into netra_audit_log
  (tenant, size, root, epoch, origin, signed_size, checkpoint, minimum, public_key, sealed, created_us, updated_us)
values (:tenant, 0, :root, 0, '', 0, '', 0, :public_key, :sealed, :now_us, :now_us);

-- name: grow_log
update netra_audit_log set size = :size, root = :root, updated_us = :now_us where tenant = :tenant and size = :old_size;

-- name: sign_log
update netra_audit_log
set epoch = :epoch, origin = :origin, signed_size = :signed_size, checkpoint = :checkpoint, updated_us = :now_us
where tenant = :tenant and epoch = :old_epoch and signed_size = :old_signed_size;

-- name: unsigned_logs
-- fleet: the sequencer signs every tenant's log
select tenant from netra_audit_log
where signed_size < size and (tenant, size) > (:after_tenant, :any_size)
order by tenant limit :limit;

-- name: get_tiles
select t.level, t.number, t.hashes
from rows(:rows, level int, number int) as r cross join netra_audit_tile t
where t.tenant = :tenant and t.level = r.level and t.number = r.number;

-- name: put_tile
insert into netra_audit_tile (tenant, level, number, hashes) values (:tenant, :level, :number, :hashes)
on conflict (tenant, level, number) do update set hashes = excluded.hashes;

-- name: get_pages
select p.number, p.ids
from rows(:rows, number int) as r cross join netra_audit_page p
where p.tenant = :tenant and p.number = r.number;

-- name: pages_around
select number, ids from netra_audit_page where tenant = :tenant and highest >= :lowest and lowest <= :highest;

-- name: pages_holding
select distinct p.number, p.ids
from rows(:rows, id uuid) as r cross join netra_audit_page p
where p.tenant = :tenant and p.highest >= r.id and p.lowest <= r.id;

-- name: put_page
insert into netra_audit_page (tenant, number, ids, lowest, highest) values (:tenant, :number, :ids, :lowest, :highest)
on conflict (tenant, number) do update set ids = excluded.ids, lowest = excluded.lowest, highest = excluded.highest;

-- name: insert_personal
insert into netra_audit_personal (tenant, entry_id, salt, data) values (:tenant, :entry_id, :salt, :data);

-- name: get_personal
select salt, data from netra_audit_personal where tenant = :tenant and entry_id = :entry_id;

-- name: delete_personal
delete from netra_audit_personal where tenant = :tenant and entry_id = :entry_id;

-- name: raise_minimum
update netra_audit_log set minimum = :minimum where tenant = :tenant and minimum < :minimum and signed_size >= :minimum;

-- name: delete_use
delete from netra_audit_use where tenant = :tenant and audit_id = :id;

-- name: delete_entry
delete from netra_audit_entry where tenant = :tenant and id = :id;

-- name: waiting_entries
-- fleet: whoever exports waits until every entry of before is in its log
select 1 from netra_outbox where stream = 'audit' and id <= :last limit 1;

-- name: last_waiting
-- fleet: see waiting_entries
select max(id) from netra_outbox where stream = 'audit';
