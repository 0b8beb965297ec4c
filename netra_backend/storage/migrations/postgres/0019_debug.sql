-- Debug sessions: who looks into which tenant's production, why and until when, and what was seen.

-- What is captured is chosen by `predicates`, `captures` and `logpoints` (JSON). `last_seq` numbers the records: it is raised in the
-- transaction that writes them, under this row's lock, so that a reader who knows a number misses nothing. `granted_us` is how long
-- was last granted: a process whose wall clock is wrong listens no longer than that.
create table netra_debug_session (
  tenant text collate "C" not null,
  id bytea not null,
  state text collate "C" not null check (state in ('active', 'ended')),
  reason text collate "C" not null,
  actor text collate "C" not null,
  predicates text collate "C" not null,
  captures text collate "C" not null,
  logpoints text collate "C" not null,
  granted_us bigint not null,
  created_us bigint not null,
  expires_us bigint not null,
  ended_us bigint,
  ended_by text collate "C" check (ended_by in ('actor', 'time', 'tenant')),
  last_seq bigint not null,
  dropped bigint not null,
  audit_id bytea not null,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create index netra_debug_session_live on netra_debug_session (tenant, id) where state = 'active';
create index netra_debug_session_created on netra_debug_session (tenant, created_us, id);
create index netra_debug_session_ended on netra_debug_session (ended_us) where ended_us is not null;

create table netra_debug_record (
  tenant text collate "C" not null,
  session_id bytea not null,
  seq bigint not null,
  kind text collate "C" not null check (kind in ('log', 'span', 'http', 'snapshot', 'dropped')),
  at_us bigint not null,
  trace_id text collate "C" not null,
  data text collate "C" not null,
  primary key (tenant, session_id, seq),
  foreign key (tenant, session_id) references netra_debug_session (tenant, id)
);

-- Which sessions chose the work that a row stands for (a message, a run), where who takes it up could not know. Only rows of watched work
-- have one. No reference to the session: nothing about debugging may refuse a message.
create table netra_debug_mark (
  tenant text collate "C" not null,
  ref bytea not null,
  session_id bytea not null,
  primary key (tenant, ref, session_id)
);
create index netra_debug_mark_session on netra_debug_mark (tenant, session_id);

create trigger netra_debug_session_audit_insert after insert on netra_debug_session
for each row execute function netra_audit_by_id();
create trigger netra_debug_session_audit_update
after update of state, reason, predicates, captures, logpoints, expires_us, audit_id on netra_debug_session
for each row execute function netra_audit_by_id();

-- Who sees what, and what each may do; see 0001. Every process knows which sessions are live; what they have recorded is read and
-- written in the tenant's name. An adopting user's transaction may mark what it sends.

alter table netra_debug_session enable row level security, force row level security;
create policy of_tenant on netra_debug_session to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_debug_session for select to netra_fleet using (true);
create policy of_owner on netra_debug_session to current_user using (true) with check (true);

alter table netra_debug_record enable row level security, force row level security;
create policy of_tenant on netra_debug_record to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_debug_record to current_user using (true) with check (true);

alter table netra_debug_mark enable row level security, force row level security;
create policy of_tenant on netra_debug_mark to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_debug_mark for insert to netra_fleet with check (true);
create policy of_owner on netra_debug_mark to current_user using (true) with check (true);

revoke all on netra_debug_session, netra_debug_record, netra_debug_mark from public;
grant select, insert, update on netra_debug_session to netra_run;
grant select, insert, delete on netra_debug_record to netra_run;
grant select, insert, delete on netra_debug_mark to netra_run;
grant insert on netra_debug_mark to netra_app;
grant select on netra_debug_session to netra_fleet;
grant insert on netra_debug_mark to netra_fleet;

create function netra_audit_never_deleted() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  raise exception 'netra_audit: a row of % is never deleted', tg_table_name using errcode = 'integrity_constraint_violation';
end $$;
revoke all on function netra_audit_never_deleted() from public;
create trigger netra_debug_session_never_deleted before delete on netra_debug_session
  for each row execute function netra_audit_never_deleted();
