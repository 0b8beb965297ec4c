-- Deliveries in order, and filters over payloads.

-- How messages to an endpoint follow each other: in no order (null), all in one line, or in a line for each ordering key. `filter` is an
-- expression over a message (kernel/expression.py); only messages that it holds for go there.
alter table netra_endpoint add column ordering text check (ordering in ('endpoint', 'key'));
alter table netra_endpoint add column filter text;

drop trigger netra_endpoint_audit_update;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, deleted_us, audit_id
on netra_endpoint begin
  select raise(abort, 'netra_audit: this change of netra_endpoint has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

alter table netra_message add column ordering_key text;

-- Where a delivery stands in its line; see webhooks/lines.py. One that waits for the one before it is due in the year 9999.
alter table netra_delivery add column line text;
alter table netra_delivery add column place integer;
create unique index netra_delivery_line on netra_delivery (tenant, endpoint_id, line, place) where line is not null and (state = 'due' or state = 'leased');

-- The last number that was given out in each line, changed in the transaction that takes it: its row is the line's lock.
create table netra_line (
  tenant text not null,
  endpoint_id blob not null,
  line text not null,
  last_place integer not null,
  used_us integer not null,
  primary key (tenant, endpoint_id, line),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id)
) strict, without rowid;
