-- Metrics: what each process has added to each series, so that any server shows the sum of all.

-- A row of the node of zeroes holds what processes that are gone had added. A tenant's name may be a label: only the operator sees these.
create table netra_metric (
  node blob not null,
  name text not null,
  labels text not null,
  value real not null,
  primary key (node, name, labels)
) strict, without rowid;
