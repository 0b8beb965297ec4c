-- The audit trail's provable log: one tree for each tenant, a cursor on the stream `audit`.

-- The commitment to personal data, SHA-256(salt || data) in hex; the data stands in netra_audit_personal until it is erased.
alter table netra_audit_entry add column personal text collate "C";

-- One log. `size` and `root` are the tree's; `checkpoint` is the last signed note, of `signed_size` entries, and stands here only
-- once the directory outside the database remembers it. `epoch` is 0 and `origin` empty before the first. `minimum` is the index of the
-- first entry that is kept. `sealed` is the signing key.
create table netra_audit_log (
  tenant text collate "C" primary key,
  size bigint not null,
  root bytea not null,
  epoch bigint not null,
  origin text collate "C" not null,
  signed_size bigint not null,
  checkpoint text collate "C" not null,
  minimum bigint not null,
  public_key bytea not null,
  sealed bytea not null,
  created_us bigint not null,
  updated_us bigint not null
);
create index netra_audit_log_unsigned on netra_audit_log (tenant) where signed_size < size;

-- Hashes of one level, up to 256; a tile only grows.
create table netra_audit_tile (
  tenant text collate "C" not null,
  level bigint not null,
  number bigint not null,
  hashes bytea not null,
  primary key (tenant, level, number)
);

-- Which entries have which indices: the ids of 256 side by side, the least and the greatest of them; a page only grows.
create table netra_audit_page (
  tenant text collate "C" not null,
  number bigint not null,
  ids bytea not null,
  lowest bytea not null,
  highest bytea not null,
  primary key (tenant, number)
);
create index netra_audit_page_ids on netra_audit_page (tenant, highest, lowest);

-- Personal data of an entry and its salt; erasing it deletes the row and changes no hash.
create table netra_audit_personal (
  tenant text collate "C" not null,
  entry_id bytea not null,
  salt bytea not null,
  data text collate "C" not null,
  primary key (tenant, entry_id),
  foreign key (tenant, entry_id) references netra_audit_entry (tenant, id)
);

create function netra_audit_tile_only_grows() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if substr(new.hashes, 1, length(old.hashes)) <> old.hashes
    or (new.tenant, new.level, new.number) is distinct from (old.tenant, old.level, old.number) then
    raise exception 'netra_audit: a hash in a tile is never changed' using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
create function netra_audit_page_only_grows() returns trigger language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if substr(new.ids, 1, length(old.ids)) <> old.ids or (new.tenant, new.number) is distinct from (old.tenant, old.number) then
    raise exception 'netra_audit: an index is never given to another entry' using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
revoke all on function netra_audit_tile_only_grows, netra_audit_page_only_grows from public;

create trigger netra_audit_tile_grows before update on netra_audit_tile
for each row execute function netra_audit_tile_only_grows();
create trigger netra_audit_tile_stays before delete on netra_audit_tile
for each row execute function netra_audit_refuse('a tile is never deleted');
create trigger netra_audit_tile_stays_whole before truncate on netra_audit_tile
for each statement execute function netra_audit_refuse('a tile is never deleted');
create trigger netra_audit_page_grows before update on netra_audit_page
for each row execute function netra_audit_page_only_grows();
create trigger netra_audit_page_stays before delete on netra_audit_page
for each row execute function netra_audit_refuse('a page is never deleted');
create trigger netra_audit_page_stays_whole before truncate on netra_audit_page
for each statement execute function netra_audit_refuse('a page is never deleted');

-- Who sees what, and what each may do; see 0001. The fleet reads entries to put them into the logs, and may write none.

alter table netra_audit_log enable row level security, force row level security;
create policy of_tenant on netra_audit_log to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_audit_log for select to netra_fleet using (true);
create policy of_owner on netra_audit_log to current_user using (true) with check (true);

alter table netra_audit_tile enable row level security, force row level security;
create policy of_tenant on netra_audit_tile to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_audit_tile to current_user using (true) with check (true);

alter table netra_audit_page enable row level security, force row level security;
create policy of_tenant on netra_audit_page to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_audit_page to current_user using (true) with check (true);

alter table netra_audit_personal enable row level security, force row level security;
create policy of_tenant on netra_audit_personal to netra_run, netra_app
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_audit_personal to current_user using (true) with check (true);

create policy of_fleet on netra_audit_entry for select to netra_fleet using (true);

revoke all on netra_audit_log, netra_audit_tile, netra_audit_page, netra_audit_personal from public;
grant select, insert, update on netra_audit_log, netra_audit_tile, netra_audit_page to netra_run;
grant select, insert, delete on netra_audit_personal to netra_run;
grant insert on netra_audit_personal to netra_app;
grant select on netra_audit_entry, netra_audit_log to netra_fleet;

-- Entries from before this migration come into the logs like new ones, in the order of their ids; one that is told twice gets one index.
-- The cursor stands from now on, so that nothing is trimmed before it is in a log.
insert into netra_cursor (name, stream, seq)
select 'audit', 'audit', coalesce((select last_seq from netra_stream where stream = 'audit'), 0);
insert into netra_outbox (stream, tenant, items, at_us)
select 'audit', tenant,
  json_build_array(json_build_array(tenant, json_build_object('id', encode(id, 'hex'))))::text, at_us
from netra_audit_entry order by id;
