-- OAuth: presets of providers, grants that need no refresh token, links and devices.

-- `provider` is the preset that the registration was filled from, `idle_s` after how long without a use the provider ends a grant.
alter table netra_oauth_client add column provider text;
alter table netra_oauth_client add column device_endpoint text;
alter table netra_oauth_client add column idle_s integer;

drop trigger netra_oauth_client_audit_update;
create trigger netra_oauth_client_audit_update
after update of issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, scopes, replay_window_s, provider, device_endpoint, idle_s, audit_id on netra_oauth_client begin
  select raise(abort, 'netra_audit: this change of netra_oauth_client has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_oauth_client' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

-- What a connection is, where it is no grant of a user: `client_credentials` asks anew by the client's own right and keeps in `refresh` a name
-- of its own making, for the lineage; `api_key` is kept as it is.
alter table netra_connection add column kind text check (kind in ('client_credentials', 'api_key'));

-- How a user is sent: null by an address at once; `link` by a page that he opens once (`followed_us`); `device` by a code that he
-- types elsewhere while we ask (`poll_us` when next, `interval_s` how often), with the sealed device code for a verifier.
alter table netra_connect_flow add column kind text check (kind in ('link', 'device'));
alter table netra_connect_flow add column followed_us integer;
alter table netra_connect_flow add column poll_us integer;
alter table netra_connect_flow add column interval_s integer;
create index netra_connect_flow_poll on netra_connect_flow (poll_us) where poll_us is not null;
