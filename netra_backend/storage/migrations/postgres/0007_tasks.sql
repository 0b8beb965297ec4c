-- Operators' verbs over many messages, and payloads that are erased before their messages go.

-- A walk over a tenant's messages by (created_us, id): see webhooks/tasks.py. The cursor and the counters stand in the row that each page's own
-- transaction changes. `owner` is the node that walks just now. `audit_id` names the decision (the start, a cancellation) that last changed it.
create table netra_webhook_task (
  tenant text collate "C" not null,
  id bytea not null,
  kind text collate "C" not null check (kind in ('recover', 'redrive', 'replay_missing', 'bulk_replay', 'cancel')),
  state text collate "C" not null check (state in ('running', 'finished', 'cancelled', 'failed')),
  parameters text collate "C" not null,
  after_us bigint not null,
  after_id bytea not null,
  done bigint not null,
  changed bigint not null,
  owner bytea,
  reason text collate "C",
  created_us bigint not null,
  updated_us bigint not null,
  finished_us bigint,
  trace_id text collate "C" not null,
  span_id text collate "C" not null,
  audit_id bytea,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id),
  check (state = 'running' or owner is null)
);
create index netra_webhook_task_created on netra_webhook_task (created_us, id);
create index netra_webhook_task_running on netra_webhook_task (tenant, id) where state = 'running';
create index netra_webhook_task_id on netra_webhook_task (id);

create trigger netra_webhook_task_audit_insert after insert on netra_webhook_task
for each row execute function netra_audit_by_id();
create trigger netra_webhook_task_audit_update after update of state, audit_id on netra_webhook_task
for each row when (new.audit_id is distinct from old.audit_id or (new.state <> old.state and new.state = 'cancelled'))
execute function netra_audit_by_id();

-- Until when a message's payload is kept, where that is shorter than the message. An erased payload is empty, which no JSON text is.
alter table netra_message add column payload_until_us bigint;
create index netra_message_payload_until on netra_message (payload_until_us, tenant, id) where payload_until_us is not null;

-- Who sees what, and what each may do; see 0001. A worker walks for one tenant at a time, in that tenant's name; the fleet only looks
-- which tasks there are. Payloads and answers are erased in the tenant's own scope.

alter table netra_webhook_task enable row level security, force row level security;
create policy of_tenant on netra_webhook_task to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_webhook_task for select to netra_fleet using (true);
create policy of_owner on netra_webhook_task to current_user using (true) with check (true);

revoke all on netra_webhook_task from public;
grant select, insert, update on netra_webhook_task to netra_run;
grant select on netra_webhook_task to netra_fleet;
grant update (payload, payload_until_us) on netra_message to netra_run;
grant update (response) on netra_attempt to netra_run;
