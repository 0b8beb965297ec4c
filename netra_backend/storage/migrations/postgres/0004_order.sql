-- Deliveries in order, and filters over payloads.

-- How messages to an endpoint follow each other: in no order (null), all in one line, or in a line for each ordering key. `filter` is an
-- expression over a message (kernel/expression.py); only messages that it holds for go there.
alter table netra_endpoint add column ordering text collate "C" check (ordering in ('endpoint', 'key'));
alter table netra_endpoint add column filter text collate "C";

drop trigger netra_endpoint_audit_update on netra_endpoint;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, deleted_us, audit_id
on netra_endpoint
for each row execute function netra_audit_by_id();

alter table netra_message add column ordering_key text collate "C";

-- Where a delivery stands in its line; see webhooks/lines.py. One that waits for the one before it is due in the year 9999.
alter table netra_delivery add column line text collate "C";
alter table netra_delivery add column place bigint;
create unique index netra_delivery_line on netra_delivery (tenant, endpoint_id, line, place) where line is not null and (state = 'due' or state = 'leased');

-- The last number that was given out in each line, changed in the transaction that takes it: its row is the line's lock.
create table netra_line (
  tenant text collate "C" not null,
  endpoint_id bytea not null,
  line text collate "C" not null,
  last_place bigint not null,
  used_us bigint not null,
  primary key (tenant, endpoint_id, line),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id)
);

-- Who sees what, and what each may do; see 0001. Whoever sends takes a number, so an adopting user too.

alter table netra_line enable row level security, force row level security;
create policy of_tenant on netra_line to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_line to netra_fleet using (true) with check (true);
create policy of_owner on netra_line to current_user using (true) with check (true);

revoke all on netra_line from public;
grant select, insert, update (last_place, used_us) on netra_line to netra_app;
grant select, insert, update on netra_line to netra_run;
grant select, insert, update (last_place, used_us) on netra_line to netra_fleet;
