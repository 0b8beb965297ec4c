-- Endpoints that are sent to with a token of the vault: `auth` names a connection of the same tenant.

-- A name, and no reference: the connection may be made later, deleted, and made again; meanwhile nothing is sent (webhooks/sender.py).
alter table netra_endpoint add column auth text;

drop trigger netra_endpoint_audit_update;
create trigger netra_endpoint_audit_update
after update of uid, url, description, event_types, channels, disabled, rate_limit, metadata, headers, ordering, filter, schedule, auth, deleted_us, audit_id
on netra_endpoint begin
  select raise(abort, 'netra_audit: this change of netra_endpoint has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_endpoint' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
