-- Netra as an issuer: the keys that it signs with, and the trades that were made.

-- A key pair; `sealed` holds the private half. It signs from `signs_from_us` until the next one does.
create table netra_signing_key (
  tenant text collate "C" not null,
  id bytea not null,
  sealed bytea not null,
  signs_from_us bigint not null,
  created_us bigint not null,
  audit_id bytea,
  primary key (tenant, id),
  foreign key (tenant, audit_id) references netra_audit_entry (tenant, id)
);

-- A token that was traded, by a hash of what was traded for whom; kept until the token has ended.
create table netra_token_exchange (
  tenant text collate "C" not null,
  trace bytea not null,
  expires_us bigint not null,
  primary key (tenant, trace)
);
create index netra_token_exchange_expiry on netra_token_exchange (expires_us);

create trigger netra_signing_key_audit_insert after insert on netra_signing_key
for each row execute function netra_audit_by_id();
create trigger netra_signing_key_audit_update
after update of sealed, signs_from_us, audit_id on netra_signing_key
for each row when (new.sealed is distinct from old.sealed or new.signs_from_us is distinct from old.signs_from_us or new.audit_id is distinct from old.audit_id)
execute function netra_audit_by_id();

-- Who sees what, and what each may do; see 0001. Keys belong to the installation, under its own tenant.

alter table netra_signing_key enable row level security, force row level security;
create policy of_tenant on netra_signing_key to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_owner on netra_signing_key to current_user using (true) with check (true);

alter table netra_token_exchange enable row level security, force row level security;
create policy of_tenant on netra_token_exchange to netra_run
using (tenant = current_setting('netra.tenant', true)) with check (tenant = current_setting('netra.tenant', true));
create policy of_fleet on netra_token_exchange to netra_fleet using (true) with check (true);
create policy of_owner on netra_token_exchange to current_user using (true) with check (true);

revoke all on netra_signing_key, netra_token_exchange from public;
grant select, insert on netra_signing_key to netra_run;
grant select, insert, delete on netra_token_exchange to netra_run;
grant select, delete on netra_token_exchange to netra_fleet;
