"""The options that commands share, and the one place where a command's function becomes a command.

`@command(app, "list", TENANT)` gives a function `async def list_(place: Place, limit: int)` the options of its kind
beside its own: where the database or the server is, whose data, and the form of the answer. So `--tenant` means the
same everywhere, and no command can forget `--json`.
"""

from __future__ import annotations

import asyncio
import getpass
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from ..errors import MissingTenant, UsageError
from .output import OK, Output

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: Final[Mapping[str, Any]] = {
    "data": Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder of the installation's files, the database's too if none is named (NETRA_DATA)."),
    ],
    "database_url": Annotated[
        str | None, typer.Option("--database-url", metavar="URL", help="The database, where it is elsewhere (NETRA_DATABASE_URL).")
    ],
    "config": Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file, in place of ./netra.toml.")],
    "server": Annotated[str | None, typer.Option("--server", metavar="URL", help="Ask this server instead of the database.")],
    "key": Annotated[str | None, typer.Option("--key", metavar="KEY", envvar="NETRA_OPERATOR_KEY", help="API key for --server.")],
    "tenant": Annotated[str | None, typer.Option("--tenant", metavar="T", envvar="NETRA_TENANT", help="Whose data.")],
    "as_json": Annotated[bool, typer.Option("--json", help="One JSON document on stdout; NDJSON where it is a stream.")],
}

DATABASE: Final = ("data", "database_url", "config", "as_json")
"""Options of a command that opens the database, for the whole installation."""

ANYWHERE: Final = ("data", "database_url", "config", "server", "key", "as_json")
"""The same, and it can ask a server instead."""

TENANT: Final = ("tenant", *ANYWHERE)
"""The same, on one tenant's data."""

TENANT_DATABASE: Final = ("tenant", *DATABASE)
"""On one tenant's data, where no route of the server does it."""

JSON: Final = ("as_json",)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command works, for whom, and how it answers."""

    data: Path | None = None
    database_url: str | None = None
    config: Path | None = None
    server: str | None = None
    key: str | None = None
    tenant: str | None = None
    as_json: bool = False
    output: Output = field(init=False)

    def __post_init__(self) -> None:
        if self.server and (self.data or self.database_url):
            raise UsageError("--server and a database are named at once", fix="Give --server with --key, or --data or --database-url.")
        object.__setattr__(self, "output", Output(as_json=self.as_json))

    def settings(self) -> dict[str, Any]:
        """The keywords for `Netra(...)`: absolute, because SQLite's URL is read by other processes too.

        The folder says nothing of the database's place where a setting names one: `serve --data D` with NETRA_DATABASE_URL on
        PostgreSQL must not begin another installation in D.
        """
        data = self.data.absolute() if self.data is not None else None
        given = {"data": data, "database_url": self.database_url}
        return {name: value for name, value in given.items() if value is not None}

    def the_tenant(self) -> str:
        """Whose data; `MissingTenant` where nobody said."""
        if not self.tenant:
            raise MissingTenant("no tenant is named", fix="Give --tenant T, or set NETRA_TENANT.")
        return self.tenant


def group(summary: str) -> typer.Typer:
    """A command with sub-commands."""
    return typer.Typer(help=summary, no_args_is_help=False, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def single() -> typer.Typer:
    """A command without sub-commands; `@command(app, None, ...)` fills it."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def command(app: typer.Typer, name: str | None, shared: tuple[str, ...]) -> Callable[[Function], Function]:
    """Add the function to `app`; its first parameter is the `Place`, made of the `shared` options."""

    def add(function: Function) -> Function:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=_default(each), annotation=_OPTIONS[each]) for each in shared
        ]

        def run(**given: Any) -> int:
            place = Place(**{each: given.pop(each) for each in shared})
            result = function(place, **given)
            code = asyncio.run(result) if inspect.iscoroutine(result) else result
            return OK if code is None else int(code)

        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature([*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *common])  # type: ignore[attr-defined]  # what inspect reads
        app.command(name)(run)
        return function

    return add


def _default(name: str) -> Any:
    return next(each.default for each in fields(Place) if each.name == name)


def actor() -> str:
    """How an audit entry names whoever uses the command line: the account of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # no name for this uid, as in many containers
        return "cli"
