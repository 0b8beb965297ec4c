-- Endpoint health: the breaker that all processes share, and the time before which a receiver wants nothing.

-- Changed by compare-and-swap over the breaker's columns; see resilience/circuit_breaker.py for what they mean. An endpoint
-- that was always well has no row. No decision of anybody's, so not audited. `prober` is the node with the one probe.
create table netra_endpoint_health (
  tenant text not null,
  endpoint_id blob not null,
  phase text not null check (phase in ('closed', 'open', 'half_open')),
  since_us integer not null,
  until_us integer not null,
  openings integer not null,
  slow_limit integer not null,
  credit integer not null,
  prober blob,
  gate_us integer not null,
  primary key (tenant, endpoint_id),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id),
  check ((phase = 'half_open') = (prober is not null))
) strict, without rowid;
create index netra_endpoint_unwell on netra_endpoint_health (tenant, endpoint_id) where phase <> 'closed' or slow_limit > 0 or gate_us > 0;
