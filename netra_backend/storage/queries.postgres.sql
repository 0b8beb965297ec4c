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

-- name: take_outbox
-- A gain that was measured: the rows are moved and numbered in one round trip instead of five. The lease's row is locked until the
-- commit, so that whoever takes the lead waits, and a former leader that waited for him moves nothing. Nothing is written, and so nothing
-- has to be synced, where the outbox is empty.
with held as (
  update netra_lease set owner = owner
  where name = 'log' and owner = :node and exists (select 1 from netra_node n where n.id = :node) and exists (select 1 from netra_outbox)
  returning 1
), taken as (
  delete from netra_outbox
  where id in (select id from netra_outbox order by id limit :limit) and exists (select 1 from held)
  returning id, stream, tenant, items, at_us
), counted as (
  select stream, count(*) as count from taken group by stream order by stream
), advanced as (
  insert into netra_stream (stream, last_seq) select stream, count from counted
  on conflict (stream) do update set last_seq = netra_stream.last_seq + excluded.last_seq
  returning stream, last_seq
), numbered as (
  select t.*, a.last_seq - c.count + row_number() over (partition by t.stream order by t.id) as seq
  from taken t join counted c on c.stream = t.stream join advanced a on a.stream = t.stream
), logged as (
  insert into netra_log (stream, seq, tenant, items, at_us) select stream, seq, tenant, items, at_us from numbered
)
select id, stream, tenant, '', at_us, seq from numbered;
