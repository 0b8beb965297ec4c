-- Statements on a table of the tests' own, so that the substrate is tried without any part.

-- name: create_fact
create table if not exists fact (who text not null, part int not null, body text, primary key (who, part));

-- name: create_count
create table if not exists tally (name text primary key, value int not null);

-- name: insert_fact
insert into fact (who, part, body) values (:who, :part, :body);

-- name: insert_facts
insert into fact (who, part, body)
select r.who, r.part, r.body from rows(:rows, who text, part int, body text?) as r
where true;

-- name: facts_of
select part, body from fact where who = :who order by part;

-- name: count_facts
select count(*) from fact;

-- name: everybody
select who, count(*) from fact group by who order by who;

-- name: raise_tally
insert into tally (name, value) values (:name, 1) on conflict (name) do update set value = tally.value + 1 returning value;

-- name: outbox_items
-- fleet: a test looks at everything
select items from netra_outbox order by id;

-- name: outlast
with recursive n (i) as (select 1 union all select i + 1 from n where i < :steps) select count(*) from n;

-- name: insert_many
insert into fact (who, part, body)
with recursive n (i) as (select 1 union all select i + 1 from n where i < :steps) select :who, i, '' from n;

-- name: actions_of
select action from netra_audit_entry where tenant = :tenant order by id;

-- name: sealed_secrets
select sealed from netra_endpoint_secret where tenant = :tenant;

-- name: audited_changes
select before, after from netra_audit_entry where tenant = :tenant;

-- name: deadlines
select deadline_us from netra_delivery where tenant = :tenant;

-- name: every_delivery
-- fleet: what a test of the whole installation compares
select tenant, message_id, endpoint_id, state, number, due_us from netra_delivery order by tenant, message_id, endpoint_id;

-- name: deliveries_of_tenant
select message_id, endpoint_id, state, number from netra_delivery where tenant = :tenant;

-- name: standing_of_tenant
select endpoint_id, message_id, state, number, owner from netra_delivery where tenant = :tenant order by endpoint_id, message_id;

-- name: health_rows
select endpoint_id, failing_since_us, failing_us, failures from netra_endpoint_health where tenant = :tenant order by endpoint_id;

-- name: take_outbox
-- fleet: what a test of the whole installation was told
delete from netra_outbox where true returning id, stream, tenant, items, at_us;
