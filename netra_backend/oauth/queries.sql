-- name: insert_client
insert into netra_oauth_client
  (tenant, id, name, issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, first_secret, scopes,
   replay_window_s, default_lifetime_s, provider, device_endpoint, idle_s, assertion, assertion_key, created_us, updated_us, audit_id)
values (:tenant, :id, :name, :issuer, :token_endpoints, :authorize_endpoint, :revoke_endpoint, :client_id, :auth, :sealed, 0, :scopes,
  :replay_window_s, :default_lifetime_s, :provider, :device_endpoint, :idle_s, :assertion, :assertion_key, :now_us, :now_us, :audit_id)
on conflict (tenant, name) do nothing;

-- name: hold_client
select id from netra_oauth_client where tenant = :tenant and name = :name;

-- name: issuer_of_grants
select min(c.issuer), count(*) from netra_oauth_client c join netra_connection n on n.tenant = c.tenant and n.client = c.id
where c.tenant = :tenant and c.id = :id and n.kind is null and n.refresh is not null;

-- name: issuer_of_flows
select min(c.issuer), count(*) from netra_connect_flow f join netra_connection n on n.tenant = f.tenant and n.id = f.connection_id
join netra_oauth_client c on c.tenant = n.tenant and c.id = n.client
where c.tenant = :tenant and c.id = :id and f.outcome is null;

-- name: update_client
update netra_oauth_client set issuer = :issuer, token_endpoints = :token_endpoints, authorize_endpoint = :authorize_endpoint,
  revoke_endpoint = :revoke_endpoint, client_id = :client_id, auth = :auth, sealed = :sealed, first_secret = 0, scopes = :scopes,
  replay_window_s = :replay_window_s, default_lifetime_s = :default_lifetime_s, provider = :provider, device_endpoint = :device_endpoint,
  idle_s = :idle_s, assertion = :assertion, assertion_key = :assertion_key, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: prefer_secret
update netra_oauth_client set first_secret = :first_secret where tenant = :tenant and id = :id;

-- name: get_client
select id, name, issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, first_secret, scopes,
  replay_window_s, default_lifetime_s, provider, device_endpoint, idle_s, assertion, assertion_key
from netra_oauth_client where tenant = :tenant and (name = :name or id = :id);

-- name: idle_of_client
select idle_s from netra_oauth_client where tenant = :tenant and id = :id;

-- name: list_clients
select id, name, issuer, token_endpoints, authorize_endpoint, revoke_endpoint, client_id, auth, sealed, first_secret, scopes,
  replay_window_s, default_lifetime_s, provider, device_endpoint, idle_s, assertion, assertion_key
from netra_oauth_client where tenant = :tenant and name > :after order by name limit :limit;

-- name: insert_connection
insert into netra_connection
  (tenant, id, name, client, state, reason, generation, access, refresh, rt_fp, issued_us, expires_us, due_us, retry_us, holder, fence,
   attempt_fp, attempt_us, attempt_at, attempts, failures, created_us, updated_us, deleted_us, audit_id, kind)
values (:tenant, :id, :name, :client, :state, null, :generation, :access, :refresh, :rt_fp, :issued_us, :expires_us, :due_us, null, null, 0,
  null, null, 0, 0, 0, :now_us, :now_us, null, :audit_id, :kind)
on conflict do nothing;

-- name: get_connection
select c.id, c.name, c.client, c.state, c.reason, c.generation, c.access, c.refresh, c.rt_fp, c.issued_us, c.expires_us, c.due_us, c.retry_us,
  c.holder, c.fence, c.attempt_fp, c.attempt_us, c.attempt_at, c.attempts, c.failures, c.audit_id, c.kind
from netra_connection c where c.tenant = :tenant and c.deleted_us is null and c.name = :name;

-- name: hold_connection
select c.id, c.name, c.client, c.state, c.reason, c.generation, c.access, c.refresh, c.rt_fp, c.issued_us, c.expires_us, c.due_us, c.retry_us,
  c.holder, c.fence, c.attempt_fp, c.attempt_us, c.attempt_at, c.attempts, c.failures, c.audit_id, c.kind
from netra_connection c where c.tenant = :tenant and c.deleted_us is null and c.id = :id;

-- name: list_connections
select c.id, c.name, c.client, c.state, c.reason, c.generation, c.access, c.refresh, c.rt_fp, c.issued_us, c.expires_us, c.due_us, c.retry_us,
  c.holder, c.fence, c.attempt_fp, c.attempt_us, c.attempt_at, c.attempts, c.failures, c.audit_id, c.kind
from netra_connection c where c.tenant = :tenant and c.deleted_us is null and c.name > :after order by c.name limit :limit;

-- name: take_lease
update netra_connection set holder = :holder, fence = fence + 1,
  attempts = case when attempt_fp = rt_fp then attempts + 1 else 1 end,
  attempt_us = case when attempt_fp = rt_fp then attempt_us else :now_us end,
  attempt_at = case when attempt_fp = rt_fp then attempt_at else 0 end,
  attempt_fp = rt_fp
where tenant = :tenant and id = :id and fence = :fence and generation = :generation;

-- name: send_again
update netra_connection set attempts = attempts + 1, attempt_at = :attempt_at
where tenant = :tenant and id = :id and fence = :fence and holder = :holder and generation = :generation;

-- name: end_attempt
update netra_connection set holder = null, failures = failures + 1, retry_us = :retry_us,
  attempt_fp = case when :keep_intent = 1 then attempt_fp else null end
where tenant = :tenant and id = :id and fence = :fence and holder = :holder;

-- name: commit_grant
update netra_connection set state = 'active', reason = null, generation = generation + 1, access = :access, refresh = :refresh,
  rt_fp = :rt_fp, issued_us = :issued_us, expires_us = :expires_us, due_us = :due_us, retry_us = null, holder = null, fence = fence + 1,
  attempt_fp = null, attempt_us = null, attempt_at = 0, attempts = 0, failures = 0, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id and generation = :generation and rt_fp = :parent_fp
  and state in ('active', 'at_risk', 'reauth_required');

-- name: replace_grant
-- by two where there was a refresh token: an answer that one is still to bring is then no sibling of what stands here from now on
update netra_connection set state = 'active', reason = null, client = :client, kind = :kind,
  generation = generation + case when rt_fp is null then 1 else 2 end, access = :access, refresh = :refresh, rt_fp = :rt_fp, issued_us = :issued_us, expires_us = :expires_us, due_us = :due_us, retry_us = null, holder = null, fence = fence + 1,
  attempt_fp = null, attempt_us = null, attempt_at = 0, attempts = 0, failures = 0, updated_us = :now_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: lineage_of
select name from netra_connection where tenant = :tenant and rt_fp = :rt_fp;

-- name: decide_connection
update netra_connection set state = :state, reason = :reason, holder = null, fence = fence + 1, failures = failures + 1, retry_us = :retry_us,
  updated_us = :now_us, due_us = case when :state = 'reauth_required' then null else due_us end, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: revoke_connection
update netra_connection set state = 'revoked', reason = :reason, generation = generation + 1, access = null, refresh = null, rt_fp = null,
  expires_us = null, due_us = null, retry_us = null, holder = null, fence = fence + 1, attempt_fp = null, attempt_us = null, attempt_at = 0, attempts = 0,
  updated_us = :now_us, deleted_us = :deleted_us, audit_id = :audit_id
where tenant = :tenant and id = :id;

-- name: insert_orphan
insert into netra_connection_orphan (tenant, connection_id, rt_fp, parent_generation, sealed, created_us)
values (:tenant, :id, :rt_fp, :parent_generation, :sealed, :now_us)
on conflict (tenant, connection_id, rt_fp) do nothing;

-- name: newest_orphan
select rt_fp, parent_generation, sealed from netra_connection_orphan
where tenant = :tenant and connection_id = :id and parent_generation >= :generation
order by parent_generation desc, created_us desc, rt_fp limit 1;

-- name: drop_orphans
delete from netra_connection_orphan
where tenant = :tenant and connection_id = :id and (parent_generation < :generation or rt_fp = :rt_fp);

-- name: generations
-- fleet: a process asks in one query whether what it serves from memory is still current; each row names its tenant
select c.tenant, c.id, c.generation, c.state from rows(:rows, tenant text, id uuid) as r
join netra_connection c on c.tenant = r.tenant and c.id = r.id;

-- name: connections_in_trouble
-- fleet: KPIs ask which connections of several tenants keep somebody waiting; each row carries its tenant
select c.tenant, c.name, o.name, o.provider, c.state, c.reason, c.failures
from rows(:rows, tenant text) as r
join netra_connection c on c.tenant = r.tenant
join netra_oauth_client o on o.tenant = c.tenant and o.id = c.client
where c.deleted_us is null and c.state <> 'pending'
  and (c.state <> 'active' or c.failures > 0 or (c.due_us is not null and c.expires_us <= :now_us))
order by c.tenant, c.name;

-- name: due_connections
-- fleet: the scheduler refreshes before anybody asks, whoever's it is; each row names its tenant
select due_us, tenant, id, generation from netra_connection
where due_us is not null and due_us <= :now_us and (retry_us is null or retry_us <= :now_us) and state in ('active', 'at_risk')
  and (due_us, tenant, id) > (:after_us, :after_tenant, :after_id)
order by due_us, tenant, id limit :limit;

-- name: insert_flow
insert into netra_connect_flow
  (tenant, id, connection_id, state_hash, verifier, redirect_uri, generation, expires_us, consumed_us, outcome, reason, created_us,
   kind, followed_us, poll_us, interval_s)
values (:tenant, :id, :connection_id, :state_hash, :verifier, :redirect_uri, :generation, :expires_us, null, null, null, :now_us,
  :kind, null, :poll_us, :interval_s);

-- name: flow_by_state
-- fleet: whose `state` comes back is not known before it is looked up; it is hashed, and nobody guesses it
select tenant, id from netra_connect_flow where state_hash = :state_hash;

-- name: get_flow
select connection_id, verifier, redirect_uri, generation, expires_us, consumed_us, outcome, reason, kind, interval_s, followed_us
from netra_connect_flow where tenant = :tenant and id = :id;

-- name: consume_flow
update netra_connect_flow set consumed_us = :now_us, expires_us = :answer_by_us
where tenant = :tenant and id = :id and consumed_us is null and outcome is null and expires_us > :now_us;

-- name: end_flow
update netra_connect_flow set outcome = :outcome, reason = :reason, poll_us = null
where tenant = :tenant and id = :id and outcome is null;

-- name: end_flows_of
update netra_connect_flow set outcome = :outcome, reason = :reason, poll_us = null
where tenant = :tenant and connection_id = :id and outcome is null;

-- name: carry_flows
-- a refresh is nobody's decision: the way that somebody is on leads to the connection as it stands after it
update netra_connect_flow set generation = :generation + 1
where tenant = :tenant and connection_id = :id and generation = :generation and outcome is null;

-- name: follow_flow
update netra_connect_flow set followed_us = :now_us, expires_us = :expires_us
where tenant = :tenant and id = :id and kind = 'link' and followed_us is null and outcome is null and expires_us > :now_us;

-- name: take_poll
update netra_connect_flow set poll_us = :next_us
where tenant = :tenant and id = :id and poll_us <= :now_us and outcome is null and expires_us > :now_us;

-- name: poll_later
update netra_connect_flow set poll_us = :next_us, interval_s = :interval_s
where tenant = :tenant and id = :id and poll_us is not null and outcome is null;

-- name: due_polls
-- fleet: users type their codes elsewhere, and somebody must ask whether they have, whoever's they are; each row names its tenant
select tenant, id from netra_connect_flow where poll_us is not null and poll_us <= :now_us order by poll_us limit :limit;

-- name: open_flows
-- fleet: ways that nobody came back on, or whose answer was lost with its process, end by themselves; each row names its tenant
select tenant, id from netra_connect_flow where outcome is null and expires_us <= :now_us order by expires_us limit :limit;

-- name: ended_flows
-- fleet: ways that ended long ago are deleted, whoever's they are; each row names its tenant
select tenant, id from netra_connect_flow where outcome is not null and created_us < :before_us order by created_us limit :limit;

-- name: delete_flows
delete from netra_connect_flow
where tenant = :tenant and outcome is not null and id in (select r.id from rows(:rows, id uuid) as r);
