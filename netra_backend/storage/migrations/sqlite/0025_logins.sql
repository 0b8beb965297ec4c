-- Logins at the pages: ways to a provider, and sessions.

-- A way. `state_hash` stands for what comes back, `browser_hash` for the cookie of the browser that began it; `sealed` holds nonce and verifier.
create table netra_sso_login (
  tenant text not null,
  id blob not null,
  provider text not null,
  issuer text not null,
  state_hash blob not null,
  browser_hash blob not null,
  sealed blob not null,
  redirect_uri text not null,
  target text not null,
  expires_us integer not null,
  consumed_us integer,
  primary key (tenant, id)
) strict;
create unique index netra_sso_login_state on netra_sso_login (state_hash);
create index netra_sso_login_expiry on netra_sso_login (expires_us);

-- A session. `identity` is the person at the first issuer, `issuer` and `subject` who came; `sealed` is that issuer's refresh token, and
-- `due_us` when it is asked. A session that has ended is gone; the audit trail has both ends of it.
create table netra_sso_session (
  tenant text not null,
  id blob not null,
  hash blob not null,
  identity blob not null,
  provider text not null,
  issuer text not null,
  subject text not null,
  role text not null check (role in ('viewer', 'admin')),
  backup integer not null check (backup in (0, 1)),
  sealed blob,
  due_us integer,
  created_us integer not null,
  expires_us integer not null,
  idle_us integer not null,
  primary key (tenant, id),
  foreign key (tenant, identity) references netra_sso_identity (tenant, id)
) strict;
create unique index netra_sso_session_hash on netra_sso_session (hash);
create index netra_sso_session_due on netra_sso_session (due_us) where due_us is not null;
create index netra_sso_session_person on netra_sso_session (tenant, identity);
create index netra_sso_session_expiry on netra_sso_session (expires_us);
