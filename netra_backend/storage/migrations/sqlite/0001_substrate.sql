-- The substrate: nodes, leases, outbox and log, secrets, audit entries, tenants, API keys, idempotency.
-- Times are microseconds since the epoch, ids 16 bytes, JSON is text. Every tenant table has (tenant, id) in its keys.

create table netra_meta (
  name text primary key,
  value text not null
) strict, without rowid;

-- One row that a probe write changes: after a failed commit nothing is accepted before this has committed.
create table netra_probe (
  id integer primary key check (id = 1),
  count integer not null
) strict;
insert into netra_probe (id, count) values (1, 0);

-- One row per running process. The beat only grows; who sees the same one for a whole TTL deletes the row.
create table netra_node (
  id blob primary key,
  beat integer not null,
  host text not null,
  pid integer not null,
  role text not null,
  started_us integer not null
) strict, without rowid;

create table netra_lease (
  name text primary key,
  owner blob,
  fence integer not null
) strict, without rowid;

create table netra_outbox (
  id integer primary key autoincrement,
  stream text not null,
  tenant text not null,
  items text not null,
  at_us integer not null
) strict;

-- The last number of each stream, in a row of its own, so that trimming the log never restarts it.
create table netra_stream (
  stream text primary key,
  last_seq integer not null
) strict, without rowid;

create table netra_log (
  stream text not null,
  seq integer not null,
  tenant text not null,
  items text not null,
  at_us integer not null,
  primary key (stream, seq)
) strict;

create table netra_cursor (
  name text primary key,
  stream text not null,
  seq integer not null
) strict, without rowid;

create table netra_data_key (
  tenant text not null,
  version integer not null,
  root_id text not null,
  wrapped blob not null,
  created_us integer not null,
  primary key (tenant, version)
) strict;
create index netra_data_key_root on netra_data_key (root_id);

-- Staged audit entries: written with their effect, never changed. The tree that makes them provable is a cursor.
create table netra_audit_entry (
  tenant text not null,
  id blob not null,
  at_us integer not null,
  actor text not null,
  action text not null,
  target_table text not null,
  target text not null,
  outcome text not null,
  trace_id text not null,
  span_id text not null,
  before text,
  after text,
  primary key (tenant, id)
) strict;

-- Which row an entry has served: an entry serves one change of one row.
create table netra_audit_use (
  tenant text not null,
  audit_id blob not null,
  primary key (tenant, audit_id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict, without rowid;

create trigger netra_audit_entry_is_final before update on netra_audit_entry begin
  select raise(abort, 'netra_audit: an audit entry is never changed');
end;
create trigger netra_audit_entry_is_new before insert on netra_audit_entry
when exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.id) begin
  select raise(abort, 'netra_audit: an audit entry is never changed'); -- `insert or replace` fires no update trigger
end;
create trigger netra_audit_entry_stays before delete on netra_audit_entry begin
  select raise(abort, 'netra_audit: an audit entry is never deleted');
end;

-- The primary key alone would not do: a statement's own `or ignore` or `or replace` also rules inside its triggers.
create trigger netra_audit_use_is_once before insert on netra_audit_use
when exists (select 1 from netra_audit_use u where u.tenant = new.tenant and u.audit_id = new.audit_id) begin
  select raise(abort, 'netra_audit: this audit entry has served another change');
end;
create trigger netra_audit_use_is_final before update on netra_audit_use begin
  select raise(abort, 'netra_audit: the use of an audit entry is never changed');
end;
create trigger netra_audit_use_stays before delete on netra_audit_use begin
  select raise(abort, 'netra_audit: the use of an audit entry is never deleted');
end;

-- A tenant (Svix: application). `tenant` is its name in every other table and never changes; `uid` may.
create table netra_tenant (
  tenant text primary key,
  id blob not null unique,
  uid text unique,
  name text not null,
  metadata text not null,
  rate_limit integer,
  created_us integer not null,
  updated_us integer not null,
  deleted_us integer,
  audit_id blob not null,
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create index netra_tenant_created on netra_tenant (created_us, id);

create trigger netra_tenant_audit_insert after insert on netra_tenant begin
  select raise(abort, 'netra_audit: this change of netra_tenant has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_tenant' and e.target = new.tenant);
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_tenant_audit_update after update of tenant, id, uid, name, metadata, rate_limit, deleted_us, audit_id on netra_tenant begin
  select raise(abort, 'netra_audit: this change of netra_tenant has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_tenant' and e.target = new.tenant);
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_tenant_tombstone before delete on netra_tenant when old.deleted_us is null begin
  select raise(abort, 'netra_audit: a row of netra_tenant is deleted by a tombstone update first');
end;

-- API keys: a keyed hash, never the key. Operator keys stand under the system tenant '*'.
create table netra_api_key (
  tenant text not null,
  id blob not null,
  hash blob not null unique,
  name text not null,
  scopes text not null,
  created_us integer not null,
  expires_us integer,
  revoked_us integer,
  deleted_us integer,
  audit_id blob not null,
  primary key (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;

create trigger netra_api_key_audit_insert after insert on netra_api_key begin
  select raise(abort, 'netra_audit: this change of netra_api_key has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_api_key' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_api_key_audit_update
after update of tenant, id, hash, name, scopes, expires_us, revoked_us, deleted_us, audit_id on netra_api_key begin
  select raise(abort, 'netra_audit: this change of netra_api_key has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_api_key' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_api_key_tombstone before delete on netra_api_key when old.deleted_us is null begin
  select raise(abort, 'netra_audit: a row of netra_api_key is deleted by a tombstone update first');
end;

-- One row per idempotency key: written in the transaction of its effect. Only the body's hash and the result's id.
create table netra_idempotency (
  tenant text not null,
  route text not null,
  key text not null,
  body_hash text not null,
  ref blob not null,
  status integer not null,
  created_us integer not null,
  primary key (tenant, route, key)
) strict;
create index netra_idempotency_created on netra_idempotency (created_us);
