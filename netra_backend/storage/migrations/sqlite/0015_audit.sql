-- The audit trail's provable log: one tree for each tenant, a cursor on the stream `audit`.

-- The commitment to personal data, SHA-256(salt || data) in hex; the data stands in netra_audit_personal until it is erased.
alter table netra_audit_entry add column personal text;

-- One log. `size` and `root` are the tree's; `checkpoint` is the last signed note, of `signed_size` entries, and stands here only
-- once the directory outside the database remembers it. `epoch` is 0 and `origin` empty before the first. `minimum` is the index of the
-- first entry that is kept. `sealed` is the signing key.
create table netra_audit_log (
  tenant text primary key,
  size integer not null,
  root blob not null,
  epoch integer not null,
  origin text not null,
  signed_size integer not null,
  checkpoint text not null,
  minimum integer not null,
  public_key blob not null,
  sealed blob not null,
  created_us integer not null,
  updated_us integer not null
) strict;
create index netra_audit_log_unsigned on netra_audit_log (tenant) where signed_size < size;

-- Hashes of one level, up to 256; a tile only grows.
create table netra_audit_tile (
  tenant text not null,
  level integer not null,
  number integer not null,
  hashes blob not null,
  primary key (tenant, level, number)
) strict;

-- Which entries have which indices: the ids of 256 side by side, the least and the greatest of them; a page only grows.
create table netra_audit_page (
  tenant text not null,
  number integer not null,
  ids blob not null,
  lowest blob not null,
  highest blob not null,
  primary key (tenant, number)
) strict;
create index netra_audit_page_ids on netra_audit_page (tenant, highest, lowest);

-- Personal data of an entry and its salt; erasing it deletes the row and changes no hash.
create table netra_audit_personal (
  tenant text not null,
  entry_id blob not null,
  salt blob not null,
  data text not null,
  primary key (tenant, entry_id),
  foreign key (tenant, entry_id) references netra_audit_entry (tenant, id)
) strict;

create trigger netra_audit_tile_grows before update on netra_audit_tile
when substr(new.hashes, 1, length(old.hashes)) <> old.hashes
  or new.tenant <> old.tenant or new.level <> old.level or new.number <> old.number begin
  select raise(abort, 'netra_audit: a hash in a tile is never changed');
end;
create trigger netra_audit_tile_stays before delete on netra_audit_tile begin
  select raise(abort, 'netra_audit: a tile is never deleted');
end;
create trigger netra_audit_page_grows before update on netra_audit_page
when substr(new.ids, 1, length(old.ids)) <> old.ids or new.tenant <> old.tenant or new.number <> old.number begin
  select raise(abort, 'netra_audit: an index is never given to another entry');
end;
create trigger netra_audit_page_stays before delete on netra_audit_page begin
  select raise(abort, 'netra_audit: a page is never deleted');
end;

-- Entries from before this migration come into the logs like new ones, in the order of their ids; one that is told twice gets one index.
-- The cursor stands from now on, so that nothing is trimmed before it is in a log.
insert into netra_cursor (name, stream, seq)
select 'audit', 'audit', coalesce((select last_seq from netra_stream where stream = 'audit'), 0);
insert into netra_outbox (stream, tenant, items, at_us)
select 'audit', tenant, json_array(json_array(tenant, json_object('id', lower(hex(id))))), at_us
from netra_audit_entry order by id;
