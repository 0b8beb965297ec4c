-- A browser's session has a key of its own, which ends with the key that signed in: `parent` is that key's id, or the fingerprint of the
-- operator's key of the settings, which has no row. See server/sessions.py.
alter table netra_api_key add column parent blob;

drop trigger netra_api_key_audit_update;
create trigger netra_api_key_audit_update
after update of tenant, id, hash, name, scopes, expires_us, revoked_us, deleted_us, parent, audit_id on netra_api_key begin
  select raise(abort, 'netra_audit: this change of netra_api_key has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_api_key' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
