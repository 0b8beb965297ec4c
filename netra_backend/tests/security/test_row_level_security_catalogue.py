"""What PostgreSQL's own catalogue says of every table of ours, so that a new one fails here until tenants are apart on it.

Each exception stands in a table below with its reason. Each rule has a control: a change that it must complain of.
"""

from __future__ import annotations

import pytest

RUN, APP, FLEET = ROLES = ("netra_run", "netra_app", "netra_fleet")
OF_TENANT = "(tenant = current_setting('netra.tenant'::text, true))"
MAY_BE_GRANTED = {"SELECT", "INSERT", "UPDATE", "DELETE"}

WITHOUT_TENANT = {
    "netra_meta": "facts of the installation: its id",
    "netra_probe": "one row, written to see that writing works",
    "netra_node": "processes serve all tenants",
    "netra_lease": "what one process does for all tenants",
    "netra_metric": "figures of processes, shown to operators alone",
    "netra_stream": "a stream carries every tenant's items",
    "netra_cursor": "as netra_stream",
    "netra_migration": "the schema's own history",
}
KEYS_WITHOUT_TENANT = {
    "netra_outbox_pkey": "one queue for all tenants, taken in order; its number comes from the database",
    "netra_log_pkey": "a stream is dense over all tenants",
    "netra_tenant_id_key": "a tenant is looked up by its id before anybody knows which it is; ids are random",
    "netra_tenant_uid_key": "uids are unique in the installation, so that one may stand for the tenant",
    "netra_connect_flow_state": "whose user comes back from a provider is known by the state alone; it is random, and hashed",
    "netra_sso_login_state": "whose browser comes back is known by the state alone; it is random, and hashed",
    "netra_sso_session_hash": "whose session it is is known by its cookie alone; it is random, and its hash is keyed",
    "netra_api_key_hash_key": "a key is looked up by its hash before anybody knows whose it is; hashes are keyed",
}
OPEN_POLICIES = {
    ("netra_event_type", "of_everybody"): "the operator's event types are what every tenant's messages are checked against",
}

TABLES = """select c.relname::text as name, c.relkind::text as kind, c.relrowsecurity as secured, c.relforcerowsecurity as forced,
  pg_get_userbyid(c.relowner)::text as owner,
  exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped) as of_tenants
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname like 'netra\\_%' and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^pg_' order by 1"""
COLUMNS = """select c.relname::text as name, a.attname::text as column, format_type(a.atttypid, a.atttypmod) as type,
  (select l.collname::text from pg_collation l where l.oid = a.attcollation) as collation, a.attnotnull as required
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relname like 'netra\\_%' and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped"""
UNIQUE_KEYS = """select c.relname::text as name, i.indexrelid::regclass::text as index,
  (select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum = i.indkey[0]) as first
from pg_index i join pg_class c on c.oid = i.indrelid where c.relname like 'netra\\_%' and c.relkind = 'r' and i.indisunique"""
REFERENCES = """select c.relname::text as name, k.conname::text as key, k.confrelid::regclass::text as referenced,
  (select a.attname::text from pg_attribute a where a.attrelid = k.conrelid and a.attnum = k.conkey[1]) as first,
  (select a.attname::text from pg_attribute a where a.attrelid = k.confrelid and a.attnum = k.confkey[1]) as first_there
from pg_constraint k join pg_class c on c.oid = k.conrelid where c.relname like 'netra\\_%' and k.contype = 'f'"""
POLICIES = """select tablename::text as name, policyname::text as policy, roles::text[] as roles, cmd, permissive,
  qual, with_check from pg_policies where tablename like 'netra\\_%'"""
GRANTS = """select c.relname::text as name, x.privilege_type as verb,
  case x.grantee when 0 then 'public' else pg_get_userbyid(x.grantee)::text end as role, x.grantee = c.relowner as of_owner
from (select oid, relname, relowner, relacl from pg_class
      union all select c.oid, c.relname, c.relowner, a.attacl from pg_attribute a join pg_class c on c.oid = a.attrelid) c,
  aclexplode(c.relacl) x
where c.relname like 'netra\\_%'"""
FUNCTIONS = """select p.proname::text as name, p.prosecdef as definer, p.proconfig::text[] as config,
  p.proacl is null or exists (select from aclexplode(p.proacl) x where x.grantee = 0) as public
from pg_proc p where p.proname like 'netra\\_%'"""
ATTRIBUTES = """select rolname::text as role, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication as powerful,
  rolcanlogin as login, rolinherit or (rolname = 'netra_run' and pg_has_role(rolname, 'netra_fleet', 'usage')) as inherits,
  exists (select from pg_shdepend d where d.refobjid = r.oid and d.deptype = 'o') as owns,
  has_schema_privilege(rolname, 'public', 'create') or has_database_privilege(rolname, current_database(), 'create') as creates
from pg_roles r where rolname = any($1)"""
MEMBERS = """select m.member::regrole::text as member, m.roleid::regrole::text as role, r.rolinherit as inherits,
  r.rolsuper or (r.rolcreaterole and m.admin_option) as of_maker
from pg_auth_members m join pg_roles r on r.oid = m.member"""


async def complaints(connection):
    """Everything in the catalogue that would let tenants see each other, as sentences."""
    tables = {row["name"]: row for row in await connection.fetch(TABLES)}
    of_tenants = {name for name, table in tables.items() if table["of_tenants"]}
    policies = await connection.fetch(POLICIES)
    grants = [row for row in await connection.fetch(GRANTS) if not row["of_owner"]]
    rules = (
        _of_tables(tables.values(), policies),
        _of_policies(tables, policies),
        _of_grants(of_tenants, policies, grants),
        _of_columns(await connection.fetch(COLUMNS)),
        _of_keys(of_tenants, await connection.fetch(UNIQUE_KEYS), await connection.fetch(REFERENCES)),
        _of_functions(await connection.fetch(FUNCTIONS)),
        _of_roles(await connection.fetch(ATTRIBUTES, ROLES), await connection.fetch(MEMBERS)),
    )
    return sorted({complaint for rule in rules for complaint in rule})


def _of_tables(tables, policies):
    for name, kind, secured, forced, owner, of_tenants in tables:
        if kind != "r":
            yield f"{name}: no plain table: a view reads with its owner's rights, a partition can be read by itself"
        elif not of_tenants and name not in WITHOUT_TENANT:
            yield f"{name}: has no tenant and no reason why"
        elif of_tenants and not (secured and forced):
            yield f"{name}: row-level security is {'not forced' if secured else 'off'}"
        elif of_tenants and not any(row["name"] == name and owner in row["roles"] and row["cmd"] == "ALL" for row in policies):
            yield f"{name}: its owner has no policy, so that a migration of its data would quietly find no rows"


def _of_policies(tables, policies):
    for name, policy, roles, _, permissive, qual, with_check in policies:
        if permissive != "PERMISSIVE":
            continue
        for role in roles:
            if role not in {RUN, APP, FLEET, tables[name]["owner"]}:
                yield f"{name}: policy {policy} is for {role}"
            elif role in {RUN, APP} and {qual, with_check} - {None, OF_TENANT} and (name, policy) not in OPEN_POLICIES:
                yield f"{name}: policy {policy} shows {role} more than the tenant's rows"
            elif (name, policy) in OPEN_POLICIES and with_check:
                yield f"{name}: policy {policy} is open for writing"


def _of_grants(of_tenants, policies, grants):
    has = {(row["name"], role, verb) for row in policies for role in row["roles"] for verb in _verbs(row["cmd"])}
    for name, verb, role, _ in grants:
        if role not in ROLES:
            yield f"{name}: {verb} is granted to {role}"
        elif verb not in MAY_BE_GRANTED:
            yield f"{name}: {role} may {verb}"
        elif name in of_tenants and (name, role, verb) not in has:
            yield f"{name}: {role} may {verb} and has no policy for it"


def _verbs(command):
    return MAY_BE_GRANTED if command == "ALL" else {command}


def _of_columns(columns):
    for name, column, kind, collation, required in columns:
        if kind not in {"text", "bigint", "bytea", "double precision"}:
            yield f"{name}.{column}: the type {kind}"
        elif kind == "text" and collation != "C":
            yield f"{name}.{column}: text that does not compare by bytes"
        elif column == "tenant" and not required:
            yield f"{name}.{column}: may be null"


def _of_keys(of_tenants, keys, references):
    for name, index, first in keys:
        if name in of_tenants and first != "tenant" and index not in KEYS_WITHOUT_TENANT:
            yield f"{name}: the unique key {index} does not begin with the tenant, so that one tenant meets another's rows"
    for name, key, referenced, first, first_there in references:
        if (name in of_tenants or referenced in of_tenants) and (first, first_there) != ("tenant", "tenant"):
            yield f"{name}: the reference {key} does not begin with the tenant, so that a row may point at another tenant's"


def _of_functions(functions):
    for name, definer, config, public in functions:
        if definer:
            yield f"{name}(): runs with its owner's rights"
        if not any(each.startswith("search_path=") and each.endswith("pg_temp") for each in config or ()):
            yield f"{name}(): has no search path that ends with pg_temp"
        if public:
            yield f"{name}(): may be called by everybody"


def _of_roles(attributes, members):
    for role, powerful, login, inherits, owns, creates in attributes:
        if powerful or owns or creates:
            yield f"{role}: {'is powerful' if powerful else 'owns something' if owns else 'may create'}"
        if login != (role == RUN) or (role == RUN and inherits):
            yield f"{role}: logs in or inherits where it should not"
    for member, role, inherits, of_maker in members:
        allowed = (member, role) == (RUN, FLEET) and not inherits
        if (member in ROLES or role in {RUN, FLEET}) and not allowed and not of_maker:
            yield f"{member}: is a member of {role}"


@pytest.fixture
async def catalogue(postgres_server, postgres_database):
    """The superuser in a transaction that is rolled back: roles belong to the whole server."""
    async with postgres_server.connected(postgres_database, user="superuser") as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def test_tenants_are_apart_on_every_table(catalogue):
    assert await complaints(catalogue) == []


async def test_every_exception_is_still_needed(catalogue):
    tables = {row["name"]: row["of_tenants"] for row in await catalogue.fetch(TABLES)}
    assert {name for name, of_tenants in tables.items() if not of_tenants} == set(WITHOUT_TENANT)
    keys = await catalogue.fetch(UNIQUE_KEYS)
    assert {row["index"] for row in keys if tables[row["name"]] and row["first"] != "tenant"} == set(KEYS_WITHOUT_TENANT)
    assert {(row["name"], row["policy"]) for row in await catalogue.fetch(POLICIES)} >= set(OPEN_POLICIES)


NEW = 'create table netra_new (tenant text collate "C", id bytea, note text collate "C", primary key (tenant, id));'
SECURED = f"{NEW} alter table netra_new enable row level security, force row level security;"
WHOLE = f"{SECURED} create policy of_owner on netra_new to current_user using (true);"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (NEW, "netra_new: row-level security is off"),
        (f"{NEW} alter table netra_new enable row level security", "netra_new: row-level security is not forced"),
        (SECURED, "netra_new: its owner has no policy, so that a migration of its data would quietly find no rows"),
        (f"{WHOLE} grant select on netra_new to netra_run", "netra_new: netra_run may SELECT and has no policy for it"),
        (f"{WHOLE} grant update (note) on netra_new to netra_app", "netra_new: netra_app may UPDATE and has no policy for it"),
        (f"{WHOLE} create policy p on netra_new using (true)", "netra_new: policy p is for public"),
        (
            f"{WHOLE} create policy p on netra_new to netra_run using (true)",
            "netra_new: policy p shows netra_run more than the tenant's rows",
        ),
        ("create table netra_new (id bytea primary key)", "netra_new: has no tenant and no reason why"),
        ("create view netra_new as select * from netra_message", "netra_new: no plain table"),
        (
            "create policy p on netra_event_type for insert to netra_run with check (true)",
            "netra_event_type: policy p shows netra_run more",
        ),
        ("alter policy of_everybody on netra_event_type to netra_fleet, public", "netra_event_type: policy of_everybody is for public"),
        ("alter table netra_message no force row level security", "netra_message: row-level security is not forced"),
        ("grant truncate on netra_message to netra_run", "netra_message: netra_run may TRUNCATE"),
        ("grant references on netra_message to netra_app", "netra_message: netra_app may REFERENCES"),
        ("grant trigger on netra_message to netra_fleet", "netra_message: netra_fleet may TRIGGER"),
        ("grant select on netra_message to public", "netra_message: SELECT is granted to public"),
        ("grant usage on sequence netra_outbox_id_seq to netra_run", "netra_outbox_id_seq: netra_run may USAGE"),
        ("alter table netra_message alter event_id type text", "netra_message.event_id: text that does not compare by bytes"),
        ("alter table netra_message alter created_us type integer", "netra_message.created_us: the type integer"),
        ("alter table netra_outbox alter tenant drop not null", "netra_outbox.tenant: may be null"),
        ("create unique index netra_event on netra_message (event_id)", "netra_message: the unique key netra_event does not begin"),
        (
            "alter table netra_attempt add foreign key (endpoint_id, tenant) references netra_endpoint (id, tenant)",
            "netra_attempt: the reference netra_attempt_endpoint_id_tenant_fkey does not begin",
        ),
        ("create function netra_f() returns int language sql security definer return 1", "netra_f(): runs with its owner's rights"),
        ("create function netra_f() returns int language sql return 1", "netra_f(): has no search path that ends with pg_temp"),
        ("grant execute on function netra_audit_serve to public", "netra_audit_serve(): may be called by everybody"),
        ("alter role netra_run bypassrls", "netra_run: is powerful"),
        ("alter role netra_app createrole", "netra_app: is powerful"),
        ("alter role netra_fleet login", "netra_fleet: logs in or inherits where it should not"),
        ("alter role netra_run inherit", "netra_run: logs in or inherits where it should not"),
        ("grant netra_fleet to netra_app", "netra_app: is a member of netra_fleet"),
        ("grant netra_run to netra_test_shop", "netra_test_shop: is a member of netra_run"),
        ("grant pg_read_all_data to netra_run", "netra_run: is a member of pg_read_all_data"),
        ("alter table netra_probe owner to netra_run", "netra_run: owns something"),
        ("grant create on schema public to netra_app", "netra_app: may create"),
    ],
)
async def test_a_gap_is_found(change, complaint, catalogue):
    await catalogue.execute(change)
    found = await complaints(catalogue)
    assert any(each.startswith(complaint) for each in found), found
