-- Statements of metrics. See storage/statements.py for the notation. A row is what one node has added to one series.

-- name: put_metrics
-- Only by a node that lives: what a dead one had is folded already.
insert into netra_metric (node, name, labels, value)
select :node, r.name, r.labels, r.value from rows(:rows, name text, labels text, value real) as r
where exists (select 1 from netra_node n where n.id = :node)
on conflict (node, name, labels) do update set value = excluded.value;

-- name: others_metrics
select name, labels, sum(value) from netra_metric where node <> :node group by name, labels;

-- name: take_gone_metrics
delete from netra_metric
where node <> :folded and node not in (select n.id from netra_node n)
returning name, labels, value;

-- name: fold_metrics
insert into netra_metric (node, name, labels, value)
select :folded, r.name, r.labels, r.value from rows(:rows, name text, labels text, value real) as r
where true
on conflict (node, name, labels) do update set value = netra_metric.value + excluded.value;
