-- KPIs say of what was missed which connection it waited for: how connections of several tenants stand, and no token of them.

grant select (client, name, reason, failures, expires_us, deleted_us) on netra_connection to netra_fleet;
create policy of_fleet on netra_oauth_client for select to netra_fleet using (true);
grant select (tenant, id, name, provider) on netra_oauth_client to netra_fleet;
