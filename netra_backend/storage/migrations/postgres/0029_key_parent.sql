-- A browser's session has a key of its own, which ends with the key that signed in: `parent` is that key's id, or the fingerprint of the
-- operator's key of the settings, which has no row. See server/sessions.py.
alter table netra_api_key add column parent bytea;

drop trigger netra_api_key_audit_update on netra_api_key;
create trigger netra_api_key_audit_update
after update of tenant, id, hash, name, scopes, expires_us, revoked_us, deleted_us, parent, audit_id on netra_api_key
for each row execute function netra_audit_by_id();
