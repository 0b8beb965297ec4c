"""`netra oauth import | list | token | refresh | revoke`: connections and their tokens."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from enum import Enum
from typing import Annotated, Any, Final

import typer

from ..options import TENANT, Place, command
from ..output import NO, OK, iso
from . import app
from .callback import Callback
from .clients import File, read_object
from .door import LocalDoor, entered

LOOK_EVERY_S: Final = 0.5


class Way(Enum):
    """How a user, or the client itself, connects."""

    ADDRESS = "address"
    LINK = "link"
    DEVICE = "device"
    OWN = "client-credentials"
    SIGNED = "jwt-bearer"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The connection's name.")]


@command(app, "import", TENANT)
async def import_(
    place: Place,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="The registration that the tokens were got with.")],
    file: File,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The connection's name; the client's if left out.")] = None,
) -> None:
    """Take over tokens that were got elsewhere.

    The file is a JSON object with `access_token`, `refresh_token` and `expires_in`, as a token endpoint answers it, or with an `api_key`
    alone. From then on nobody else may refresh that grant.
    """
    tokens = read_object(file)
    async with entered(place) as door:
        shown = await door.import_(name or client, client, tokens)
    place.output.document(shown, _words(shown))


@command(app, "connect", TENANT)
async def connect(
    place: Place,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="The registration to connect with.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The connection's name; the client's if left out.")] = None,
    redirect_uri: Annotated[
        str | None,
        typer.Option("--redirect-uri", metavar="URL", help="Where the user comes back to; the server, or this command while it waits."),
    ] = None,
    by: Annotated[
        Way, typer.Option("--by", help="An address, a link to send, a code to type, its own right, or what it signs.")
    ] = Way.ADDRESS,
    wait: Annotated[float, typer.Option("--wait", metavar="S", help="Seconds to wait for the user; 0 only prints the address.")] = 300,
    open_: Annotated[bool, typer.Option("--open", help="Open the address in this host's browser, too.")] = False,
) -> int:
    """Send a user to a provider and wait for him.

    Prints where he connects, and how the connection stands in the end; exit 1 if it is not made. Without --server he comes back to this
    command itself, at an address of this host: his browser must run here, and the provider must allow such addresses.
    """
    from ...kernel.clock import SystemClock

    clock = SystemClock()
    async with entered(place) as door, AsyncExitStack() as stack:
        if by is Way.ADDRESS and redirect_uri is None and wait and isinstance(door, LocalDoor):
            redirect_uri = (await stack.enter_async_context(Callback(door.finish))).url
        if by in {Way.OWN, Way.SIGNED}:
            made = await door.own(name or client, client, by.value.replace("-", "_"))
            place.output.event(made, _words(made))
            return OK
        if by is Way.ADDRESS:
            begun = await door.connect(name or client, client, redirect_uri)
        else:
            begun = await (door.link if by is Way.LINK else door.device)(name or client, client)
        place.output.event(begun, _asked(begun))
        if open_ and (address := begun.get("authorize_url") or begun.get("url") or begun.get("verification_uri")):
            webbrowser.open(address)
        if not wait:
            return OK
        stack.enter_context(_spinner(place, f"waiting for the user of {name or client}"))
        shown = await door.status(name or client)
        before = shown["generation"]
        ends = clock.monotonic() + wait
        while clock.monotonic() < ends:
            shown = await door.status(name or client)
            if shown["generation"] > before or shown["state"] == "failed":
                break
            await clock.sleep(LOOK_EVERY_S)
    place.output.event(shown, _words(shown))
    if shown["generation"] > before:
        return OK
    if shown["state"] != "failed":
        place.output.note(f"nobody came back within {wait:g} s; send him again, and wait for longer with --wait")
    return NO


@contextmanager
def _spinner(place: Place, words: str) -> Iterator[None]:
    """That something is being waited for, where a person looks."""
    if place.as_json or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(words):
        yield


@command(app, "list", TENANT)
async def list_(place: Place) -> None:
    """List connections and how they stand."""
    async with entered(place) as door:
        found = await door.connections()
    columns = {"name": "name", "client": "client", "state": "state", "generation": "generation", "reason": "reason"}
    place.output.rows("connections", found, columns, "There is no connection.")


@command(app, "token", TENANT)
async def token(
    place: Place,
    name: Name,
    min_valid: Annotated[float, typer.Option("--min-valid", metavar="S", help="Seconds that it must live at least.")] = 0,
) -> None:
    """Print an access token that lives, refreshed first if it does not. The reading is audited."""
    async with entered(place) as door:
        found = await door.token(name, min_valid)
    if found["stale"]:
        place.output.note("the token could not be renewed and is near its end")
    place.output.document(found, found["access_token"])


@command(app, "refresh", TENANT)
async def refresh(place: Place, name: Name) -> None:
    """Renew the token now."""
    async with entered(place) as door:
        found = await door.refresh(name)
    place.output.document(found, _words(found))


@command(app, "revoke", TENANT)
async def revoke(place: Place, name: Name) -> None:
    """Forget the tokens for good, and tell the provider."""
    async with entered(place) as door:
        found = await door.revoke(name)
    place.output.document(found, _words(found))


def _asked(begun: dict[str, Any]) -> str:
    """What the user is told."""
    if "user_code" in begun:
        return f"{begun['verification_uri']} and type {begun['user_code']}"
    found: str = begun.get("authorize_url") or begun["url"]
    return found


def _words(shown: dict[str, Any]) -> str:
    until = f", until {iso(int(shown['expires_at'] * 1_000_000))}" if shown["expires_at"] is not None else ""
    reason = f" ({shown['reason']})" if shown["reason"] else ""
    return f"{shown['name']} is {shown['state']}{reason}, generation {shown['generation']}{until}"
