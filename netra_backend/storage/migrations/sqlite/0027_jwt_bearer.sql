-- OAuth: connections by an assertion that the client signs (RFC 7523 section 2.1).

-- `assertion` is what it says, as JSON; `assertion_key` is the sealed private key that signs it. Both or neither.
alter table netra_oauth_client add column assertion text;
alter table netra_oauth_client add column assertion_key blob;

drop trigger netra_oauth_client_audit_update;
create trigger netra_oauth_client_audit_update
after update of issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, scopes, replay_window_s, provider, device_endpoint, idle_s, assertion, assertion_key, audit_id on netra_oauth_client begin
  select raise(abort, 'netra_audit: this change of netra_oauth_client has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_oauth_client' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;

-- A third kind. SQLite changes no check, so the column is made anew under its own name, which the previous release goes on reading.
alter table netra_connection add column another_kind text check (another_kind in ('client_credentials', 'jwt_bearer', 'api_key'));
update netra_connection set another_kind = kind where kind is not null;
alter table netra_connection drop column kind;
alter table netra_connection rename column another_kind to kind;
