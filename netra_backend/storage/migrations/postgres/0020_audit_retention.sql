-- The retention of audit entries: what a log has given away, and said so in an entry, may be deleted; nothing else ever.

create function netra_audit_given_away(its_tenant text, its_entry bytea) returns boolean language sql stable
set search_path = pg_catalog, public, pg_temp as $$
  select exists (select from netra_audit_log l join netra_audit_page p on p.tenant = l.tenant
                 where l.tenant = its_tenant and p.number * 256 < l.minimum
                   and p.lowest <= its_entry and p.highest >= its_entry and position(its_entry in p.ids) > 0)
$$;
create function netra_audit_entry_given_away() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if not netra_audit_given_away(old.tenant, old.id) then
    raise exception 'netra_audit: an audit entry is never deleted' using errcode = 'integrity_constraint_violation';
  end if;
  return old;
end $$;
create function netra_audit_use_given_away() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if not netra_audit_given_away(old.tenant, old.audit_id) then
    raise exception 'netra_audit: the use of an audit entry is never deleted' using errcode = 'integrity_constraint_violation';
  end if;
  return old;
end $$;
revoke all on function netra_audit_given_away, netra_audit_entry_given_away, netra_audit_use_given_away from public;
grant execute on function netra_audit_given_away to netra_run;

drop trigger netra_audit_entry_stays on netra_audit_entry;
create trigger netra_audit_entry_stays before delete on netra_audit_entry
for each row execute function netra_audit_entry_given_away();
drop trigger netra_audit_use_stays on netra_audit_use;
create trigger netra_audit_use_stays before delete on netra_audit_use
for each row execute function netra_audit_use_given_away();

grant delete on netra_audit_entry, netra_audit_use to netra_run;
