-- Debug sessions: who looks into which tenant's production, why and until when, and what was seen.

-- What is captured is chosen by `predicates`, `captures` and `logpoints` (JSON). `last_seq` numbers the records: it is raised in the
-- transaction that writes them, under this row's lock, so that a reader who knows a number misses nothing. `granted_us` is how long
-- was last granted: a process whose wall clock is wrong listens no longer than that.
create table netra_debug_session (
  tenant text not null,
  id blob not null,
  state text not null check (state in ('active', 'ended')),
  reason text not null,
  actor text not null,
  predicates text not null,
  captures text not null,
  logpoints text not null,
  granted_us integer not null,
  created_us integer not null,
  expires_us integer not null,
  ended_us integer,
  ended_by text check (ended_by in ('actor', 'time', 'tenant')),
  last_seq integer not null,
  dropped integer not null,
  audit_id blob not null,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create index netra_debug_session_live on netra_debug_session (tenant, id) where state = 'active';
create index netra_debug_session_created on netra_debug_session (tenant, created_us, id);
create index netra_debug_session_ended on netra_debug_session (ended_us) where ended_us is not null;

create table netra_debug_record (
  tenant text not null,
  session_id blob not null,
  seq integer not null,
  kind text not null check (kind in ('log', 'span', 'http', 'snapshot', 'dropped')),
  at_us integer not null,
  trace_id text not null,
  data text not null,
  primary key (tenant, session_id, seq),
  foreign key (tenant, session_id) references netra_debug_session (tenant, id)
) strict;

-- Which sessions chose the work that a row stands for (a message, a run), where who takes it up could not know. Only rows of watched work
-- have one. No reference to the session: nothing about debugging may refuse a message.
create table netra_debug_mark (
  tenant text not null,
  ref blob not null,
  session_id blob not null,
  primary key (tenant, ref, session_id)
) strict, without rowid;
create index netra_debug_mark_session on netra_debug_mark (tenant, session_id);

create trigger netra_debug_session_audit_insert after insert on netra_debug_session begin
  select raise(abort, 'netra_audit: this change of netra_debug_session has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_debug_session' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_debug_session_audit_update
after update of state, reason, predicates, captures, logpoints, expires_us, audit_id on netra_debug_session begin
  select raise(abort, 'netra_audit: this change of netra_debug_session has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_debug_session' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

create trigger netra_debug_session_never_deleted before delete on netra_debug_session begin
  select raise(abort, 'netra_audit: a row of netra_debug_session is never deleted');
end;
