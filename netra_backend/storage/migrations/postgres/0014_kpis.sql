-- Business KPIs: definitions of the installation, the objects that they are about, and their figures by the minute.

-- `definition` is JSON; see observability/kpi/model.py. What changes how events are judged makes a new row and buries the old one.
create table netra_kpi (
  tenant text collate "C" not null,
  id bytea not null,
  name text collate "C" not null,
  definition text collate "C" not null,
  created_us bigint not null,
  updated_us bigint not null,
  deleted_us bigint,
  audit_id bytea not null,
  primary key (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);
create unique index netra_kpi_name on netra_kpi (tenant, name) where deleted_us is null;

create trigger netra_kpi_audit_insert after insert on netra_kpi
for each row execute function netra_audit_by_id();
create trigger netra_kpi_audit_update after update of name, definition, deleted_us, audit_id on netra_kpi
for each row execute function netra_audit_by_id();
create trigger netra_kpi_tombstone before delete on netra_kpi
for each row execute function netra_audit_tombstone();

-- One thing that was promised: an invoice, an order. Times are the earliest of each kind of event about it, so that their order does
-- not matter. `next_us` is when time alone changes its result, `turned_us` when time alone last did, `keep_us` until when it is kept.
create table netra_kpi_object (
  tenant text collate "C" not null,
  kpi bytea not null,
  key text collate "C" not null,
  total_us bigint,
  total_ref text collate "C",
  value bigint not null,
  message bytea,
  trace_id text collate "C" not null,
  good_us bigint,
  good_same_us bigint,
  dead_us bigint,
  dead_same_us bigint,
  result text collate "C" not null check (result in ('waiting', 'pending', 'good', 'late', 'lost')),
  next_us bigint,
  turned_us bigint,
  judged_us bigint,
  keep_us bigint,
  cause text collate "C",
  primary key (tenant, kpi, key)
);
create index netra_kpi_object_next on netra_kpi_object (next_us) where next_us is not null;
create index netra_kpi_object_turned on netra_kpi_object (turned_us) where turned_us is not null;
create index netra_kpi_object_keep on netra_kpi_object (keep_us) where keep_us is not null;
create index netra_kpi_object_missed on netra_kpi_object (kpi, total_us) where result = 'late' or result = 'lost';
create index netra_kpi_object_trace on netra_kpi_object (tenant, trace_id) where trace_id <> '';

-- Figures by the minute in which the object was promised; `met` and `missed` by the minute in which it was judged. The rows of the
-- tenant '*' are the sums over all tenants.
create table netra_kpi_bucket (
  tenant text collate "C" not null,
  kpi bytea not null,
  minute_us bigint not null,
  total bigint not null,
  good bigint not null,
  late bigint not null,
  lost bigint not null,
  value bigint not null,
  value_good bigint not null,
  value_late bigint not null,
  value_lost bigint not null,
  met bigint not null,
  missed bigint not null,
  primary key (tenant, kpi, minute_us)
);
create index netra_kpi_bucket_minute on netra_kpi_bucket (minute_us);

-- Which alert of a KPI fires, and since when.
create table netra_kpi_alert (
  tenant text collate "C" not null,
  kpi bytea not null,
  rule text collate "C" not null,
  firing bigint not null check (firing in (0, 1)),
  since_us bigint not null,
  primary key (tenant, kpi, rule)
);

-- Who sees what, and what each may do; see 0001. Definitions and alerts are the installation's; objects and figures are written by the
-- one process that follows the log for all tenants, and read by each tenant.
alter table netra_kpi enable row level security, force row level security;
create policy of_tenant on netra_kpi to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_kpi to current_user using (true) with check (true);

alter table netra_kpi_alert enable row level security, force row level security;
create policy of_tenant on netra_kpi_alert to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_kpi_alert to current_user using (true) with check (true);

alter table netra_kpi_object enable row level security, force row level security;
create policy of_tenant on netra_kpi_object for select to netra_run using (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_kpi_object to netra_fleet using (true) with check (true);
create policy of_owner on netra_kpi_object to current_user using (true) with check (true);

alter table netra_kpi_bucket enable row level security, force row level security;
create policy of_tenant on netra_kpi_bucket for select to netra_run using (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_kpi_bucket to netra_fleet using (true) with check (true);
create policy of_owner on netra_kpi_bucket to current_user using (true) with check (true);

revoke all on netra_kpi, netra_kpi_alert, netra_kpi_object, netra_kpi_bucket from public;
grant select, insert, update on netra_kpi, netra_kpi_alert to netra_run;
grant select on netra_kpi_object, netra_kpi_bucket to netra_run;
grant select, insert, update, delete on netra_kpi_object, netra_kpi_bucket to netra_fleet;
