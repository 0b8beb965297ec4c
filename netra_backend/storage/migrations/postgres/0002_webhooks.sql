-- Webhooks: endpoints, their secrets, event types, messages, deliveries, attempts.

-- Raised by every change of a tenant's endpoints: a fan-out computed against an older number is computed again.
create table netra_webhook_version (
  tenant text collate "C" primary key,
  version bigint not null
);

create table netra_endpoint (
  tenant text collate "C" not null,
  id bytea not null,
  uid text collate "C",
  url text collate "C" not null,
  description text collate "C" not null,
  event_types text collate "C",
  channels text collate "C",
  disabled bigint not null check (disabled in (0, 1)),
  rate_limit bigint,
  metadata text collate "C" not null,
  headers text collate "C" not null,
  created_us bigint not null,
  updated_us bigint not null,
  deleted_us bigint,
  audit_id bytea not null,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create unique index netra_endpoint_uid on netra_endpoint (tenant, uid) where uid is not null and deleted_us is null;
create index netra_endpoint_created on netra_endpoint (tenant, created_us, id);

create table netra_endpoint_secret (
  tenant text collate "C" not null,
  id bytea not null,
  endpoint_id bytea not null,
  sealed bytea not null,
  created_us bigint not null,
  expires_us bigint,
  deleted_us bigint,
  audit_id bytea not null,
  primary key (tenant, id),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create index netra_endpoint_secret_of on netra_endpoint_secret (tenant, endpoint_id);

-- Event types belong to the operator: every row stands under the system tenant.
create table netra_event_type (
  tenant text collate "C" not null check (tenant = '*'),
  name text collate "C" not null,
  description text collate "C" not null,
  archived bigint not null check (archived in (0, 1)),
  deprecated bigint not null check (deprecated in (0, 1)),
  group_name text collate "C",
  schemas text collate "C",
  created_us bigint not null,
  updated_us bigint not null,
  deleted_us bigint,
  audit_id bytea not null,
  primary key (tenant, name),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- `payload` is the exact source slice that is signed and sent.
create table netra_message (
  tenant text collate "C" not null,
  id bytea not null,
  event_type text collate "C" not null,
  event_id text collate "C",
  payload text collate "C" not null,
  channels text collate "C",
  tags text collate "C",
  deliver_at_us bigint,
  created_us bigint not null,
  trace_id text collate "C" not null,
  span_id text collate "C" not null,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant)
);
create index netra_message_created on netra_message (tenant, created_us, id);

-- message x endpoint. `owner` is the node that holds it while it is leased; every commit under the lease is fenced by it.
-- `number` counts the attempts that burned one; `deadline_us` ends it whatever happens. `audit_id` names the decision
-- (a resend, a cancellation) that last changed it, if one did.
create table netra_delivery (
  tenant text collate "C" not null,
  message_id bytea not null,
  endpoint_id bytea not null,
  state text collate "C" not null check (state in ('due', 'leased', 'delivered', 'skipped', 'dead', 'cancelled')),
  number bigint not null,
  due_us bigint not null,
  deadline_us bigint not null,
  manual bigint not null check (manual in (0, 1)),
  owner bytea,
  last_status bigint,
  reason text collate "C",
  audit_id bytea,
  primary key (tenant, message_id, endpoint_id),
  foreign key (tenant, message_id) references netra_message (tenant, id),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id),
  check ((state = 'leased') = (owner is not null))
);
create index netra_delivery_due on netra_delivery (tenant, endpoint_id, due_us) where state = 'due';
create index netra_delivery_owner on netra_delivery (owner) where state = 'leased';
create index netra_delivery_dead on netra_delivery (tenant, endpoint_id, message_id) where state = 'dead';

-- The ledger of what was sent: appended, never changed. `late` marks an attempt whose sender had lost its lease.
create table netra_attempt (
  tenant text collate "C" not null,
  message_id bytea not null,
  id bytea not null,
  endpoint_id bytea not null,
  number bigint not null,
  manual bigint not null check (manual in (0, 1)),
  started_us bigint not null,
  duration_us bigint not null,
  outcome text collate "C" not null check (outcome in ('delivered', 'failed', 'refused')),
  status bigint not null,
  error_kind text collate "C" not null,
  error text collate "C" not null,
  response text collate "C" not null,
  url text collate "C" not null,
  late bigint not null check (late in (0, 1)),
  trace_id text collate "C" not null,
  span_id text collate "C" not null,
  primary key (tenant, message_id, id),
  foreign key (tenant, message_id) references netra_message (tenant, id)
);
create index netra_attempt_of_endpoint on netra_attempt (tenant, endpoint_id, id);

-- No change of an audited table without an audit entry of its own; the functions are told of in 0001.

create function netra_audit_event_type() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  perform netra_audit_serve(new.tenant, new.audit_id, tg_table_name, new.name);
  return null;
end $$;

create function netra_audit_delivery() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  perform netra_audit_serve(new.tenant, new.audit_id, tg_table_name, encode(new.message_id, 'hex') || '/' || encode(new.endpoint_id, 'hex'));
  return null;
end $$;

create trigger netra_endpoint_audit_insert after insert on netra_endpoint
for each row execute function netra_audit_by_id();
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, deleted_us, audit_id
on netra_endpoint
for each row execute function netra_audit_by_id();
create trigger netra_endpoint_tombstone before delete on netra_endpoint
for each row execute function netra_audit_tombstone();

create trigger netra_endpoint_secret_audit_insert after insert on netra_endpoint_secret
for each row execute function netra_audit_by_id();
create trigger netra_endpoint_secret_audit_update
after update of endpoint_id, sealed, expires_us, deleted_us, audit_id on netra_endpoint_secret
for each row execute function netra_audit_by_id();
create trigger netra_endpoint_secret_tombstone before delete on netra_endpoint_secret
for each row execute function netra_audit_tombstone();

create trigger netra_event_type_audit_insert after insert on netra_event_type
for each row execute function netra_audit_event_type();
create trigger netra_event_type_audit_update
after update of description, archived, deprecated, group_name, schemas, deleted_us, audit_id on netra_event_type
for each row execute function netra_audit_event_type();
create trigger netra_event_type_tombstone before delete on netra_event_type
for each row execute function netra_audit_tombstone();

create trigger netra_delivery_audit_update after update of audit_id on netra_delivery
for each row execute function netra_audit_delivery();

-- Who sees what, and what each may do; see 0001.

alter table netra_webhook_version enable row level security, force row level security;
create policy of_tenant on netra_webhook_version to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_webhook_version for select to netra_fleet using (true);
create policy of_owner on netra_webhook_version to current_user using (true) with check (true);

alter table netra_endpoint enable row level security, force row level security;
create policy of_tenant on netra_endpoint to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_endpoint to current_user using (true) with check (true);

alter table netra_endpoint_secret enable row level security, force row level security;
create policy of_tenant on netra_endpoint_secret to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_endpoint_secret to current_user using (true) with check (true);

-- Every tenant reads the operator's event types; they are written under the operator's own setting, '*'.
alter table netra_event_type enable row level security, force row level security;
create policy of_everybody on netra_event_type for select to netra_run, netra_app using (true);
create policy of_tenant on netra_event_type to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_event_type to current_user using (true) with check (true);

alter table netra_message enable row level security, force row level security;
create policy of_tenant on netra_message to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_message to netra_fleet using (true) with check (true);
create policy of_owner on netra_message to current_user using (true) with check (true);

alter table netra_delivery enable row level security, force row level security;
create policy of_tenant on netra_delivery to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_delivery to netra_fleet using (true) with check (true);
create policy of_owner on netra_delivery to current_user using (true) with check (true);

alter table netra_attempt enable row level security, force row level security;
create policy of_tenant on netra_attempt to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_attempt to netra_fleet using (true) with check (true);
create policy of_owner on netra_attempt to current_user using (true) with check (true);

revoke all on
  netra_webhook_version, netra_endpoint, netra_endpoint_secret, netra_event_type, netra_message, netra_delivery, netra_attempt
from public;
revoke all on function netra_audit_event_type, netra_audit_delivery from public;

grant select, insert, update on netra_webhook_version, netra_delivery to netra_run;
grant select, insert, update, delete on netra_endpoint, netra_endpoint_secret, netra_event_type to netra_run;
grant select, insert on netra_message, netra_attempt to netra_run;

grant select on netra_webhook_version, netra_endpoint, netra_event_type to netra_app;
grant select, insert on netra_message, netra_delivery to netra_app;

-- The fleet moves deliveries through their states and never from one tenant, message or endpoint to another.
grant select on netra_webhook_version to netra_fleet;
grant select, insert on netra_message, netra_delivery, netra_attempt to netra_fleet;
grant update (state, number, due_us, owner, manual, last_status, reason) on netra_delivery to netra_fleet;
