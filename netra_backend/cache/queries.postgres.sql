-- Other texts for PostgreSQL; see storage/statements.py.

-- name: look
-- Forced: a standby that is promoted may lack the last commits, and then gives their numbers to others. Its timeline is another one.
select 0, 0, items from (select items from netra_outbox where stream = :stream order by id limit :most_waiting) as waiting
union all
select 1, seq, items from (select seq, items from netra_log where stream = :stream and seq > :after order by seq limit :most_rows) as numbered
union all
select 2, last_seq, '' from netra_stream where stream = :stream
union all
select 3, 0, left(pg_walfile_name(pg_current_wal_lsn()), 8) || ':' || coalesce((select value from netra_meta where name = 'epoch'), '');
