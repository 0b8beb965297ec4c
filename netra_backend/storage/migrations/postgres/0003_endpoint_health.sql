-- Endpoint health: the breaker that all processes share, and the time before which a receiver wants nothing.

-- Changed by compare-and-swap over the breaker's columns; see resilience/circuit_breaker.py for what they mean. An endpoint
-- that was always well has no row. No decision of anybody's, so not audited. `prober` is the node with the one probe.
create table netra_endpoint_health (
  tenant text collate "C" not null,
  endpoint_id bytea not null,
  phase text collate "C" not null check (phase in ('closed', 'open', 'half_open')),
  since_us bigint not null,
  until_us bigint not null,
  openings bigint not null,
  slow_limit bigint not null,
  credit bigint not null,
  prober bytea,
  gate_us bigint not null,
  primary key (tenant, endpoint_id),
  foreign key (tenant, endpoint_id) references netra_endpoint (tenant, id),
  check ((phase = 'half_open') = (prober is not null))
);
create index netra_endpoint_unwell on netra_endpoint_health (tenant, endpoint_id) where phase <> 'closed' or slow_limit > 0 or gate_us > 0;

-- Who sees what, and what each may do; see 0001. A tenant's change of an endpoint resets it, the fleet does the rest.

alter table netra_endpoint_health enable row level security, force row level security;
create policy of_tenant on netra_endpoint_health to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_endpoint_health to netra_fleet using (true) with check (true);
create policy of_owner on netra_endpoint_health to current_user using (true) with check (true);

revoke all on netra_endpoint_health from public;
grant select, insert, update on netra_endpoint_health to netra_run;
grant select, insert on netra_endpoint_health to netra_fleet;
grant update (phase, since_us, until_us, openings, slow_limit, credit, prober, gate_us) on netra_endpoint_health to netra_fleet;
