-- Other texts for PostgreSQL; see statements.py.

-- name: node_is_live
-- Forced: the row is locked against its reaping until this transaction ends, or a node could be declared dead between
-- this look and the commit. Beats do not touch the key and are not held up.
select 1 from netra_node where id = :id for key share;

-- name: reap_node
-- Forced, for two reasons. To wait here for the node's open transactions would hold up our own beats, which take turns with
-- this on one connection. And no limit of the server's ends the transaction of a process that was stopped between a
-- statement's preparation and its execution: that session neither idles nor runs. So they are ended here, known by the name
-- that each transaction bears; where one still had the row, the next look finds it free.
with ended as (
  select pg_terminate_backend(a.pid) from pg_stat_activity a, netra_node n
  where n.id = :id and n.beat = :beat and a.application_name = 'netra ' || encode(n.id, 'hex') and a.usename = current_user
    and a.pid <> pg_backend_pid()
)
delete from netra_node
where id in (select n.id from netra_node n where n.id = :id and n.beat = :beat for update skip locked)
  and (select count(*) from ended) >= 0;

-- name: forget_node
-- Forced: not to wait for a transaction of the former life that a cut-off server keeps open; the row is reaped later.
delete from netra_node where id in (select n.id from netra_node n where n.id = :id for update skip locked);
