-- The roles that keep tenants apart, made by the owner of the database with `netra migrate --create-roles`.
--
-- They belong to the whole server: databases on one server share them, so a second run changes nothing. `netra_run` gets
-- its password from whoever runs this. What each may do is granted by the migrations, table by table.

do $$
declare
  wrong text;
begin
  -- Granted to an adopting user's own role: enough to send and receive in that user's transactions.
  if to_regrole('netra_app') is null then
    create role netra_app nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
  end if;

  -- What Netra logs in as. `noinherit`: as a member of `netra_fleet` it has that role's rights only after `set local role`.
  if to_regrole('netra_run') is null then
    create role netra_run login noinherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
  end if;

  -- Serves all tenants; entered for one transaction by the statements on the fleet list.
  if to_regrole('netra_fleet') is null then
    create role netra_fleet nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
  end if;

  -- A role that stood here before keeps what it has, because only a superuser may take some of it away: it is refused.
  select string_agg(rolname, ', ' order by rolname) into wrong from pg_roles
  where rolname in ('netra_app', 'netra_run', 'netra_fleet')
    and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
         or rolcanlogin <> (rolname = 'netra_run') or (rolname = 'netra_run' and rolinherit));
  if wrong is not null then
    raise exception 'netra_roles: % exists with other rights than Netra gives', wrong
      using errcode = 'duplicate_object', hint = 'Drop it, or alter it as a superuser to what postgres_roles.sql creates.';
  end if;

  -- Only if it is missing: whoever runs this a second time need not be the one who may grant it.
  if not exists (select from pg_auth_members
                 where roleid = to_regrole('netra_fleet') and member = to_regrole('netra_run')) then
    grant netra_fleet to netra_run;
  end if;

  -- A membership that was granted `with inherit` would give netra_run every tenant's rows at all times.
  if pg_has_role('netra_run', 'netra_fleet', 'usage') then
    raise exception 'netra_roles: netra_run inherits netra_fleet'
      using errcode = 'invalid_grant_operation', hint = 'Revoke netra_fleet from netra_run, then run this again.';
  end if;

  -- A way into the fleet other than netra_run's is a way round every policy.
  select string_agg(m.member::regrole::text, ', ') into wrong from pg_auth_members m join pg_roles r on r.oid = m.member
  where m.roleid = to_regrole('netra_fleet') and r.rolname <> 'netra_run' and not r.rolsuper
    and not (r.rolcreaterole and m.admin_option);
  if wrong is not null then
    raise exception 'netra_roles: % may act as netra_fleet', wrong
      using errcode = 'invalid_grant_operation', hint = 'Revoke netra_fleet from it; only netra_run may enter that role.';
  end if;
end $$;
