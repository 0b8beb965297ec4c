"""PostgreSQL's schema and roles: made by the owner with `netra migrate`, only checked by everybody else.

Three roles keep tenants apart. `netra_run` is what Netra logs in as; `netra_app` is granted to a user's own role that
adopts its transactions; `netra_fleet` serves all tenants, has no login, and is entered for the statements on the fleet
list. None of them owns anything. A process that logs in as more than that is refused, because policies do not bind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from ..errors import NetraError
from .errors import NotTheOwner, PrivilegedRole, RolesMissing, SchemaTooOld, WrongRole
from .migrate import Applied, Migration, is_missing, migrations, require_all
from .postgres_errors import opening, translated

RUN_ROLE: Final = "netra_run"
CONNECT_S: Final = 5.0
_LOGIN: Final = frozenset({"user", "password", "passfile", "sslpassword", "sslcert", "sslkey"})
_LOCK: Final = 0x6E657472  # "netr": two migrations at once take turns
_TABLE: Final = """create table if not exists netra_migration (
  number bigint primary key, name text collate "C" not null, checksum text collate "C" not null, applied_us bigint not null)"""
_GRANT: Final = "grant select on netra_migration to netra_run, netra_app, netra_fleet"
_APPLIED: Final = "select number, name, checksum from netra_migration"
_INSERT: Final = "insert into netra_migration (number, name, checksum, applied_us) values ($1, $2, $3, $4)"
_KEEP_IT: Final = "select set_config('netra.new_password', $1, true)"
_SET_IT: Final = """do $$ begin
  execute format('alter role netra_run password %L', current_setting('netra.new_password'));
end $$"""
"""A role's password can be no parameter: the server itself quotes it."""
_RIGHTS: Final = """select to_regrole('netra_fleet') is null or to_regrole('netra_run') is null,
  r.rolsuper or r.rolbypassrls or exists (
    select 1 from pg_class c where c.relname like 'netra\\_%' and c.relkind = 'r' and pg_has_role(r.oid, c.relowner, 'member'))
  or (to_regrole('netra_fleet') is not null and pg_has_role(r.oid, to_regrole('netra_fleet'), 'usage')),
  case when to_regrole('netra_fleet') is null then false else pg_has_role(r.oid, to_regrole('netra_fleet'), 'member') end
from pg_roles r where r.rolname = current_user"""


async def check_postgres(connection: asyncpg.Connection) -> None:
    """Raise where the schema is not this release's, or the login role is not one that policies bind."""
    missing, privileged, fleet = await connection.fetchrow(_RIGHTS)
    if privileged:
        raise PrivilegedRole
    if missing:
        raise RolesMissing
    if not fleet:
        raise WrongRole
    try:
        applied = await _applied(connection)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        raise SchemaTooOld from None
    require_all(migrations("postgres"), applied)


async def migrate_postgres(url: str, now_us: Callable[[], int]) -> list[Migration]:
    """Apply what is missing as the owner, each file in a transaction of its own, and return it."""
    connection = await _connect(url)
    try:
        if await connection.fetchval("select to_regrole('netra_fleet') is null or to_regrole('netra_run') is null"):
            raise RolesMissing
        known = migrations("postgres")
        return [each for each in known if await _apply(connection, known, each, now_us())]
    except asyncpg.PostgresError as error:
        raise _refusal(error) from error
    finally:
        await connection.close()


async def create_roles(url: str, password: str) -> str | None:
    """Make the roles that are missing; the URL of `netra_run`, or None where it exists and its password is not ours to know."""
    connection = await _connect(url)
    try:
        async with connection.transaction():
            existed = await connection.fetchval("select to_regrole('netra_run') is not null")
            await connection.execute(roles_sql())
            if not existed:
                await connection.execute(_KEEP_IT, password)
                await connection.execute(_SET_IT)
    except asyncpg.PostgresError as error:
        raise _refusal(error) from error
    finally:
        await connection.close()
    return None if existed else with_user(url, RUN_ROLE, password)


async def has_schema(url: str) -> bool:
    """Whether the database holds an installation of Netra's already."""
    connection = await _connect(url)
    try:
        return bool(await connection.fetchval("select to_regclass('netra_migration') is not null"))
    finally:
        await connection.close()


def roles_sql() -> str:
    """What makes the roles, for `--print` as well."""
    return resources.files(__package__).joinpath("postgres_roles.sql").read_text(encoding="utf-8")


def with_user(url: str, user: str, password: str) -> str:
    """The same database as another role; a login that stands among the parameters is the first one's, and left out."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in _LOGIN]
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{quote(password)}@{host}", query=urlencode(kept, safe="/")))


async def _connect(url: str) -> asyncpg.Connection:
    with opening(url):
        return await asyncpg.connect(url, timeout=CONNECT_S)


def _refusal(error: asyncpg.PostgresError) -> NetraError:
    """Why the owner's statement was refused, with what our own scripts say to do."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return NotTheOwner(f"{NotTheOwner.__doc__} ({error})")
    found = translated(error)
    found.fix = error.hint or found.fix
    return found


async def _apply(connection: asyncpg.Connection, known: Sequence[Migration], migration: Migration, now_us: int) -> bool:
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        if not is_missing(known, migration, await _applied(connection)):
            return False
        await connection.execute(migration.sql)
        await connection.execute(_GRANT)
        await connection.execute(_INSERT, migration.number, migration.name, migration.checksum, now_us)
        return True


async def _applied(connection: asyncpg.Connection) -> Applied:
    return {row[0]: (row[1], row[2]) for row in await connection.fetch(_APPLIED)}
