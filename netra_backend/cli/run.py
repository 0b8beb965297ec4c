"""Runs one command's option parser and turns whatever ends it into an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from ..errors import CannotStart, NetraError, UsageError
from .catalogue import Command
from .output import INTERRUPTED, NO, OK, Output


class UnusablePath(CannotStart):
    """A file or folder that the command needs cannot be used."""

    code = "unusable_path"
    fix = "Check that its folder is there, and that this account may read and write it."


def run(row: Command, arguments: Sequence[str]) -> int:
    """Run `netra <row.name> <arguments>` to its end."""
    output = Output(as_json="--json" in arguments)
    try:
        result = parser(row).main(args=list(arguments), prog_name=f"netra {row.name}", standalone_mode=False)
    except TyperException as error:
        words = error.format_message() or "no command is given"
        return output.failed(UsageError(words, fix=f"`{_help_of(error, row)}` shows what it takes."))
    except NetraError as error:
        return output.failed(error)
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `netra ... | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO
    except OSError as error:
        if error.filename is None:
            raise
        return output.failed(UnusablePath(f"{error.filename}: {error.strerror}"))
    return result if isinstance(result, int) else OK


def parser(row: Command) -> Any:
    """The option parser of one command, its sub-commands included."""
    module = import_module(f".{row.module}", __package__)
    command = get_command(cast("typer.Typer", module.app))
    command.help = row.summary if not command.help else command.help
    return command


def _help_of(error: TyperException, row: Command) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'netra ' + row.name} --help"
