-- Netra as an issuer: the keys that it signs with, and the trades that were made.

-- A key pair; `sealed` holds the private half. It signs from `signs_from_us` until the next one does.
create table netra_signing_key (
  tenant text not null,
  id blob not null,
  sealed blob not null,
  signs_from_us integer not null,
  created_us integer not null,
  audit_id blob,
  primary key (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
) strict;

-- A token that was traded, by a hash of what was traded for whom; kept until the token has ended.
create table netra_token_exchange (
  tenant text not null,
  trace blob not null,
  expires_us integer not null,
  primary key (tenant, trace)
) strict;
create index netra_token_exchange_expiry on netra_token_exchange (expires_us);

create trigger netra_signing_key_audit_insert after insert on netra_signing_key begin
  select raise(abort, 'netra_audit: this change of netra_signing_key has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_signing_key' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
create trigger netra_signing_key_audit_update
after update of sealed, signs_from_us, audit_id on netra_signing_key
when new.sealed is not old.sealed or new.signs_from_us is not old.signs_from_us or new.audit_id is not old.audit_id begin
  select raise(abort, 'netra_audit: this change of netra_signing_key has no audit entry of its own')
  where not exists (select 1 from netra_audit_entry e where e.tenant = new.tenant and e.id = new.audit_id
                    and e.target_table = 'netra_signing_key' and e.target = lower(hex(new.id)));
  insert into netra_audit_use (tenant, audit_id) values (new.tenant, new.audit_id);
end;
