-- name: insert_provider
insert into netra_sso_provider (tenant, id, name, client, rank, enabled, options, created_us, updated_us, audit_id)
values (:tenant, :id, :name, :client, :rank, :enabled, :options, :now_us, :now_us, :audit_id)
on conflict (tenant, name) do nothing;

-- name: hold_provider
select id from netra_sso_provider where tenant = :tenant and name = :name;

-- name: update_provider
update netra_sso_provider set client = :client, rank = :rank, enabled = :enabled, options = :options, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: list_providers
-- one whose registration has lost its issuer meanwhile is led to no more
select p.id, p.name, p.rank, case when c.issuer is null or c.authorize_endpoint is null then 0 else p.enabled end, p.options, c.name,
  coalesce(c.issuer, ''), c.client_id, coalesce(c.authorize_endpoint, '')
from netra_sso_provider p join netra_oauth_client c on c.tenant = p.tenant and c.id = p.client
where p.tenant = :tenant order by p.rank, p.name;

-- name: client_id_of
select id, issuer, authorize_endpoint from netra_oauth_client where tenant = :tenant and name = :name;

-- name: tenants_with_providers
-- fleet: one process watches over every tenant's providers; each row names its tenant
select tenant, sum(enabled) from netra_sso_provider group by tenant order by tenant limit :limit;

-- name: insert_rotation
insert into netra_sso_rotation (tenant, id, purpose, version, active, pinned, share, body, created_us, updated_us, audit_id)
values (:tenant, :id, :purpose, 1, :active, :pinned, :share, :body, :now_us, :now_us, :audit_id)
on conflict (tenant, purpose) do nothing;

-- name: get_rotation
select id, version, active, pinned, share, body, audit_id from netra_sso_rotation where tenant = :tenant and purpose = 'login';

-- name: swap_rotation
update netra_sso_rotation set version = version + 1, active = :active, pinned = :pinned, share = :share, body = :body, updated_us = :now_us,
  audit_id = :audit_id
where tenant = :tenant and purpose = 'login' and version = :version;

-- name: insert_identity
insert into netra_sso_identity (tenant, id, issuer, subject, linked, role, created_us, updated_us, audit_id)
values (:tenant, :id, :issuer, :subject, :linked, :role, :now_us, :now_us, :audit_id)
on conflict (tenant, issuer, subject) do nothing;

-- name: get_identity
select id, issuer, subject, linked, role from netra_sso_identity
where tenant = :tenant and ((issuer = :issuer and subject = :subject) or id = :id);

-- name: update_identity
update netra_sso_identity set linked = :linked, role = :role, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: count_links
select count(*) from netra_sso_identity where tenant = :tenant and linked = :id;

-- name: insert_signing_key
insert into netra_signing_key (tenant, id, sealed, signs_from_us, created_us, audit_id)
values (:tenant, :id, :sealed, :signs_from_us, :now_us, :audit_id);

-- name: list_signing_keys
select id, sealed, signs_from_us, created_us from netra_signing_key
where tenant = :tenant and created_us > :after_us order by signs_from_us, id;

-- name: insert_exchange
insert into netra_token_exchange (tenant, trace, expires_us) values (:tenant, :trace, :expires_us)
on conflict (tenant, trace) do nothing;

-- name: trim_exchanges
-- fleet: trades whose tokens have ended are forgotten, whoever's they are
delete from netra_token_exchange where (tenant, trace) in
  (select e.tenant, e.trace from netra_token_exchange e where e.expires_us < :before_us order by e.expires_us limit :limit);

-- name: insert_login
insert into netra_sso_login (tenant, id, provider, issuer, state_hash, browser_hash, sealed, redirect_uri, target, expires_us, consumed_us)
values (:tenant, :id, :provider, :issuer, :state_hash, :browser_hash, :sealed, :redirect_uri, :target, :expires_us, null);

-- name: login_by_state
-- fleet: whose browser comes back is not known before its `state` is looked up; it is hashed, and nobody guesses it
select tenant, id from netra_sso_login where state_hash = :state_hash;

-- name: get_login
select provider, issuer, browser_hash, sealed, redirect_uri, target from netra_sso_login where tenant = :tenant and id = :id;

-- name: consume_login
update netra_sso_login set consumed_us = :now_us
where tenant = :tenant and id = :id and consumed_us is null and expires_us > :now_us;

-- name: trim_logins
-- fleet: ways that are over are forgotten, whoever's they are
delete from netra_sso_login where (tenant, id) in
  (select l.tenant, l.id from netra_sso_login l where l.expires_us < :before_us order by l.expires_us limit :limit);

-- name: insert_session
insert into netra_sso_session
  (tenant, id, hash, identity, provider, issuer, subject, role, backup, sealed, due_us, created_us, expires_us, idle_us)
values (:tenant, :id, :hash, :identity, :provider, :issuer, :subject, :role, :backup, :sealed, :due_us, :now_us, :expires_us, :idle_us);

-- name: session_by_hash
-- fleet: who has this cookie is not known before it is looked up; its hash is keyed
select tenant, id, identity, issuer, subject, role, backup, expires_us, idle_us from netra_sso_session where hash = :hash;

-- name: get_session
select provider, sealed, issuer from netra_sso_session where tenant = :tenant and id = :id;

-- name: touch_session
update netra_sso_session set idle_us = :idle_us where tenant = :tenant and id = :id;

-- name: end_session
delete from netra_sso_session where tenant = :tenant and id = :id;

-- name: end_sessions_of
delete from netra_sso_session where tenant = :tenant and identity = :identity;

-- name: due_sessions
-- fleet: providers are asked whether people are still theirs, whoever's they are; each row names its tenant
-- the first of each tenant's come first, then the second: one tenant's long list is no other's wait
select d.tenant, d.id from
  (select s.tenant, s.id, s.due_us, row_number() over (partition by s.tenant order by s.due_us) as place from netra_sso_session s
   where s.due_us is not null and s.due_us <= :now_us and s.expires_us > :now_us and s.idle_us > :now_us) d
order by d.place, d.due_us limit :limit;

-- name: take_turn
update netra_sso_session set due_us = :due_us where tenant = :tenant and id = :id and due_us <= :now_us;

-- name: keep_refresh
-- asks for the token that was sent: whoever is late overwrites nothing newer
update netra_sso_session set sealed = :sealed where tenant = :tenant and id = :id and sealed = :parent;

-- name: end_refused
delete from netra_sso_session where tenant = :tenant and id = :id and sealed = :sealed;

-- name: trim_sessions
-- fleet: sessions that are over are forgotten, whoever's they are
delete from netra_sso_session where (tenant, id) in
  (select s.tenant, s.id from netra_sso_session s where s.expires_us < :before_us order by s.expires_us limit :limit);
