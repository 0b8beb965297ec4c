-- Retry schedules of one's own, and how long an endpoint has been failing.

-- `schedule` is a preset's name or a list of delays (kernel/backoff.py): the message's own, else the endpoint's, else the event type's,
-- else the installation's.
alter table netra_endpoint add column schedule text;
alter table netra_event_type add column schedule text;
alter table netra_message add column schedule text;

drop trigger netra_endpoint_audit_update;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, schedule, deleted_us, audit_id
on netra_endpoint begin
  select raise(abort, 'netra_audit: this change of netra_endpoint has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
drop trigger netra_event_type_audit_update;
create trigger netra_event_type_audit_update
after update of description, archived, deprecated, group_name, schemas, schedule, deleted_us, audit_id on netra_event_type begin
  select raise(abort, 'netra_audit: this change of netra_event_type has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_event_type' and e.target = new.name);
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

-- An endpoint that fails: since when, and when last; the time that it has failed by then, in which a step of the clock counts for
-- little; the attempts that failed without a success between them; and how many warnings were given. See webhooks/failing.py.
alter table netra_endpoint_health add column failing_since_us integer;
alter table netra_endpoint_health add column failed_us integer;
alter table netra_endpoint_health add column failing_us integer;
alter table netra_endpoint_health add column failures integer;
alter table netra_endpoint_health add column warned integer;
drop index netra_endpoint_unwell;
create index netra_endpoint_unwell on netra_endpoint_health (tenant, endpoint_id) where phase <> 'closed' or slow_limit > 0 or gate_us > 0 or failing_since_us is not null;
