-- Other texts for PostgreSQL; see storage/statements.py.

-- name: epoch
-- Forced: a standby that is promoted may lack the last commits, and then gives their numbers to others. Its timeline is another one.
select left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' || coalesce((select value from netra_meta where name = 'epoch'), '');
