-- Business KPIs: definitions of the installation, the objects that they are about, and their figures by the minute.

-- `definition` is JSON; see observability/kpi/model.py. What changes how events are judged makes a new row and buries the old one.
create table netra_kpi (
  tenant text not null,
  id blob not null,
  name text not null,
  definition text not null,
  created_us integer not null,
  updated_us integer not null,
  deleted_us integer,
  audit_id blob not null,
  primary key (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;
create unique index netra_kpi_name on netra_kpi (tenant, name) where deleted_us is null;

create trigger netra_kpi_audit_insert after insert on netra_kpi begin
  select raise(abort, 'netra_audit: this change of netra_kpi has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_kpi' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_kpi_audit_update after update of name, definition, deleted_us, audit_id on netra_kpi begin
  select raise(abort, 'netra_audit: this change of netra_kpi has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_kpi' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_kpi_tombstone before delete on netra_kpi when old.deleted_us is null begin
  select raise(abort, 'netra_audit: a row of netra_kpi is deleted by a tombstone update first');
end;

-- One thing that was promised: an invoice, an order. Times are the earliest of each kind of event about it, so that their order does
-- not matter. `next_us` is when time alone changes its result, `turned_us` when time alone last did, `keep_us` until when it is kept.
create table netra_kpi_object (
  tenant text not null,
  kpi blob not null,
  key text not null,
  total_us integer,
  total_ref text,
  value integer not null,
  message blob,
  trace_id text not null,
  good_us integer,
  good_same_us integer,
  dead_us integer,
  dead_same_us integer,
  result text not null check (result in ('waiting', 'pending', 'good', 'late', 'lost')),
  next_us integer,
  turned_us integer,
  judged_us integer,
  keep_us integer,
  cause text,
  primary key (tenant, kpi, key)
) strict, without rowid;
create index netra_kpi_object_next on netra_kpi_object (next_us) where next_us is not null;
create index netra_kpi_object_turned on netra_kpi_object (turned_us) where turned_us is not null;
create index netra_kpi_object_keep on netra_kpi_object (keep_us) where keep_us is not null;
create index netra_kpi_object_missed on netra_kpi_object (kpi, total_us) where result = 'late' or result = 'lost';
create index netra_kpi_object_trace on netra_kpi_object (tenant, trace_id) where trace_id <> '';

-- Figures by the minute in which the object was promised; `met` and `missed` by the minute in which it was judged. The rows of the
-- tenant '*' are the sums over all tenants.
create table netra_kpi_bucket (
  tenant text not null,
  kpi blob not null,
  minute_us integer not null,
  total integer not null,
  good integer not null,
  late integer not null,
  lost integer not null,
  value integer not null,
  value_good integer not null,
  value_late integer not null,
  value_lost integer not null,
  met integer not null,
  missed integer not null,
  primary key (tenant, kpi, minute_us)
) strict, without rowid;
create index netra_kpi_bucket_minute on netra_kpi_bucket (minute_us);

-- Which alert of a KPI fires, and since when.
create table netra_kpi_alert (
  tenant text not null,
  kpi blob not null,
  rule text not null,
  firing integer not null check (firing in (0, 1)),
  since_us integer not null,
  primary key (tenant, kpi, rule)
) strict, without rowid;
