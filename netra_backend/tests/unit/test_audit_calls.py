"""Every public call of the library has its entries, or a reason why it has none."""

from __future__ import annotations

import inspect

from netra_backend.batch.service import Batch
from netra_backend.cache.service import Cache
from netra_backend.cli import audit_map as commands
from netra_backend.netra import Netra
from netra_backend.oauth.service import OAuth
from netra_backend.oauth.sso.service import Sso
from netra_backend.observability.audit.calls import AUDITED, NOT_AUDITED
from netra_backend.observability.audit.service import Audit
from netra_backend.observability.debug.service import Debug
from netra_backend.observability.events.service import Events
from netra_backend.observability.kpi.service import Kpis
from netra_backend.server import audit_map as routes
from netra_backend.sync import PARTS
from netra_backend.webhooks.service import Webhooks

CLASSES = {
    "netra": Netra,
    "webhooks": Webhooks,
    "oauth": OAuth,
    "batch": Batch,
    "cache": Cache,
    "audit": Audit,
    "events": Events,
    "kpi": Kpis,
    "debug": Debug,
    "sso": Sso,
}


def calls():
    return {
        f"{part}.{name}"
        for part, class_ in CLASSES.items()
        for name, member in inspect.getmembers(class_)
        if not name.startswith("_") and inspect.isfunction(member)
    }


def test_each_call_is_decided():
    assert AUDITED.keys() | NOT_AUDITED.keys() == calls()
    assert AUDITED.keys() & NOT_AUDITED.keys() == set()
    assert all(len(reason) > 10 for reason in NOT_AUDITED.values())
    assert CLASSES.keys() >= PARTS


def test_an_action_that_a_call_writes_is_one_that_a_route_or_a_command_writes_too():
    """One name for one decision, whichever door it came through; what only the library can do is named."""
    elsewhere = {action for table in (routes.AUDITED, commands.AUDITED) for actions in table.values() for action in actions}
    here = {action for actions in AUDITED.values() for action in actions}
    only_here = {
        "as the caller names it",
        "connection.active",
        "connection.failed",
        "kpi.define",
        "kpi.update",
        "kpi.retire",
        "connection.token.use",
        "signing_key.create",
        "signing_key.use",
    }
    assert here - elsewhere <= only_here
