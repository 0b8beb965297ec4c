-- Retry schedules of one's own, and how long an endpoint has been failing.

-- `schedule` is a preset's name or a list of delays (kernel/backoff.py): the message's own, else the endpoint's, else the event type's,
-- else the installation's.
alter table netra_endpoint add column schedule text collate "C";
alter table netra_event_type add column schedule text collate "C";
alter table netra_message add column schedule text collate "C";

drop trigger netra_endpoint_audit_update on netra_endpoint;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, schedule, deleted_us, audit_id
on netra_endpoint
for each row execute function netra_audit_by_id();
drop trigger netra_event_type_audit_update on netra_event_type;
create trigger netra_event_type_audit_update
after update of description, archived, deprecated, group_name, schemas, schedule, deleted_us, audit_id on netra_event_type
for each row execute function netra_audit_event_type();

-- An endpoint that fails: since when, and when last; the time that it has failed by then, in which a step of the clock counts for
-- little; the attempts that failed without a success between them; and how many warnings were given. See webhooks/failing.py.
alter table netra_endpoint_health add column failing_since_us bigint;
alter table netra_endpoint_health add column failed_us bigint;
alter table netra_endpoint_health add column failing_us bigint;
alter table netra_endpoint_health add column failures bigint;
alter table netra_endpoint_health add column warned bigint;
drop index netra_endpoint_unwell;
create index netra_endpoint_unwell on netra_endpoint_health (tenant, endpoint_id) where phase <> 'closed' or slow_limit > 0 or gate_us > 0 or failing_since_us is not null;

grant update (failing_since_us, failed_us, failing_us, failures, warned) on netra_endpoint_health to netra_fleet;
