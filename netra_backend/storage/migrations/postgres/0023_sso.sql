-- Single sign-on: a tenant's identity providers, which of them new logins go to, and who is who at each issuer.

-- A provider is a client registration that people log in by. `rank` is the order of preference, `options` JSON: algorithms, roles.
create table netra_sso_provider (
  tenant text collate "C" not null,
  id bytea not null,
  name text collate "C" not null,
  client bytea not null,
  rank bigint not null,
  enabled bigint not null check (enabled in (0, 1)),
  options text collate "C" not null,
  created_us bigint not null,
  updated_us bigint not null,
  audit_id bytea,
  primary key (tenant, id),
  unique (tenant, name),
  foreign key (tenant, client) references netra_oauth_client (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- Where a tenant's new logins go (`purpose` is `login`; nothing else is led yet). `active` and `pinned` are providers' names, `share` is per cent of the logins for the one that comes
-- back; `body` is JSON: health by issuer and operation, and the times, on a clock of the row's own. It is swapped by `version`.
create table netra_sso_rotation (
  tenant text collate "C" not null,
  id bytea not null,
  purpose text collate "C" not null,
  version bigint not null,
  active text collate "C" not null,
  pinned text collate "C",
  share bigint not null,
  body text collate "C" not null,
  created_us bigint not null,
  updated_us bigint not null,
  audit_id bytea,
  primary key (tenant, id),
  unique (tenant, purpose),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- A person at an issuer: tenant, issuer and subject, never an address. `linked` is the identity that this one stands for when the
-- first issuer is down; `role` is what the issuer's own claims gave at the last login.
create table netra_sso_identity (
  tenant text collate "C" not null,
  id bytea not null,
  issuer text collate "C" not null,
  subject text collate "C" not null,
  linked bytea,
  role text collate "C" check (role in ('viewer', 'admin')),
  created_us bigint not null,
  updated_us bigint not null,
  audit_id bytea,
  primary key (tenant, id),
  unique (tenant, issuer, subject),
  foreign key (tenant, linked) references netra_sso_identity (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id),
  check (linked is null or linked <> id)
);

create trigger netra_sso_provider_audit_insert after insert on netra_sso_provider
for each row execute function netra_audit_by_id();
create trigger netra_sso_provider_audit_update
after update of client, rank, enabled, options, audit_id on netra_sso_provider
for each row when (new.client is distinct from old.client or new.rank is distinct from old.rank or new.enabled is distinct from old.enabled or new.options is distinct from old.options or new.audit_id is distinct from old.audit_id)
execute function netra_audit_by_id();
create trigger netra_sso_identity_audit_insert after insert on netra_sso_identity
for each row execute function netra_audit_by_id();
create trigger netra_sso_identity_audit_update
after update of role, linked, audit_id on netra_sso_identity
for each row when (new.role is distinct from old.role or new.linked is distinct from old.linked or new.audit_id is distinct from old.audit_id)
execute function netra_audit_by_id();
-- Health changes by itself; what has an entry is every change of where logins go.
create trigger netra_sso_rotation_audit_insert after insert on netra_sso_rotation
for each row execute function netra_audit_by_id();
create trigger netra_sso_rotation_audit_update
after update of active, pinned, share, audit_id on netra_sso_rotation
for each row when (new.active is distinct from old.active or new.pinned is distinct from old.pinned or new.share is distinct from old.share or new.audit_id is distinct from old.audit_id)
execute function netra_audit_by_id();

-- Who sees what, and what each may do; see 0001. Whoever watches over providers finds the tenants that have some, and nothing of them.

alter table netra_sso_provider enable row level security, force row level security;
create policy of_tenant on netra_sso_provider to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_sso_provider for select to netra_fleet using (true);
create policy of_owner on netra_sso_provider to current_user using (true) with check (true);

alter table netra_sso_rotation enable row level security, force row level security;
create policy of_tenant on netra_sso_rotation to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_sso_rotation to current_user using (true) with check (true);

alter table netra_sso_identity enable row level security, force row level security;
create policy of_tenant on netra_sso_identity to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_sso_identity to current_user using (true) with check (true);

revoke all on netra_sso_provider, netra_sso_rotation, netra_sso_identity from public;
grant select, insert, update on netra_sso_provider, netra_sso_rotation, netra_sso_identity to netra_run;
grant select (tenant, enabled) on netra_sso_provider to netra_fleet;
