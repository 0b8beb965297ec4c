-- Statements of the substrate's own tables. See statements.py for the notation.

-- name: insert_outbox
-- fleet: one row per group of writes, whose items name their tenants
insert into netra_outbox (stream, tenant, items, at_us)
select r.stream, r.tenant, r.items, r.at_us
from rows(:rows, stream text, tenant text, items text, at_us int) as r
where true;

-- name: take_outbox
-- fleet: the log's leader moves the rows of every tenant
-- The last column is the row's number, where the statement has put it into the log already.
delete from netra_outbox
where id in (select id from netra_outbox order by id limit :limit)
  and exists (select 1 from netra_lease l join netra_node n on n.id = l.owner where l.name = 'log' and l.owner = :node)
returning id, stream, tenant, items, at_us, null;

-- name: advance_stream
insert into netra_stream (stream, last_seq) values (:stream, :count)
on conflict (stream) do update set last_seq = netra_stream.last_seq + excluded.last_seq
returning last_seq;

-- name: insert_log
-- fleet: the log's leader moves the rows of every tenant
insert into netra_log (stream, seq, tenant, items, at_us)
select r.stream, r.seq, r.tenant, r.items, r.at_us
from rows(:rows, stream text, seq int, tenant text, items text, at_us int) as r
where true;

-- name: read_log
-- fleet: a cursor reads a stream whole and shows each tenant its own items
select seq, tenant, items, at_us from netra_log
where stream = :stream and seq > :after
order by seq limit :limit;

-- name: last_of_stream
select last_seq from netra_stream where stream = :stream;

-- name: get_cursor
select seq from netra_cursor where name = :name;

-- name: set_cursor
insert into netra_cursor (name, stream, seq) values (:name, :stream, :seq)
on conflict (name) do update set seq = excluded.seq where netra_cursor.seq < excluded.seq;

-- name: trim_log
-- fleet: retention, in small batches
delete from netra_log
where (stream, seq) in (
  select l.stream, l.seq from netra_log l
  where l.stream = :stream and l.at_us < :before_us
    and l.seq <= coalesce((select min(c.seq) from netra_cursor c where c.stream = :stream), l.seq)
  order by l.seq limit :limit
);

-- name: insert_node
insert into netra_node (id, beat, host, pid, role, started_us)
values (:id, 1, :host, :pid, :role, :started_us);

-- name: beat_node
update netra_node set beat = beat + 1 where id = :id returning beat;

-- name: list_nodes
select id, beat, host, pid, role, started_us from netra_node order by id;

-- name: remove_node
delete from netra_node where id = :id;

-- name: forget_node
delete from netra_node where id = :id;

-- name: reap_node
delete from netra_node where id = :id and beat = :beat;

-- name: node_is_live
select 1 from netra_node where id = :id;

-- name: ensure_lease
insert into netra_lease (name, owner, fence) values (:name, null, 0) on conflict (name) do nothing;

-- name: take_lease
update netra_lease set owner = :node, fence = fence + 1
where name = :name
  and (owner is null or not exists (select 1 from netra_node n where n.id = netra_lease.owner))
  and exists (select 1 from netra_node n where n.id = :node)
returning fence;

-- name: hold_lease
update netra_lease set owner = owner
where name = :name and owner = :node and exists (select 1 from netra_node n where n.id = :node);

-- name: has_lease
select 1 from netra_lease l join netra_node n on n.id = l.owner where l.name = :name and l.owner = :node;

-- name: drop_lease
update netra_lease set owner = null where name = :name and owner = :node;

-- name: probe
update netra_probe set count = count + 1;

-- name: set_meta_once
insert into netra_meta (name, value) values (:name, :value) on conflict (name) do nothing;

-- name: get_meta
select value from netra_meta where name = :name;

-- name: insert_data_key
insert into netra_data_key (tenant, version, root_id, wrapped, created_us)
values (:tenant, :version, :root_id, :wrapped, :created_us)
on conflict (tenant, version) do nothing;

-- name: newest_data_key
select version, root_id, wrapped from netra_data_key where tenant = :tenant order by version desc limit 1;

-- name: get_data_key
select root_id, wrapped from netra_data_key where tenant = :tenant and version = :version;

-- name: data_keys_under_other_roots
-- fleet: re-wrapping after a root key was added touches every tenant's data key
select tenant, version, root_id, wrapped from netra_data_key where root_id <> :root_id limit :limit;

-- name: rewrap_data_key
update netra_data_key set root_id = :root_id, wrapped = :wrapped
where tenant = :tenant and version = :version and root_id = :old_root_id;

-- name: count_data_keys
-- fleet: the operator's view of a re-wrap's progress
select count(*), coalesce(sum(case when root_id = :root_id then 1 else 0 end), 0) from netra_data_key;

-- name: insert_audit_entry
insert into netra_audit_entry
  (tenant, id, at_us, actor, action, target_table, target, outcome, trace_id, span_id, before, after, personal)
values (:tenant, :id, :at_us, :actor, :action, :target_table, :target, :outcome, :trace_id, :span_id, :before, :after, :personal);

-- name: list_audit_entries
select id, at_us, actor, action, target_table, target, outcome, trace_id, before, after
from netra_audit_entry
where tenant = :tenant and id > :after
order by id limit :limit;

-- name: insert_tenant
insert into netra_tenant (tenant, id, uid, name, metadata, rate_limit, created_us, updated_us, audit_id)
values (:tenant, :id, :uid, :name, :metadata, :rate_limit, :now_us, :now_us, :audit_id);

-- name: tenant_by_name
select tenant, id, uid, name, metadata, rate_limit, created_us, updated_us from netra_tenant
where tenant = :tenant and deleted_us is null;

-- name: tenant_by_uid
-- fleet: a tenant is looked up before anybody knows which it is
select tenant, id, uid, name, metadata, rate_limit, created_us, updated_us from netra_tenant
where uid = :uid and deleted_us is null;

-- name: tenant_by_id
-- fleet: a tenant is looked up before anybody knows which it is
select tenant, id, uid, name, metadata, rate_limit, created_us, updated_us from netra_tenant
where id = :id and deleted_us is null;

-- name: list_tenants
-- fleet: the operator lists all tenants
select tenant, id, uid, name, metadata, rate_limit, created_us, updated_us from netra_tenant
where deleted_us is null and (created_us, id) > (:created_us, :id)
order by created_us, id limit :limit;

-- name: list_tenants_back
-- fleet: the operator lists all tenants
select tenant, id, uid, name, metadata, rate_limit, created_us, updated_us from netra_tenant
where deleted_us is null and (created_us, id) < (:created_us, :id)
order by created_us desc, id desc limit :limit;

-- name: hold_tenant
update netra_tenant set updated_us = updated_us where tenant = :tenant;

-- name: update_tenant
update netra_tenant
set uid = :uid, name = :name, metadata = :metadata, rate_limit = :rate_limit, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and deleted_us is null;

-- name: bury_tenant
update netra_tenant set deleted_us = :now_us, updated_us = :now_us, uid = null, audit_id = :audit_id
where tenant = :tenant and deleted_us is null;

-- name: tenant_name_is_taken
select 1 from netra_tenant where tenant = :tenant;

-- name: insert_api_key
insert into netra_api_key (tenant, id, hash, name, scopes, created_us, expires_us, parent, audit_id)
values (:tenant, :id, :hash, :name, :scopes, :now_us, :expires_us, :parent, :audit_id);

-- name: api_key_by_hash
-- fleet: a key is looked up before anybody knows whose it is
-- A session's key ends with its parent, by whatever the parent ends.
select k.tenant, k.id, k.name, k.scopes, k.created_us,
  case when p.expires_us is null or k.expires_us < p.expires_us then k.expires_us else p.expires_us end,
  coalesce(k.revoked_us, p.revoked_us), case when p.id is null then k.parent end
from netra_api_key k left join netra_api_key p on p.tenant = k.tenant and p.id = k.parent and p.deleted_us is null
where k.hash = :hash and k.deleted_us is null;

-- name: live_portal_keys
select tenant, id, name, scopes, created_us, expires_us, revoked_us, null from netra_api_key
where tenant = :tenant and deleted_us is null and revoked_us is null and id > :after
  and (expires_us is null or expires_us > :expires_us) and scopes like '%"portal"%'
order by id limit :limit;

-- name: list_api_keys
select k.tenant, k.id, k.name, k.scopes, k.created_us,
  case when p.expires_us is null or k.expires_us < p.expires_us then k.expires_us else p.expires_us end,
  coalesce(k.revoked_us, p.revoked_us), case when p.id is null then k.parent end
from netra_api_key k left join netra_api_key p on p.tenant = k.tenant and p.id = k.parent and p.deleted_us is null
where k.tenant = :tenant and k.deleted_us is null and k.id > :after
order by k.id limit :limit;

-- name: expire_api_key
update netra_api_key set expires_us = :expires_us, audit_id = :audit_id
where tenant = :tenant and id = :id and revoked_us is null and deleted_us is null;

-- name: revoke_api_key
update netra_api_key set revoked_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id and revoked_us is null and deleted_us is null;

-- name: count_operator_keys
select count(*) from netra_api_key
where tenant = :tenant and parent is null and revoked_us is null and deleted_us is null and (expires_us is null or expires_us > :now_us);

-- name: insert_idempotency
insert into netra_idempotency (tenant, route, key, body_hash, ref, status, created_us)
values (:tenant, :route, :key, :body_hash, :ref, :status, :now_us)
on conflict (tenant, route, key) do nothing;

-- name: get_idempotency
select body_hash, ref, status from netra_idempotency where tenant = :tenant and route = :route and key = :key;

-- name: insert_idempotency_rows
-- fleet: coalesced ingest; each row carries its tenant
insert into netra_idempotency (tenant, route, key, body_hash, ref, status, created_us)
select r.tenant, r.route, r.key, r.body_hash, r.ref, r.status, r.created_us
from rows(:rows, tenant text, route text, key text, body_hash text, ref uuid, status int, created_us int) as r
where true
order by r.tenant, r.route, r.key
on conflict (tenant, route, key) do nothing;

-- name: get_idempotency_rows
-- fleet: coalesced ingest; each row carries its tenant
select i.tenant, i.route, i.key, i.body_hash, i.ref
from rows(:rows, tenant text, route text, key text) as r
join netra_idempotency i on i.tenant = r.tenant and i.route = r.route and i.key = r.key;

-- name: trim_idempotency
-- fleet: retention, in small batches
-- A key stays for as long as the message that it leads to, which may be due for longer than others are kept.
delete from netra_idempotency
where (tenant, route, key) in (
  select i.tenant, i.route, i.key from netra_idempotency i
  where i.created_us < :before_us and not exists (select 1 from netra_message m where m.tenant = i.tenant and m.id = i.ref)
  order by i.created_us limit :limit
);

-- name: insert_spans
-- fleet: spans of several tenants are stored together; each row carries its tenant
insert into netra_span (tenant, trace_id, span_id, parent, link_trace, link_span, part, name, start_us, end_us, status, ref)
select r.tenant, r.trace_id, r.span_id, r.parent, r.link_trace, r.link_span, r.part, r.name, r.start_us, r.end_us, r.status, r.ref
from rows(:rows, tenant text, trace_id text, span_id text, parent text, link_trace text, link_span text, part text, name text,
  start_us int, end_us int, status text, ref text) as r
where true
on conflict (tenant, trace_id, span_id) do nothing;

-- name: insert_own_spans
insert into netra_span (tenant, trace_id, span_id, parent, link_trace, link_span, part, name, start_us, end_us, status, ref)
select r.tenant, r.trace_id, r.span_id, r.parent, r.link_trace, r.link_span, r.part, r.name, r.start_us, r.end_us, r.status, r.ref
from rows(:rows, tenant text, trace_id text, span_id text, parent text, link_trace text, link_span text, part text, name text,
  start_us int, end_us int, status text, ref text) as r
where r.tenant = :tenant
on conflict (tenant, trace_id, span_id) do nothing;

-- name: outbox_has_rows
-- fleet: the log's leader looks for rows of every tenant
select 1 from netra_outbox limit 1;

-- name: insert_debug_marks
insert into netra_debug_mark (tenant, ref, session_id)
select :tenant, r.ref, r.session_id from rows(:rows, ref uuid, session_id uuid) as r
where true;

-- name: insert_debug_mark_rows
-- fleet: coalesced ingest; each row carries its tenant
insert into netra_debug_mark (tenant, ref, session_id)
select r.tenant, r.ref, r.session_id from rows(:rows, tenant text, ref uuid, session_id uuid) as r
where true
order by r.tenant, r.ref, r.session_id;

-- name: debug_marks_of
select session_id from netra_debug_mark where tenant = :tenant and ref = :ref;
