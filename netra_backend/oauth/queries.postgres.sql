-- Other texts for PostgreSQL; see storage/statements.py.

-- name: hold_client
-- Forced: whoever registers or changes a client does so in turn.
select id from netra_oauth_client where tenant = :tenant and name = :name for update;

-- name: hold_connection
-- Forced: whoever takes a lease, commits under it or decides about a connection does so in turn.
select c.id, c.name, c.client, c.state, c.reason, c.generation, c.access, c.refresh, c.rt_fp, c.issued_us, c.expires_us, c.due_us, c.retry_us,
  c.holder, c.fence, c.attempt_fp, c.attempt_us, c.attempt_at, c.attempts, c.failures, c.audit_id, c.kind
from netra_connection c where c.tenant = :tenant and c.deleted_us is null and c.id = :id for update;
