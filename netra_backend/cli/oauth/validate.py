"""`netra oauth validate`: judge one token with an issuer's keys, without network and database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import UsageError
from ..options import JSON, Place, command
from ..output import NO, OK
from . import app

if TYPE_CHECKING:
    from ...oauth import Keys


@command(app, "validate", JSON)
def validate(
    place: Place,
    issuer: Annotated[str, typer.Option("--issuer", metavar="I", help="Who must have made it, exactly as `iss` has it.")],
    audience: Annotated[list[str], typer.Option("--audience", metavar="A", help="For whom it must be; may be repeated.")],
    keys: Annotated[Path, typer.Option("--keys", metavar="FILE", help="The issuer's JSON Web Key Set, one key, or a PEM public key.")],
    alg: Annotated[list[str] | None, typer.Option("--alg", metavar="ALG", help="By what it may be signed; may be repeated. RS256.")] = None,
    now: Annotated[float | None, typer.Option("--now", metavar="EPOCH", help="Judge as of this time, in seconds since 1970.")] = None,
    leeway: Annotated[float, typer.Option("--leeway", metavar="S", help="Seconds of clock difference that are forgiven.")] = 30,
) -> int:
    """Judge the token on stdin; exit 1 if it is rejected, and `code` says why.

    The answer is JSON in either form. The token itself is never printed.
    """
    from ...oauth import TokenRejected
    from ...oauth import validate as judge

    known = _keys(keys)
    token = sys.stdin.buffer.read().strip(b" \t\r\n")
    answer: dict[str, Any]
    try:
        claims = judge(token, issuer=issuer, audience=audience, keys=known, algorithms=alg or ("RS256",), leeway_s=leeway, now=now)
        answer = {"valid": True, "code": None, "claims": dict(claims)}
    except TokenRejected as error:
        answer = {"valid": False, "code": error.code, "claims": None, "detail": error.detail}
    place.output.line(answer)
    return OK if answer["valid"] else NO


def _keys(file: Path) -> Keys:
    from ...oauth import Keys

    try:
        return Keys.of(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", fix="Give --keys the issuer's key set as a file.") from error
