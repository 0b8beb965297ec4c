-- The substrate: nodes, leases, outbox and log, secrets, audit entries, tenants, API keys, idempotency.
-- The same tables as SQLite's, column by column. Times are microseconds since the epoch, ids 16 bytes, JSON is text; text
-- compares by bytes (`collate "C"`), so that one cursor means one place on both engines.

do $$ begin
  if to_regrole('netra_run') is null or to_regrole('netra_app') is null or to_regrole('netra_fleet') is null then
    raise exception 'netra: this server lacks the roles netra_run, netra_app and netra_fleet'
      using errcode = 'undefined_object', hint = 'Run `netra migrate --create-roles` first.';
  end if;
  if current_schema() is distinct from 'public' then
    raise exception 'netra: the tables are made in the schema public, and this connection''s search path begins with %', current_schema()
      using errcode = 'invalid_schema_name', hint = 'Migrate with a URL whose search path is public.';
  end if;
end $$;

create table netra_meta (
  name text collate "C" primary key,
  value text collate "C" not null
);

-- One row that a probe write changes: after a failed commit nothing is accepted before this has committed.
create table netra_probe (
  id bigint primary key check (id = 1),
  count bigint not null
);
insert into netra_probe (id, count) values (1, 0);

-- One row per running process. The beat only grows; who sees the same one for a whole TTL deletes the row.
create table netra_node (
  id bytea primary key,
  beat bigint not null,
  host text collate "C" not null,
  pid bigint not null,
  role text collate "C" not null,
  started_us bigint not null
);

create table netra_lease (
  name text collate "C" primary key,
  owner bytea,
  fence bigint not null
);

create table netra_outbox (
  id bigint generated always as identity primary key,
  stream text collate "C" not null,
  tenant text collate "C" not null,
  items text collate "C" not null,
  at_us bigint not null
);

-- The last number of each stream, in a row of its own, so that trimming the log never restarts it.
create table netra_stream (
  stream text collate "C" primary key,
  last_seq bigint not null
);

create table netra_log (
  stream text collate "C" not null,
  seq bigint not null,
  tenant text collate "C" not null,
  items text collate "C" not null,
  at_us bigint not null,
  primary key (stream, seq)
);

create table netra_cursor (
  name text collate "C" primary key,
  stream text collate "C" not null,
  seq bigint not null
);

create table netra_data_key (
  tenant text collate "C" not null,
  version bigint not null,
  root_id text collate "C" not null,
  wrapped bytea not null,
  created_us bigint not null,
  primary key (tenant, version)
);
create index netra_data_key_root on netra_data_key (root_id);

-- Staged audit entries: written with their effect, never changed. The tree that makes them provable is a cursor.
create table netra_audit_entry (
  tenant text collate "C" not null,
  id bytea not null,
  at_us bigint not null,
  actor text collate "C" not null,
  action text collate "C" not null,
  target_table text collate "C" not null,
  target text collate "C" not null,
  outcome text collate "C" not null,
  trace_id text collate "C" not null,
  span_id text collate "C" not null,
  before text collate "C",
  after text collate "C",
  primary key (tenant, id)
);

-- Which row an entry has served: an entry serves one change of one row.
create table netra_audit_use (
  tenant text collate "C" not null,
  audit_id bytea not null,
  primary key (tenant, audit_id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- A tenant (Svix: application). `tenant` is its name in every other table and never changes; `uid` may.
create table netra_tenant (
  tenant text collate "C" primary key,
  id bytea not null unique,
  uid text collate "C" unique,
  name text collate "C" not null,
  metadata text collate "C" not null,
  rate_limit bigint,
  created_us bigint not null,
  updated_us bigint not null,
  deleted_us bigint,
  audit_id bytea not null,
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create index netra_tenant_created on netra_tenant (created_us, id);

-- API keys: a keyed hash, never the key. Operator keys stand under the system tenant '*'.
create table netra_api_key (
  tenant text collate "C" not null,
  id bytea not null,
  hash bytea not null unique,
  name text collate "C" not null,
  scopes text collate "C" not null,
  created_us bigint not null,
  expires_us bigint,
  revoked_us bigint,
  deleted_us bigint,
  audit_id bytea not null,
  primary key (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- One row per idempotency key: written in the transaction of its effect. Only the body's hash and the result's id.
create table netra_idempotency (
  tenant text collate "C" not null,
  route text collate "C" not null,
  key text collate "C" not null,
  body_hash text collate "C" not null,
  ref bytea not null,
  status bigint not null,
  created_us bigint not null,
  primary key (tenant, route, key)
);
create index netra_idempotency_created on netra_idempotency (created_us);

-- No change of an audited table without an audit entry of its own.
--
-- The functions run with the rights of whoever makes the change (under its policies, so within its tenant) and with a
-- search path of their own, where pg_temp stands last: left out it would come first, and a temporary table of the name
-- netra_audit_entry would answer for the real one.

create function netra_audit_refuse() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  raise exception 'netra_audit: %', tg_argv[0] using errcode = 'integrity_constraint_violation';
end $$;

create function netra_audit_serve(its_tenant text, its_entry bytea, its_table text, its_target text) returns void language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if not exists (select from netra_audit_entry e where e.tenant = its_tenant and e.id = its_entry
                 and e.target_table = its_table and e.target = its_target) then
    raise exception 'netra_audit: this change of % has no audit entry of its own', its_table
      using errcode = 'integrity_constraint_violation';
  end if;
  insert into netra_audit_use (tenant, audit_id) values (its_tenant, its_entry);
end $$;

-- For every table whose key is (tenant, id).
create function netra_audit_by_id() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  perform netra_audit_serve(new.tenant, new.audit_id, tg_table_name, encode(new.id, 'hex'));
  return null;
end $$;

create function netra_audit_tenant() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  perform netra_audit_serve(new.tenant, new.audit_id, tg_table_name, new.tenant);
  return null;
end $$;

create function netra_audit_use_once() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if exists (select from netra_audit_use u where u.tenant = new.tenant and u.audit_id = new.audit_id) then
    raise exception 'netra_audit: this audit entry has served another change' using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;

create function netra_audit_tombstone() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if old.deleted_us is null then
    raise exception 'netra_audit: a row of % is deleted by a tombstone update first', tg_table_name
      using errcode = 'integrity_constraint_violation';
  end if;
  return old;
end $$;

-- A second entry of one id is refused by the key itself: PostgreSQL has no `insert or replace` that would go round it.
create trigger netra_audit_entry_is_final before update on netra_audit_entry
for each row execute function netra_audit_refuse('an audit entry is never changed');
create trigger netra_audit_entry_stays before delete on netra_audit_entry
for each row execute function netra_audit_refuse('an audit entry is never deleted');
create trigger netra_audit_entry_stays_whole before truncate on netra_audit_entry
for each statement execute function netra_audit_refuse('an audit entry is never deleted');

-- The key alone would do; this says why. Of two at once the key lets one through.
create trigger netra_audit_use_is_once before insert on netra_audit_use
for each row execute function netra_audit_use_once();
create trigger netra_audit_use_is_final before update on netra_audit_use
for each row execute function netra_audit_refuse('the use of an audit entry is never changed');
create trigger netra_audit_use_stays before delete on netra_audit_use
for each row execute function netra_audit_refuse('the use of an audit entry is never deleted');
create trigger netra_audit_use_stays_whole before truncate on netra_audit_use
for each statement execute function netra_audit_refuse('the use of an audit entry is never deleted');

create trigger netra_tenant_audit_insert after insert on netra_tenant
for each row execute function netra_audit_tenant();
create trigger netra_tenant_audit_update
after update of tenant, id, uid, name, metadata, rate_limit, deleted_us, audit_id on netra_tenant
for each row execute function netra_audit_tenant();
create trigger netra_tenant_tombstone before delete on netra_tenant
for each row execute function netra_audit_tombstone();

create trigger netra_api_key_audit_insert after insert on netra_api_key
for each row execute function netra_audit_by_id();
create trigger netra_api_key_audit_update
after update of tenant, id, hash, name, scopes, expires_us, revoked_us, deleted_us, audit_id on netra_api_key
for each row execute function netra_audit_by_id();
create trigger netra_api_key_tombstone before delete on netra_api_key
for each row execute function netra_audit_tombstone();

-- Who sees what. On every tenant table row-level security is on, also for the table's owner, and each role that has a
-- grant there has a policy:
--   of_tenant  netra_run and netra_app: the rows of the tenant that the transaction has set; of none where none is set
--   of_fleet   netra_fleet: every tenant's rows; its statements carry the tenant in every join and written row
--   of_owner   the owner: every row, so that a later migration can change the data of all tenants and a backup
--              (`pg_dump --enable-row-security`) holds them. It gives the owner nothing that dropping the policies would
--              not, and Netra refuses to run as the owner.
-- A role without a policy sees nothing, whatever it is granted by mistake.

alter table netra_outbox enable row level security, force row level security;
create policy of_tenant on netra_outbox for insert to netra_run, netra_app with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_outbox to netra_fleet using (true) with check (true);
create policy of_owner on netra_outbox to current_user using (true) with check (true);

alter table netra_log enable row level security, force row level security;
create policy of_fleet on netra_log to netra_fleet using (true) with check (true);
create policy of_owner on netra_log to current_user using (true) with check (true);

alter table netra_data_key enable row level security, force row level security;
create policy of_tenant on netra_data_key to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_data_key for select to netra_fleet using (true);
create policy of_owner on netra_data_key to current_user using (true) with check (true);

alter table netra_audit_entry enable row level security, force row level security;
create policy of_tenant on netra_audit_entry to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_audit_entry to current_user using (true) with check (true);

alter table netra_audit_use enable row level security, force row level security;
create policy of_tenant on netra_audit_use to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_audit_use to current_user using (true) with check (true);

alter table netra_tenant enable row level security, force row level security;
create policy of_tenant on netra_tenant to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_tenant for select to netra_fleet using (true);
create policy of_owner on netra_tenant to current_user using (true) with check (true);

alter table netra_api_key enable row level security, force row level security;
create policy of_tenant on netra_api_key to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_api_key for select to netra_fleet using (true);
create policy of_owner on netra_api_key to current_user using (true) with check (true);

alter table netra_idempotency enable row level security, force row level security;
create policy of_tenant on netra_idempotency to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_idempotency to netra_fleet using (true) with check (true);
create policy of_owner on netra_idempotency to current_user using (true) with check (true);

-- What each may do: what its statements need. Nobody is granted what all have by default, and the functions of triggers
-- are called by nobody else.
revoke all on
  netra_meta, netra_probe, netra_node, netra_lease, netra_outbox, netra_stream, netra_log, netra_cursor, netra_data_key,
  netra_audit_entry, netra_audit_use, netra_tenant, netra_api_key, netra_idempotency
from public;
revoke all on function
  netra_audit_refuse, netra_audit_serve, netra_audit_by_id, netra_audit_tenant, netra_audit_use_once, netra_audit_tombstone
from public;
grant execute on function netra_audit_serve to netra_run, netra_app;

-- Tables without tenants: a statement on them runs under the role that its transaction has at the time.
grant select, insert on netra_meta to netra_run, netra_fleet;
grant select, update on netra_probe to netra_run, netra_fleet;
grant select, insert, update, delete on netra_node to netra_run, netra_fleet;
grant select, insert, update on netra_lease, netra_stream, netra_cursor to netra_run, netra_fleet;
grant select on netra_meta to netra_app;

-- The tenant's own.
grant insert on netra_outbox to netra_run;
grant select, insert, update on netra_data_key to netra_run;
grant select, insert on netra_audit_entry, netra_audit_use to netra_run;
grant select, insert, update, delete on netra_tenant, netra_api_key, netra_idempotency to netra_run;

-- An adopting user's: to send and to record, in its own transaction, and to make a tenant on its first use. No secret, no
-- key; of the audit trail only what the triggers ask for.
grant insert on netra_outbox, netra_audit_entry to netra_app;
grant select (tenant, id, target_table, target) on netra_audit_entry to netra_app;
grant select, insert on netra_audit_use, netra_tenant to netra_app;
grant select, insert, update (ref), delete on netra_idempotency to netra_app;

-- All tenants': the statements on the fleet list.
grant select, insert, delete on netra_outbox, netra_log, netra_idempotency to netra_fleet;
grant select on netra_data_key, netra_tenant, netra_api_key to netra_fleet;
