-- OAuth: connections by an assertion that the client signs (RFC 7523 section 2.1).

-- `assertion` is what it says, as JSON; `assertion_key` is the sealed private key that signs it. Both or neither.
alter table netra_oauth_client add column assertion text collate "C";
alter table netra_oauth_client add column assertion_key bytea;

drop trigger netra_oauth_client_audit_update on netra_oauth_client;
create trigger netra_oauth_client_audit_update
after update of issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, scopes, replay_window_s, provider, device_endpoint, idle_s, assertion, assertion_key, audit_id on netra_oauth_client
for each row execute function netra_audit_by_id();

-- A third kind.
alter table netra_connection drop constraint netra_connection_kind_check;
alter table netra_connection add constraint netra_connection_kind_check check (kind in ('client_credentials', 'jwt_bearer', 'api_key'));
