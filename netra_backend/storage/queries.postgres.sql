-- Other texts for PostgreSQL; see statements.py.

-- name: node_is_live
-- Forced: the row is locked against its reaping until this transaction ends, or a node could be declared dead between
-- this look and the commit. Beats do not touch the key and are not held up.
select 1 from netra_node where id = :id for key share;

-- name: reap_node
-- Forced: a node whose open transaction has seen it alive is not declared dead yet. To wait for that transaction here would
-- hold up our own beats, which take turns with this on one connection; the next look comes within a second.
delete from netra_node where id in (select n.id from netra_node n where n.id = :id and n.beat = :beat for update skip locked);

-- name: remove_node
-- Forced: as reap_node. A former life may still have a transaction that a cut-off server keeps open; the row is reaped later.
delete from netra_node where id in (select n.id from netra_node n where n.id = :id for update skip locked);
