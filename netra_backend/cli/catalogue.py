"""The commands, as data: what `netra --help` prints and which module each one lives in.

Nothing of a command is imported before it is called, and nothing at all for `netra --help`: the interpreter's own start
is then most of its time (the budget is 200 ms, of which the option parser alone would take three quarters).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """One first word after `netra`: its module under `cli/`, which has an `app`, and its summary."""

    name: str
    module: str
    summary: str


COMMANDS: Final = (
    Command("serve", "serve", "Serve the API, make deliveries and work on runs, in this process."),
    Command("worker", "worker", "Make deliveries and work on runs, without the API."),
    Command("migrate", "migrate", "Bring the database's schema up to date."),
    Command("backup", "backup", "Copy the database to one file, while everything goes on."),
    Command("restore", "restore", "Put a backup in the database's place."),
    Command("doctor", "doctor", "Check settings, files, database and processes."),
    Command("tenant", "tenant", "Make and list tenants."),
    Command("key", "key", "Make, list and revoke API keys."),
    Command("webhooks", "webhooks", "Send, look at, resend and receive messages."),
    Command("cache", "cache", "Invalidate what is cached, and look at a server's cache."),
    Command("oauth", "oauth", "Keep tokens of other services, and judge tokens of others."),
    Command("sso", "sso", "Log in by identity providers, and by another when the first is down."),
    Command("audit", "audit", "Look at the audit trail, prove it, export it, judge an export."),
    Command("batch", "batch", "Run jobs, look at their runs, pause, resume and rerun them."),
    Command("debug", "debug", "Look into one tenant's production: logs, exchanges, variables."),
    Command("kpi", "kpi", "Show KPIs in business units: kept, late, lost, and why."),
    Command("trace", "trace", "Show one trace across all parts."),
    Command("demo", "demo", "Play one story of all five parts on real data, with two processes killed half-way."),
    Command("failpoints", "failpoints", "List the places where a test may stop a process."),
)

NAMES: Final = {command.name: command for command in COMMANDS}

HELP: Final = """\
Usage: netra COMMAND [OPTIONS] ...

  The reliability backend of SaaS and AI platforms.

Commands:
{commands}
Options:
  --version   Print the version.
  -h, --help  Print this.

`netra COMMAND --help` tells more about each. Exit codes: 0 done, 1 the answer
is no, 2 usage, 3 finished with dead letters, 4 cannot start or reach, 130
interrupted.
"""


def help_text() -> str:
    """What `netra --help` prints."""
    width = max(len(command.name) for command in COMMANDS)
    rows = [f"  {command.name:<{width}}  {command.summary}\n" for command in COMMANDS]
    return HELP.format(commands="".join(rows))
