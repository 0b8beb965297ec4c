-- Endpoints that are sent to with a token of the vault: `auth` names a connection of the same tenant.

-- A name, and no reference: the connection may be made later, deleted, and made again; meanwhile nothing is sent (webhooks/sender.py).
alter table netra_endpoint add column auth text collate "C";

drop trigger netra_endpoint_audit_update on netra_endpoint;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, schedule, auth, deleted_us, audit_id
on netra_endpoint
for each row execute function netra_audit_by_id();
