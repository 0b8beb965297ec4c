-- Statements of the cache. See storage/statements.py for the notation. It has no tables of its own: events are rows of the one log.

-- name: waiting
-- fleet: a process must know of every tenant's invalidations that the log's leader has not numbered yet
select items from netra_outbox where stream = :stream order by id limit :limit;

-- name: epoch
select value from netra_meta where name = 'epoch';
