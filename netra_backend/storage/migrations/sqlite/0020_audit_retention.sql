-- The retention of audit entries: what a log has given away, and said so in an entry, may be deleted; nothing else ever.

drop trigger netra_audit_entry_stays;
create trigger netra_audit_entry_stays before delete on netra_audit_entry
when not exists (select 1 from netra_audit_log l join netra_audit_page p on p.tenant = l.tenant
                 where l.tenant = old.tenant and p.number * 256 < l.minimum
                   and p.lowest <= old.id and p.highest >= old.id and instr(p.ids, old.id) > 0) begin
  select raise(abort, 'netra_audit: an audit entry is never deleted');
end;
drop trigger netra_audit_use_stays;
create trigger netra_audit_use_stays before delete on netra_audit_use
when not exists (select 1 from netra_audit_log l join netra_audit_page p on p.tenant = l.tenant
                 where l.tenant = old.tenant and p.number * 256 < l.minimum
                   and p.lowest <= old.audit_id and p.highest >= old.audit_id and instr(p.ids, old.audit_id) > 0) begin
  select raise(abort, 'netra_audit: the use of an audit entry is never deleted');
end;
