"""A8: a raw change of any audited column of any table is refused, by the role that Netra itself runs as. Enumerated from the schema."""

from __future__ import annotations

import pytest

from netra_backend.storage.statements import parse, statement

from ..support.audit_replay import COLUMNS, watched
from ..support.isolation.worlds import postgres_worlds, sqlite_worlds
from ..support.storage import EVERY_ENGINE, with_its_server

SCHEMA = parse("""-- name: sqlite_triggers
select tbl_name, sql from sqlite_master where type = 'trigger';
-- name: postgresql_triggers
select c.relname::text, pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal;
-- name: sqlite_types
select m.name, c.name, lower(c.type) from sqlite_master m join pragma_table_info(m.name) c where m.type = 'table';
-- name: postgresql_types
select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attnum > 0;
""")
OTHER = {"text": "other", "integer": 7, "bigint": 7, "blob": b"other value 1234", "bytea": b"other value 1234"}
"""By type, a value that no row has."""

VALID = {
    ("netra_oauth_client", "auth"): "post",
    ("netra_endpoint", "ordering"): "key",
    ("netra_endpoint", "disabled"): 1,
    ("netra_event_type", "archived"): 1,
    ("netra_event_type", "deprecated"): 1,
    ("netra_connection", "state"): "failed",
    ("netra_job_run", "state"): "cancelled",
    ("netra_job_schedule", "state"): "off",
    ("netra_webhook_task", "state"): "cancelled",
    ("netra_debug_session", "state"): "ended",
    ("netra_sso_identity", "role"): "admin",
    ("netra_sso_provider", "enabled"): 0,
}
"""Where only some values are possible: another of those."""

BY_A_KEY = {"tenant", "id", "audit_id", "endpoint_id", "linked", "client"}
"""What a reference may refuse before the trigger does."""


REFUSALS = "netra_audit", "permission denied"
"""The trigger's word, or the server's where the role may not even try."""


@pytest.fixture(params=EVERY_ENGINE)
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def worlds(engine, request, tmp_path):
    if engine == "postgres":
        made = postgres_worlds(request.getfixturevalue("postgres_server"), policies=True)
    else:
        made = sqlite_worlds(engine, request.getfixturevalue("templates")[engine], tmp_path)
    async with made as worlds:
        yield worlds


async def schema_of(worlds):
    dialect = "postgresql" if worlds.engine == "postgres" else "sqlite"
    if dialect == "sqlite":
        triggers, types = (worlds.alone.connection.run(SCHEMA[f"sqlite_{what}"].sqlite) for what in ("triggers", "types"))
    else:
        triggers, types = [await worlds.alone.connection.fetch(SCHEMA[f"postgresql_{what}"].text) for what in ("triggers", "types")]
    return watched([(table, sql) for table, sql in triggers]), {(table, column): kind for table, column, kind in types}


async def test_a_raw_change_of_any_audited_column_of_any_table_is_refused(worlds):
    columns, types = await schema_of(worlds)
    assert columns.keys() == COLUMNS.keys()
    tried, let_pass, unheard = 0, [], []
    for table, names in sorted(columns.items()):
        tenant = "*" if table == "netra_event_type" else "acme"
        for name in sorted(names):
            value = VALID.get((table, name), OTHER[types[table, name]])
            one = "" if table == "netra_delivery" else f" and audit_id = (select min(audit_id) from {table} where tenant = :tenant)"
            change = statement(f"update {table} set {name} = :value where tenant = :tenant{one}")
            outcome = await worlds.alone.run(change, {"value": value}, tenant)
            tried += 1
            if outcome.error is None:
                let_pass.append((table, name))
            elif not any(words in str(outcome.error) for words in REFUSALS) and name not in BY_A_KEY:
                unheard.append((table, name, str(outcome.error)))
    assert (let_pass, unheard) == ([], [])
    assert tried > 60
