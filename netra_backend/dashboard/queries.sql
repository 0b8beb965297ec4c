-- Statements of pages that no part has a list for. See storage/statements.py for the notation.

-- name: newest_audit_entries
select id, at_us, actor, action, target_table, target, outcome, trace_id, before, after
from netra_audit_entry
where tenant = :tenant and id < :before
  and (:action = '' or action = :action) and (:actor = '' or actor = :actor) and (:target = '' or target = :target)
order by id desc limit :limit;

-- name: newest_audit_entries_back
select id, at_us, actor, action, target_table, target, outcome, trace_id, before, after
from netra_audit_entry
where tenant = :tenant and id > :after
  and (:action = '' or action = :action) and (:actor = '' or actor = :actor) and (:target = '' or target = :target)
order by id limit :limit;
