-- OAuth: client registrations, connections (grants of tenants), and successors that came too late.

-- What a tenant is registered as at a provider. `sealed` holds the client's secrets as one sealed JSON list; `first_secret` says which of
-- them the provider took last. `replay_window_s` is for how long the provider takes a refresh token again that it has answered:
-- 0 never, null nobody knows.
create table netra_oauth_client (
  tenant text not null,
  id blob not null,
  name text not null,
  issuer text,
  token_endpoints text not null,
  authorize_endpoint text,
  revoke_endpoint text,
  client_id text not null,
  auth text not null check (auth in ('basic', 'post', 'none')),
  sealed blob not null,
  first_secret integer not null,
  scopes text not null,
  replay_window_s integer,
  default_lifetime_s integer,
  created_us integer not null,
  updated_us integer not null,
  audit_id blob,
  primary key (tenant, id),
  unique (tenant, name),
  foreign key (tenant) references netra_tenant (tenant),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;

-- Lease, intent and token are one row, so that no two of them can disagree. `rt_fp` is the fingerprint of the current refresh token: the
-- lineage. `holder` and `fence` are the lease. `attempt_fp` is the intent: with which refresh token a request may have left,
-- `attempt_us` when it first did, `attempt_at` to which of the endpoints, `attempts` how often. `due_us` is when it is refreshed by itself, `retry_us` before when not again.
create table netra_connection (
  tenant text not null,
  id blob not null,
  name text not null,
  client blob not null,
  state text not null check (state in ('pending', 'active', 'at_risk', 'reauth_required', 'revoked', 'failed')),
  reason text,
  generation integer not null,
  access blob,
  refresh blob,
  rt_fp text,
  issued_us integer,
  expires_us integer,
  due_us integer,
  retry_us integer,
  holder blob,
  fence integer not null,
  attempt_fp text,
  attempt_us integer,
  attempt_at integer not null,
  attempts integer not null,
  failures integer not null,
  created_us integer not null,
  updated_us integer not null,
  deleted_us integer,
  audit_id blob,
  primary key (tenant, id),
  foreign key (tenant, client) references netra_oauth_client (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id),
  check (state <> 'revoked' or (access is null and refresh is null and rt_fp is null))
) strict;
create unique index netra_connection_name on netra_connection (tenant, name) where deleted_us is null;
create unique index netra_connection_lineage on netra_connection (tenant, rt_fp) where rt_fp is not null;
create index netra_connection_due on netra_connection (due_us) where due_us is not null;

-- Successors that came when their parent was not the current token any more: siblings of the current one.
create table netra_connection_orphan (
  tenant text not null,
  connection_id blob not null,
  rt_fp text not null,
  parent_generation integer not null,
  sealed blob not null,
  created_us integer not null,
  primary key (tenant, connection_id, rt_fp),
  foreign key (tenant, connection_id) references netra_connection (tenant, id)
) strict;

-- A user's way to the provider and back. `state_hash` stands for the `state` that comes back, once: whoever consumes it may send the code.
-- `verifier` is the sealed PKCE verifier, `generation` the connection's when the way began.
create table netra_connect_flow (
  tenant text not null,
  id blob not null,
  connection_id blob not null,
  state_hash blob not null,
  verifier blob not null,
  redirect_uri text not null,
  generation integer not null,
  expires_us integer not null,
  consumed_us integer,
  outcome text check (outcome in ('connected', 'refused', 'failed', 'expired')),
  reason text,
  created_us integer not null,
  primary key (tenant, id),
  foreign key (tenant, connection_id) references netra_connection (tenant, id)
) strict;
create unique index netra_connect_flow_state on netra_connect_flow (state_hash);
create index netra_connect_flow_open on netra_connect_flow (expires_us) where outcome is null;

create trigger netra_oauth_client_audit_insert after insert on netra_oauth_client begin
  select raise(abort, 'netra_audit: this change of netra_oauth_client has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_oauth_client' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_oauth_client_audit_update
after update of issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, scopes, replay_window_s, audit_id on netra_oauth_client begin
  select raise(abort, 'netra_audit: this change of netra_oauth_client has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_oauth_client' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
-- A refresh changes tokens by itself; what has an entry is every change of state, and whatever somebody decides.
create trigger netra_connection_audit_insert after insert on netra_connection begin
  select raise(abort, 'netra_audit: this change of netra_connection has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_connection' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_connection_audit_update
after update of state, deleted_us, audit_id on netra_connection
when new.audit_id is not old.audit_id or new.state <> old.state or new.deleted_us is not old.deleted_us begin
  select raise(abort, 'netra_audit: this change of netra_connection has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_connection' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
