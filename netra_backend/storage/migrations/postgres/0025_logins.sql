-- Logins at the pages: ways to a provider, and sessions.

-- A way. `state_hash` stands for what comes back, `browser_hash` for the cookie of the browser that began it; `sealed` holds nonce and verifier.
create table netra_sso_login (
  tenant text collate "C" not null,
  id bytea not null,
  provider text collate "C" not null,
  issuer text collate "C" not null,
  state_hash bytea not null,
  browser_hash bytea not null,
  sealed bytea not null,
  redirect_uri text collate "C" not null,
  target text collate "C" not null,
  expires_us bigint not null,
  consumed_us bigint,
  primary key (tenant, id)
);
create unique index netra_sso_login_state on netra_sso_login (state_hash);
create index netra_sso_login_expiry on netra_sso_login (expires_us);

-- A session. `identity` is the person at the first issuer, `issuer` and `subject` who came; `sealed` is that issuer's refresh token, and
-- `due_us` when it is asked. A session that has ended is gone; the audit trail has both ends of it.
create table netra_sso_session (
  tenant text collate "C" not null,
  id bytea not null,
  hash bytea not null,
  identity bytea not null,
  provider text collate "C" not null,
  issuer text collate "C" not null,
  subject text collate "C" not null,
  role text collate "C" not null check (role in ('viewer', 'admin')),
  backup bigint not null check (backup in (0, 1)),
  sealed bytea,
  due_us bigint,
  created_us bigint not null,
  expires_us bigint not null,
  idle_us bigint not null,
  primary key (tenant, id),
  foreign key (tenant, identity) references netra_sso_identity (tenant, id)
);
create unique index netra_sso_session_hash on netra_sso_session (hash);
create index netra_sso_session_due on netra_sso_session (due_us) where due_us is not null;
create index netra_sso_session_person on netra_sso_session (tenant, identity);
create index netra_sso_session_expiry on netra_sso_session (expires_us);

-- Who sees what, and what each may do; see 0001. Whose browser comes back is known by a hash alone.

alter table netra_sso_login enable row level security, force row level security;
create policy of_tenant on netra_sso_login to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_sso_login to netra_fleet using (true) with check (true);
create policy of_owner on netra_sso_login to current_user using (true) with check (true);

alter table netra_sso_session enable row level security, force row level security;
create policy of_tenant on netra_sso_session to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_sso_session to netra_fleet using (true) with check (true);
create policy of_owner on netra_sso_session to current_user using (true) with check (true);

revoke all on netra_sso_login, netra_sso_session from public;
grant select, insert, update, delete on netra_sso_login to netra_run;
grant select, insert, update, delete on netra_sso_session to netra_run;
grant select (tenant, id, state_hash, expires_us), delete on netra_sso_login to netra_fleet;
grant select (tenant, id, hash, identity, issuer, subject, role, backup, due_us, expires_us, idle_us), delete on netra_sso_session to netra_fleet;
