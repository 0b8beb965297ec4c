-- Single sign-on: a tenant's identity providers, which of them new logins go to, and who is who at each issuer.

-- A provider is a client registration that people log in by. `rank` is the order of preference, `options` JSON: algorithms, roles.
create table netra_sso_provider (
  tenant text not null,
  id blob not null,
  name text not null,
  client blob not null,
  rank integer not null,
  enabled integer not null check (enabled in (0, 1)),
  options text not null,
  created_us integer not null,
  updated_us integer not null,
  audit_id blob,
  primary key (tenant, id),
  unique (tenant, name),
  foreign key (tenant, client) references netra_oauth_client (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;

-- Where a tenant's new logins go (`purpose` is `login`; nothing else is led yet). `active` and `pinned` are providers' names, `share` is per cent of the logins for the one that comes
-- back; `body` is JSON: health by issuer and operation, and the times, on a clock of the row's own. It is swapped by `version`.
create table netra_sso_rotation (
  tenant text not null,
  id blob not null,
  purpose text not null,
  version integer not null,
  active text not null,
  pinned text,
  share integer not null,
  body text not null,
  created_us integer not null,
  updated_us integer not null,
  audit_id blob,
  primary key (tenant, id),
  unique (tenant, purpose),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;

-- A person at an issuer: tenant, issuer and subject, never an address. `linked` is the identity that this one stands for when the
-- first issuer is down; `role` is what the issuer's own claims gave at the last login.
create table netra_sso_identity (
  tenant text not null,
  id blob not null,
  issuer text not null,
  subject text not null,
  linked blob,
  role text check (role in ('viewer', 'admin')),
  created_us integer not null,
  updated_us integer not null,
  audit_id blob,
  primary key (tenant, id),
  unique (tenant, issuer, subject),
  foreign key (tenant, linked) references netra_sso_identity (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id),
  check (linked is null or linked <> id)
) strict;

create trigger netra_sso_provider_audit_insert after insert on netra_sso_provider begin
  select raise(abort, 'netra_audit: this change of netra_sso_provider has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_sso_provider' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_sso_provider_audit_update
after update of client, rank, enabled, options, audit_id on netra_sso_provider
when new.client is not old.client or new.rank is not old.rank or new.enabled is not old.enabled or new.options is not old.options or new.audit_id is not old.audit_id begin
  select raise(abort, 'netra_audit: this change of netra_sso_provider has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_sso_provider' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_sso_identity_audit_insert after insert on netra_sso_identity begin
  select raise(abort, 'netra_audit: this change of netra_sso_identity has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_sso_identity' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_sso_identity_audit_update
after update of role, linked, audit_id on netra_sso_identity
when new.role is not old.role or new.linked is not old.linked or new.audit_id is not old.audit_id begin
  select raise(abort, 'netra_audit: this change of netra_sso_identity has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_sso_identity' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
-- Health changes by itself; what has an entry is every change of where logins go.
create trigger netra_sso_rotation_audit_insert after insert on netra_sso_rotation begin
  select raise(abort, 'netra_audit: this change of netra_sso_rotation has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_sso_rotation' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_sso_rotation_audit_update
after update of active, pinned, share, audit_id on netra_sso_rotation
when new.active is not old.active or new.pinned is not old.pinned or new.share is not old.share or new.audit_id is not old.audit_id begin
  select raise(abort, 'netra_audit: this change of netra_sso_rotation has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_sso_rotation' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
