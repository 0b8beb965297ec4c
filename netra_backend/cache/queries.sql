-- Statements of the cache. See storage/statements.py for the notation. It has no tables of its own: events are rows of the one log.

-- name: look
-- fleet: a process must know of every tenant's invalidations, numbered or not
-- All that a look wants in one statement: what waits (0), what has a number (1), the stream's last one (2), the history's name (3).
select 0, 0, items from (select items from netra_outbox where stream = :stream order by id limit :most_waiting) as waiting
union all
select 1, seq, items from (select seq, items from netra_log where stream = :stream and seq > :after order by seq limit :most_rows) as numbered
union all
select 2, last_seq, '' from netra_stream where stream = :stream
union all
select 3, 0, value from netra_meta where name = 'epoch';
