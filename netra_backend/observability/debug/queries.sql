-- Statements of debug sessions. See storage/statements.py for the notation.

-- name: live_of_tenant
select count(*) from netra_debug_session where tenant = :tenant and state = 'active' and expires_us > :now_us;

-- name: insert_session
insert into netra_debug_session
  (tenant, id, state, reason, actor, predicates, captures, logpoints, granted_us, created_us, expires_us, ended_us, ended_by,
   last_seq, dropped, audit_id)
values (:tenant, :id, 'active', :reason, :actor, :predicates, :captures, :logpoints, :granted_us, :now_us, :expires_us, null, null,
   0, 0, :audit_id);

-- name: hold_session
update netra_debug_session set last_seq = last_seq where tenant = :tenant and id = :id;

-- name: get_session
select tenant, id, state, reason, actor, predicates, captures, logpoints, granted_us, created_us, expires_us, ended_us, ended_by,
  last_seq, dropped
from netra_debug_session where tenant = :tenant and id = :id;

-- name: list_sessions
select tenant, id, state, reason, actor, predicates, captures, logpoints, granted_us, created_us, expires_us, ended_us, ended_by,
  last_seq, dropped
from netra_debug_session
where tenant = :tenant and (created_us, id) < (:created_us, :id) and (:ended = 1 or state = 'active')
order by created_us desc, id desc limit :limit;

-- name: extend_session
update netra_debug_session set granted_us = :granted_us, expires_us = :expires_us, audit_id = :audit_id
where tenant = :tenant and id = :id and state = 'active';

-- name: end_session
update netra_debug_session set state = 'ended', ended_us = :ended_us, ended_by = :ended_by, audit_id = :audit_id
where tenant = :tenant and id = :id and state = 'active';

-- name: live_sessions
-- fleet: every process knows which sessions of all tenants are live; each row names its tenant
select tenant, id, state, reason, actor, predicates, captures, logpoints, granted_us, created_us, expires_us, ended_us, ended_by,
  last_seq, dropped
from netra_debug_session where state = 'active'
order by tenant, id limit :limit;

-- name: take_numbers
update netra_debug_session set last_seq = last_seq + :count, dropped = dropped + :dropped
where tenant = :tenant and id = :id
returning last_seq, expires_us, ended_us;

-- name: insert_records
insert into netra_debug_record (tenant, session_id, seq, kind, at_us, trace_id, data)
select :tenant, :session_id, r.seq, r.kind, r.at_us, r.trace_id, r.data
from rows(:rows, seq int, kind text, at_us int, trace_id text, data text) as r
where true;

-- name: trim_records
delete from netra_debug_record where tenant = :tenant and session_id = :session_id and seq <= :seq;

-- name: read_records
select seq, kind, at_us, trace_id, data from netra_debug_record
where tenant = :tenant and session_id = :session_id and seq > :after
order by seq limit :limit;

-- name: delete_records
delete from netra_debug_record where tenant = :tenant and session_id = :session_id;

-- name: delete_marks
delete from netra_debug_mark where tenant = :tenant and session_id = :session_id;

-- name: ids_of_sessions
select id from netra_debug_session where tenant = :tenant order by id;

-- name: outlived_sessions
-- fleet: retention walks over all tenants; each row names its own
select tenant, id, ended_us from netra_debug_session where ended_us > :after_us and ended_us <= :before_us
order by ended_us, tenant, id limit :limit;
