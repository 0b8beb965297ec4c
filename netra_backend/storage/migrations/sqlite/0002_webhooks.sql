-- Webhooks: endpoints, their secrets, event types, messages, deliveries, attempts.

-- Raised by every change of a tenant's endpoints: a fan-out computed against an older number is computed again.
create table netra_webhook_version (
  tenant text primary key,
  version integer not null
) strict, without rowid;

create table netra_endpoint (
  tenant text not null,
  id blob not null,
  uid text,
  url text not null,
  description text not null,
  event_types text,
  channels text,
  disabled integer not null check (disabled in (0, 1)),
  rate_limit integer,
  metadata text not null,
  headers text not null,
  created_us integer not null,
  updated_us integer not null,
  deleted_us integer,
  audit_id blob not null,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create unique index netra_endpoint_uid on netra_endpoint (tenant, uid) where uid is not null and deleted_us is null;
create index netra_endpoint_created on netra_endpoint (tenant, created_us, id);

create trigger netra_endpoint_audit_insert after insert on netra_endpoint begin
  select raise(abort, 'netra_audit: this change of netra_endpoint has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, deleted_us, audit_id
on netra_endpoint begin
  select raise(abort, 'netra_audit: this change of netra_endpoint has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_endpoint_tombstone before delete on netra_endpoint when old.deleted_us is null begin
  select raise(abort, 'netra_audit: a row of netra_endpoint is deleted by a tombstone update first');
end;

create table netra_endpoint_secret (
  tenant text not null,
  id blob not null,
  endpoint_id blob not null,
  sealed blob not null,
  created_us integer not null,
  expires_us integer,
  deleted_us integer,
  audit_id blob not null,
  primary key (tenant, id),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create index netra_endpoint_secret_of on netra_endpoint_secret (tenant, endpoint_id);

create trigger netra_endpoint_secret_audit_insert after insert on netra_endpoint_secret begin
  select raise(abort, 'netra_audit: this change of netra_endpoint_secret has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint_secret' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_endpoint_secret_audit_update
after update of endpoint_id, sealed, expires_us, deleted_us, audit_id on netra_endpoint_secret begin
  select raise(abort, 'netra_audit: this change of netra_endpoint_secret has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint_secret' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_endpoint_secret_tombstone before delete on netra_endpoint_secret when old.deleted_us is null begin
  select raise(abort, 'netra_audit: a row of netra_endpoint_secret is deleted by a tombstone update first');
end;

-- Event types belong to the operator: every row stands under the system tenant.
create table netra_event_type (
  tenant text not null check (tenant = '*'),
  name text not null,
  description text not null,
  archived integer not null check (archived in (0, 1)),
  deprecated integer not null check (deprecated in (0, 1)),
  group_name text,
  schemas text,
  created_us integer not null,
  updated_us integer not null,
  deleted_us integer,
  audit_id blob not null,
  primary key (tenant, name),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;

create trigger netra_event_type_audit_insert after insert on netra_event_type begin
  select raise(abort, 'netra_audit: this change of netra_event_type has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_event_type' and e.target = new.name);
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_event_type_audit_update
after update of description, archived, deprecated, group_name, schemas, deleted_us, audit_id on netra_event_type begin
  select raise(abort, 'netra_audit: this change of netra_event_type has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_event_type' and e.target = new.name);
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_event_type_tombstone before delete on netra_event_type when old.deleted_us is null begin
  select raise(abort, 'netra_audit: a row of netra_event_type is deleted by a tombstone update first');
end;

-- `payload` is the exact source slice that is signed and sent.
create table netra_message (
  tenant text not null,
  id blob not null,
  event_type text not null,
  event_id text,
  payload text not null,
  channels text,
  tags text,
  deliver_at_us integer,
  created_us integer not null,
  trace_id text not null,
  span_id text not null,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant)
) strict;
create index netra_message_created on netra_message (tenant, created_us, id);

-- message x endpoint. `owner` is the node that holds it while it is leased; every commit under the lease is fenced by it.
-- `number` counts the attempts that burned one; `deadline_us` ends it whatever happens. `audit_id` names the decision
-- (a resend, a cancellation) that last changed it, if one did.
create table netra_delivery (
  tenant text not null,
  message_id blob not null,
  endpoint_id blob not null,
  state text not null check (state in ('due', 'leased', 'delivered', 'skipped', 'dead', 'cancelled')),
  number integer not null,
  due_us integer not null,
  deadline_us integer not null,
  manual integer not null check (manual in (0, 1)),
  owner blob,
  last_status integer,
  reason text,
  audit_id blob,
  primary key (tenant, message_id, endpoint_id),
  foreign key (tenant, message_id) references netra_message (tenant, id),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id),
  check ((state = 'leased') = (owner is not null))
) strict, without rowid;
create index netra_delivery_due on netra_delivery (tenant, endpoint_id, due_us) where state = 'due';
create index netra_delivery_owner on netra_delivery (owner) where state = 'leased';
create index netra_delivery_dead on netra_delivery (tenant, endpoint_id, message_id) where state = 'dead';

create trigger netra_delivery_audit_update after update of audit_id on netra_delivery begin
  select raise(abort, 'netra_audit: this change of netra_delivery has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_delivery'
                    and e.target = lower(hex(new.message_id)) || '/' || lower(hex(new.endpoint_id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

-- The ledger of what was sent: appended, never changed. `late` marks an attempt whose sender had lost its lease.
create table netra_attempt (
  tenant text not null,
  message_id blob not null,
  id blob not null,
  endpoint_id blob not null,
  number integer not null,
  manual integer not null check (manual in (0, 1)),
  started_us integer not null,
  duration_us integer not null,
  outcome text not null check (outcome in ('delivered', 'failed', 'refused')),
  status integer not null,
  error_kind text not null,
  error text not null,
  response text not null,
  url text not null,
  late integer not null check (late in (0, 1)),
  trace_id text not null,
  span_id text not null,
  primary key (tenant, message_id, id),
  foreign key (tenant, message_id) references netra_message (tenant, id)
) strict, without rowid;
create index netra_attempt_of_endpoint on netra_attempt (tenant, endpoint_id, id);
