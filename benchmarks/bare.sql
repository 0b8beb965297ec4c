-- The two-row transaction of the design's measurement: two tables, one key each, nothing else.

-- name: create_document
create table document (id integer primary key, body text not null);

-- name: create_change
create table change (id integer primary key, document_id integer not null, body text not null);

-- name: insert_document
insert into document (id, body) values (:id, :body);

-- name: insert_change
insert into change (id, document_id, body) values (:id, :id, :body);

-- name: insert_documents
insert into document (id, body)
select r.id, r.body from rows(:rows, id int, body text) as r
where true;

-- name: insert_changes
insert into change (id, document_id, body)
select r.id, r.id, r.body from rows(:rows, id int, body text) as r
where true;

-- name: count_changes
select count(*) from document d join change c on c.document_id = d.id;

-- name: count_messages
select count(*) from netra_message m join netra_delivery d on d.tenant = m.tenant and d.message_id = m.id;

