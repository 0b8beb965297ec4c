"""A2: the trail alone rebuilds every audited column of every audited table, whatever there are."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import orjson
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netra_backend.batch import store as runs
from netra_backend.errors import NetraError
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import store as vault
from netra_backend.oauth.model import Client, Grant
from netra_backend.oauth.sso import signing
from netra_backend.oauth.sso import store as sso
from netra_backend.oauth.sso.health import Health
from netra_backend.oauth.sso.model import Offered, checked_options
from netra_backend.oauth.sso.rotation import HOUR_S, decide
from netra_backend.oauth.sso.settings import SsoSettings
from netra_backend.observability.debug import store as debug
from netra_backend.observability.debug.model import wanted
from netra_backend.storage import api_keys, tenants
from netra_backend.storage.statements import parse, statement
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.model import Endpoint, EventType

from ..support.audit_replay import COLUMNS, PLACES, differences, watched
from ..support.audits import SEALER, Trail
from ..support.storage import SYSTEM, opened, query

ACME = Scope("acme", "tester")
TRIGGERS = parse("""-- name: sqlite
select tbl_name, sql from sqlite_master where type = 'trigger';
-- name: postgresql
select c.relname::text, pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal;
""")
# A2


async def test_every_column_that_a_trigger_watches_is_rebuilt_or_says_why_not(database):
    columns = watched(await database.read(query, TRIGGERS[database.engine], scope=SYSTEM))
    assert columns.keys() == COLUMNS.keys()
    told = {table: rules.keys() | {"audit_id", "tenant"} | set(PLACES.get(table, ("id",))) for table, rules in COLUMNS.items()}
    assert {table: names - told[table] for table, names in columns.items() if names - told[table]} == {}


async def rows_of(database, tenant):
    found = {}
    for table, rules in COLUMNS.items():
        names = sorted({"tenant", "audit_id", *rules, *PLACES.get(table, ("id",))})
        select = statement(f"select {', '.join(names)} from {table} where tenant = :tenant")
        rows = await database.read(query, select, scope=Scope(tenant, "tester"))
        found[table] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


async def unexplained(trail, tenant, folder):
    """What the exported trail of a tenant does not rebuild of its rows."""
    await trail.export(folder, tenant)
    entries = [orjson.loads(line) for line in (folder / "entries.ndjson").read_bytes().splitlines()]
    return differences(entries, await rows_of(trail.database, tenant))


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tenant"), NAMES, st.one_of(st.none(), st.integers(1, 99))),
        st.tuples(st.just("key"), NAMES),
        st.tuples(st.just("expire"), st.integers(0, 3)),
        st.tuples(st.just("revoke"), st.integers(0, 3)),
        st.tuples(st.just("endpoint"), NAMES),
        st.tuples(st.just("change"), NAMES, st.sampled_from(["url", "headers", "disabled", "event_types"])),
        st.tuples(st.just("rotate"), NAMES),
        st.tuples(st.just("bury"), NAMES),
        st.tuples(st.just("event_type"), NAMES, st.booleans()),
        st.tuples(st.just("no_event_type"), NAMES),
        st.tuples(st.just("client"), NAMES),
        st.tuples(st.just("grant"), NAMES),
        st.tuples(st.just("end"), NAMES, st.booleans()),
        st.tuples(st.just("run"), NAMES),
        st.tuples(st.just("decide"), NAMES, st.sampled_from(["pause", "resume", "cancel"])),
        st.tuples(st.just("look"), NAMES),
        st.tuples(st.just("look_on"), st.integers(0, 3)),
        st.tuples(st.just("provider"), NAMES, st.integers(0, 2), st.booleans()),
        st.tuples(st.just("pin"), st.one_of(st.none(), NAMES)),
        st.tuples(st.just("fall"), NAMES),
        st.tuples(st.just("link"), NAMES, NAMES, NAMES),
        st.tuples(st.just("recognise"), NAMES, st.sampled_from(["viewer", "admin", None])),
        st.tuples(st.just("sign"), st.none()),
        st.tuples(st.just("look_away"), st.integers(0, 3), st.sampled_from(["actor", "time"])),
    ),
    min_size=10,
    max_size=40,
)


class World:
    """Every verb that changes an audited row, by short names; what cannot be is refused and changes nothing."""

    def __init__(self, database):
        self.database = database
        self.keys, self.runs, self.looks, self.count = [], {}, [b"?" * 16], 0

    async def step(self, kind, *arguments):
        self.count += 1
        with contextlib.suppress(NetraError):
            await getattr(self, kind)(*arguments)

    def write(self, verb, *arguments, scope=ACME, **options):
        async def do(tx):
            return await verb(tx, *arguments, **options)

        return self.database.write(do, scope=scope)

    async def tenant(self, name, limit):
        await self.write(tenants.update, "acme", {"name": name, "rate_limit": limit, "metadata": {"n": name}}, scope=SYSTEM)

    async def key(self, name):
        made, _ = await self.write(api_keys.create, tenant="acme", pepper=b"p" * 32, name=name, scopes=["tenant"])
        self.keys.append(made.id)

    async def expire(self, which):
        await self.write(api_keys.expire, "acme", self.keys[which % max(1, len(self.keys))] if self.keys else b"?" * 16, self.count)

    async def revoke(self, which):
        await self.write(api_keys.revoke, "acme", self.keys[which % max(1, len(self.keys))] if self.keys else b"?" * 16)

    async def endpoint(self, name):
        made = Endpoint("acme", b"", name, f"https://{name}.example/", "", None, ("c",), False, 5, {"k": name}, {"x-key": name})
        await self.write(endpoints.create, SEALER, made, None)

    async def change(self, name, what):
        values = {
            "url": f"https://{name}{self.count}.example/",
            "headers": {"x-key": str(self.count)},
            "disabled": True,
            "event_types": ("a.b",),
        }
        await self.write(endpoints.update, name, {what: values[what]})

    async def rotate(self, name):
        await self.write(endpoints.rotate_secret, SEALER, name, None)

    async def bury(self, name):
        await self.write(endpoints.bury, name)

    async def event_type(self, name, archived):
        made = EventType(f"{name}.done", "words", archived, False, None, {"1": {}}, 0, 0)
        try:
            await self.write(endpoints.create_event_type, made, scope=SYSTEM)
        except NetraError:
            await self.write(endpoints.update_event_type, made.name, {"archived": archived, "schemas": None}, scope=SYSTEM)

    async def no_event_type(self, name):
        await self.write(endpoints.bury_event_type, f"{name}.done", scope=SYSTEM)

    async def client(self, name):
        given = Client(name.encode() * 16, name, None, (f"http://{name}/token",), None, None, str(self.count), "post", ("s",))
        await self.write(vault.set_client, SEALER, given)

    async def grant(self, name):
        await self.client(name)
        await self.write(vault.import_grant, SEALER, f"user-{name}", name, Grant("at", f"rt-{self.count}", 0, 10**18))

    async def provider(self, name, rank, enabled):
        given = Client(name.encode() * 16, name, f"http://{name}", (f"http://{name}/token",), "http://a/", None, "netra", "post", ("s",))
        await self.write(vault.set_client, SEALER, given)
        offered = Offered(name, name, rank, enabled, checked_options({"default_role": "viewer", "audiences": [str(self.count)]}))
        await self.write(sso.set_provider, offered, SsoSettings())

    async def pin(self, name):
        await self.write(sso.pin, name)

    async def fall(self, name):
        """Logins go away from it, as if it were down."""

        async def decided(tx):
            found = await sso.providers(tx)
            was, version = await sso.rotation(tx)
            down = was.with_health(f"http://{name}", "token", Health("down")).advanced(HOUR_S)
            await sso.swap(tx, version, *decide(down, [each.candidate for each in found if each.enabled], SsoSettings()))

        await self.write(decided)

    async def link(self, name, backup, subject):
        await self.write(sso.link, name, f"{subject}1", backup, f"{subject}2")

    async def recognise(self, name, role):
        async def known(tx):
            for each in await sso.providers(tx):
                if each.name == name:
                    await sso.recognise(tx, each, f"{name}1", role, first=True)

        await self.write(known)

    async def sign(self, _):
        await self.write(signing.rotate, SEALER, scope=SYSTEM)

    async def end(self, name, delete):
        await self.write(vault.revoke, SEALER, f"user-{name}", "test", delete=delete)

    async def run(self, name):
        self.runs[name], _ = await self.write(runs.start, name, name, {}, 1)

    async def decide(self, name, event):
        await self.write(runs.decide, self.runs.get(name, b"?" * 16), event)

    async def look(self, name):
        asked = wanted(name, None, {"user": name}, None, [f"{name}.b:c"])
        self.looks.append((await self.write(debug.start, asked)).id)

    async def look_on(self, which):
        await self.write(debug.extend, self.looks[which % len(self.looks)], self.count * 10**6)

    async def look_away(self, which, by):
        await self.write(debug.end, self.looks[which % len(self.looks)], by)


@given(steps=STEPS)
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_trail_alone_rebuilds_every_audited_column_after_any_decisions(engine, steps):
    async def check(folder):
        async with opened(engine, folder) as database:
            trail = await Trail.over(database, folder / "memory")
            await database.write(tenants.ensure, "acme", scope=SYSTEM)
            world = World(database)
            for step in steps:
                await world.step(*step)
            await trail.settle()
            assert await unexplained(trail, "acme", folder / "acme") == []
            if await trail.log_of("*"):
                assert await unexplained(trail, "*", folder / "system") == []
            await database.write(tenants.bury, "acme", scope=SYSTEM)
            await trail.settle()
            assert await unexplained(trail, "acme", folder / "buried") == []

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


async def test_a_row_that_was_changed_behind_the_trails_back_is_seen(database, tmp_path):
    """The replay itself, put to the test: without the triggers, one changed column is one difference."""
    trail = await Trail.over(database, tmp_path / "memory")
    await database.write(tenants.ensure, "acme", scope=SYSTEM)
    world = World(database)
    of_sign_on = (("provider", "b", 0, True), ("provider", "c", 1, True), ("link", "b", "c", "a"), ("recognise", "b", "admin"))
    for step in (("endpoint", "a"), ("key", "a"), ("client", "a"), ("grant", "a"), *of_sign_on):
        await world.step(*step)
    await trail.settle()
    await trail.export(tmp_path / "export")
    entries = [orjson.loads(line) for line in (tmp_path / "export/entries.ndjson").read_bytes().splitlines()]
    rows = await rows_of(database, "acme")
    assert differences(entries, rows) == []
    seen = 0
    for table, found in rows.items():
        for row in found:
            for name in COLUMNS[table]:
                kept = row[name]
                row[name] = {int: 12345, bytes: b"other value 1234", str: '["other"]'}.get(type(kept), "other")
                seen += len(differences(entries, rows))
                row[name] = kept
    assert seen >= sum(len(COLUMNS[table]) * len(found) for table, found in rows.items())
