-- OAuth: client registrations, connections (grants of tenants), and successors that came too late.

-- What a tenant is registered as at a provider. `sealed` holds the client's secrets as one sealed JSON list; `first_secret` says which of
-- them the provider took last. `replay_window_s` is for how long the provider takes a refresh token again that it has answered:
-- 0 never, null nobody knows.
create table netra_oauth_client (
  tenant text collate "C" not null,
  id bytea not null,
  name text collate "C" not null,
  issuer text collate "C",
  token_endpoints text collate "C" not null,
  authorize_endpoint text collate "C",
  revoke_endpoint text collate "C",
  client_id text collate "C" not null,
  auth text collate "C" not null check (auth in ('basic', 'post', 'none')),
  sealed bytea not null,
  first_secret bigint not null,
  scopes text collate "C" not null,
  replay_window_s bigint,
  default_lifetime_s bigint,
  created_us bigint not null,
  updated_us bigint not null,
  audit_id bytea,
  primary key (tenant, id),
  unique (tenant, name),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- Lease, intent and token are one row, so that no two of them can disagree. `rt_fp` is the fingerprint of the current refresh token: the
-- lineage. `holder` and `fence` are the lease. `attempt_fp` is the intent: with which refresh token a request may have left,
-- `attempt_us` when it first did, `attempt_at` to which of the endpoints, `attempts` how often. `due_us` is when it is refreshed by itself, `retry_us` before when not again.
create table netra_connection (
  tenant text collate "C" not null,
  id bytea not null,
  name text collate "C" not null,
  client bytea not null,
  state text collate "C" not null check (state in ('pending', 'active', 'at_risk', 'reauth_required', 'revoked', 'failed')),
  reason text collate "C",
  generation bigint not null,
  access bytea,
  refresh bytea,
  rt_fp text collate "C",
  issued_us bigint,
  expires_us bigint,
  due_us bigint,
  retry_us bigint,
  holder bytea,
  fence bigint not null,
  attempt_fp text collate "C",
  attempt_us bigint,
  attempt_at bigint not null,
  attempts bigint not null,
  failures bigint not null,
  created_us bigint not null,
  updated_us bigint not null,
  deleted_us bigint,
  audit_id bytea,
  primary key (tenant, id),
  foreign key (tenant, client) references netra_oauth_client (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id),
  check (state <> 'revoked' or (access is null and refresh is null and rt_fp is null))
);
create unique index netra_connection_name on netra_connection (tenant, name) where deleted_us is null;
create unique index netra_connection_lineage on netra_connection (tenant, rt_fp) where rt_fp is not null;
create index netra_connection_due on netra_connection (due_us) where due_us is not null;

-- Successors that came when their parent was not the current token any more: siblings of the current one.
create table netra_connection_orphan (
  tenant text collate "C" not null,
  connection_id bytea not null,
  rt_fp text collate "C" not null,
  parent_generation bigint not null,
  sealed bytea not null,
  created_us bigint not null,
  primary key (tenant, connection_id, rt_fp),
  foreign key (tenant, connection_id) references netra_connection (tenant, id)
);

-- A user's way to the provider and back. `state_hash` stands for the `state` that comes back, once: whoever consumes it may send the code.
-- `verifier` is the sealed PKCE verifier, `generation` the connection's when the way began.
create table netra_connect_flow (
  tenant text collate "C" not null,
  id bytea not null,
  connection_id bytea not null,
  state_hash bytea not null,
  verifier bytea not null,
  redirect_uri text collate "C" not null,
  generation bigint not null,
  expires_us bigint not null,
  consumed_us bigint,
  outcome text collate "C" check (outcome in ('connected', 'refused', 'failed', 'expired')),
  reason text collate "C",
  created_us bigint not null,
  primary key (tenant, id),
  foreign key (tenant, connection_id) references netra_connection (tenant, id)
);
create unique index netra_connect_flow_state on netra_connect_flow (state_hash);
create index netra_connect_flow_open on netra_connect_flow (expires_us) where outcome is null;

create trigger netra_oauth_client_audit_insert after insert on netra_oauth_client
for each row execute function netra_audit_by_id();
create trigger netra_oauth_client_audit_update
after update of issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, scopes, replay_window_s, audit_id on netra_oauth_client
for each row execute function netra_audit_by_id();
-- A refresh changes tokens by itself; what has an entry is every change of state, and whatever somebody decides.
create trigger netra_connection_audit_insert after insert on netra_connection
for each row execute function netra_audit_by_id();
create trigger netra_connection_audit_update
after update of state, deleted_us, audit_id on netra_connection
for each row when (new.audit_id is distinct from old.audit_id or new.state <> old.state or new.deleted_us is distinct from old.deleted_us)
execute function netra_audit_by_id();

-- Who sees what, and what each may do; see 0001. A vault works in its tenant's name; the fleet looks which connections are due and
-- which have a newer generation, and may read no token.

alter table netra_oauth_client enable row level security, force row level security;
create policy of_tenant on netra_oauth_client to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_oauth_client to current_user using (true) with check (true);

alter table netra_connection enable row level security, force row level security;
create policy of_tenant on netra_connection to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_connection for select to netra_fleet using (true);
create policy of_owner on netra_connection to current_user using (true) with check (true);

alter table netra_connection_orphan enable row level security, force row level security;
create policy of_tenant on netra_connection_orphan to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_connection_orphan to current_user using (true) with check (true);

alter table netra_connect_flow enable row level security, force row level security;
create policy of_tenant on netra_connect_flow to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_connect_flow for select to netra_fleet using (true);
create policy of_owner on netra_connect_flow to current_user using (true) with check (true);

revoke all on netra_oauth_client, netra_connection, netra_connection_orphan, netra_connect_flow from public;
grant select, insert, update on netra_oauth_client, netra_connection to netra_run;
grant select, insert, update on netra_connect_flow to netra_run;
grant select (tenant, id, state_hash, outcome, expires_us) on netra_connect_flow to netra_fleet;
grant select, insert, delete on netra_connection_orphan to netra_run;
grant select (tenant, id, generation, state, due_us, retry_us) on netra_connection to netra_fleet;
