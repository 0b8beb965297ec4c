-- Operators' verbs over many messages, and payloads that are erased before their messages go.

-- A walk over a tenant's messages by (created_us, id): see webhooks/tasks.py. The cursor and the counters stand in the row that each page's own
-- transaction changes. `owner` is the node that walks just now. `audit_id` names the decision (the start, a cancellation) that last changed it.
create table netra_webhook_task (
  tenant text not null,
  id blob not null,
  kind text not null check (kind in ('recover', 'redrive', 'replay_missing', 'bulk_replay', 'cancel')),
  state text not null check (state in ('running', 'finished', 'cancelled', 'failed')),
  parameters text not null,
  after_us integer not null,
  after_id blob not null,
  done integer not null,
  changed integer not null,
  owner blob,
  reason text,
  created_us integer not null,
  updated_us integer not null,
  finished_us integer,
  trace_id text not null,
  span_id text not null,
  audit_id blob,
  primary key (tenant, id),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id),
  check (state = 'running' or owner is null)
) strict;
create index netra_webhook_task_created on netra_webhook_task (created_us, id);
create index netra_webhook_task_running on netra_webhook_task (tenant, id) where state = 'running';
create index netra_webhook_task_id on netra_webhook_task (id);

create trigger netra_webhook_task_audit_insert after insert on netra_webhook_task begin
  select raise(abort, 'netra_audit: this change of netra_webhook_task has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_webhook_task' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_webhook_task_audit_update after update of state, audit_id on netra_webhook_task
when new.audit_id is not old.audit_id or (new.state <> old.state and new.state = 'cancelled') begin
  select raise(abort, 'netra_audit: this change of netra_webhook_task has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_webhook_task' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

-- Until when a message's payload is kept, where that is shorter than the message. An erased payload is empty, which no JSON text is.
alter table netra_message add column payload_until_us integer;
create index netra_message_payload_until on netra_message (payload_until_us, tenant, id) where payload_until_us is not null;
