-- Other texts for PostgreSQL; see statements.py.

-- name: node_is_live
-- Forced: the row is locked against its reaping until this transaction ends, or a node could be declared dead between
-- this look and the commit. Beats do not touch the key and are not held up.
select 1 from netra_node where id = :id for key share;
