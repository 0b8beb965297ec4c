-- Metrics: what each process has added to each series, so that any server shows the sum of all.

-- A row of the node of zeroes holds what processes that are gone had added. A tenant's name may be a label: only the operator sees these.
create table netra_metric (
  node bytea not null,
  name text collate "C" not null,
  labels text collate "C" not null,
  value double precision not null,
  primary key (node, name, labels)
);

revoke all on netra_metric from public;
grant select, insert, update, delete on netra_metric to netra_run, netra_fleet;
