"""Which call of the library writes which audit entries: a call that has an effect stands here, or says why not.

The same for routes stands in `server/audit_map.py`, for commands in `cli/audit_map.py`. A test enumerates the public calls of every part,
so that a new one is red until somebody has decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AUDITED: Final[Mapping[str, tuple[str, ...]]] = {
    "netra.tenant": ("tenant.create",),
    "netra.adopt": ("tenant.create",),
    "netra.write": ("tenant.create",),
    "netra.transaction": ("tenant.create",),
    "webhooks.recover": ("task.recover",),
    "webhooks.replay_missing": ("task.replay_missing",),
    "webhooks.bulk_replay": ("task.bulk_replay",),
    "webhooks.redrive": ("task.redrive",),
    "webhooks.cancel": ("delivery.cancel",),
    "webhooks.cancel_backlog": ("task.cancel_backlog",),
    "webhooks.cancel_task": ("task.cancel",),
    "webhooks.expunge": ("message.expunge", "delivery.cancel"),
    "webhooks.expunge_attempt": ("attempt.expunge",),
    "oauth.set_client": ("oauth_client.set",),
    "oauth.import_": ("connection.import",),
    "oauth.connect": ("connection.connect",),
    "oauth.link": ("connection.connect",),
    "oauth.device": ("connection.connect",),
    "oauth.own": ("connection.import",),
    "oauth.register": ("oauth_client.set",),
    "oauth.callback": ("connection.active", "connection.failed"),
    "oauth.token": ("connection.token.use",),
    "oauth.request": ("connection.token.use",),
    "oauth.refresh": ("connection.token.use",),
    "oauth.bearer": ("connection.token.use",),
    "oauth.revoke": ("connection.revoke", "connection.delete"),
    "batch.start": ("run.start",),
    "batch.rerun": ("run.rerun",),
    "batch.schedule": ("schedule.put",),
    "batch.unschedule": ("schedule.remove",),
    "batch.pause": ("run.pause",),
    "batch.resume": ("run.resume",),
    "batch.cancel": ("run.cancel",),
    "cache.invalidate_now": ("cache.invalidate",),
    "audit.record": ("as the caller names it",),
    "audit.erase": ("audit.erased",),
    "audit.personal": ("audit.personal.read",),
    **dict.fromkeys(("debug.start",), ("debug.start",)),
    **dict.fromkeys(("debug.extend", "debug.extend_in"), ("debug.extend",)),
    **dict.fromkeys(("debug.end", "debug.end_in"), ("debug.end",)),
    **dict.fromkeys(("debug.export", "debug.export_in"), ("debug.export",)),
    **dict.fromkeys(("debug.watch", "debug.watch_in", "debug.records", "debug.page_in"), ("debug.view",)),
    "debug.get": ("debug.show",),
    "debug.sessions": ("debug.list",),
    "kpi.define": ("kpi.define", "kpi.update", "kpi.retire"),
    "sso.set_provider": ("sso_provider.set", "sso.settled", "oauth_client.set"),
    "sso.link": ("sso_identity.create", "sso_identity.link"),
    "sso.pin": ("sso.pin", "sso.unpin"),
    "sso.rotate_keys": ("signing_key.create",),
    "sso.issue": ("signing_key.use",),
}
"""Call -> the actions that it may write, each in the transaction of its effect; uses (`.use`) are counted and written by the minute."""

_READS: Final = "reads, and shows no secret"
_LEDGER: Final = "a message is its own ledger: a row that is never changed, with every attempt"
_PROGRAM: Final = "the program's own step, in its own transaction: it records what it decides with audit.record"
_MOVES: Final = "moves what was decided; a change of a connection's state has its own entry"
_WIRING: Final = "starts, stops or wires; decides nothing"

NOT_AUDITED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("sso.start", "sso.stop", "sso.as_operator"), _WIRING),
    "sso.status": _READS,
    "netra.span": "a span is an account of work, and no decision",
    "oauth.exchange": "the token that comes back is its caller's and kept nowhere",
    **dict.fromkeys(("netra.context", "netra.scope", "netra.trace", "netra.run_blocking", "netra.start", "netra.stop"), _WIRING),
    **dict.fromkeys(("webhooks.send", "webhooks.send_many", "webhooks.send_to", "webhooks.accept"), _LEDGER),
    **dict.fromkeys(("webhooks.task", "webhooks.tasks", "webhooks.dead_letters", "webhooks.checked", "webhooks.new_message"), _READS),
    "webhooks.verify": "computes; touches no installation",
    "webhooks.receive": _PROGRAM,
    **dict.fromkeys(("oauth.client", "oauth.clients", "oauth.connections", "oauth.providers", "oauth.shown_link", "oauth.status"), _READS),
    **dict.fromkeys(("oauth.renew", "oauth.renew_due", "oauth.replay", "oauth.replay_leftovers", "oauth.end_overdue"), _MOVES),
    **dict.fromkeys(("oauth.poll_devices", "oauth.follow_link", "oauth.look", "oauth.start", "oauth.stop", "oauth.trim"), _MOVES),
    **dict.fromkeys(("oauth.validate", "oauth.judge", "oauth.introspect"), "judges a token of somebody else's"),
    **dict.fromkeys(("batch.failures", "batch.runs", "batch.schedules", "batch.status"), _READS),
    "batch.new_worker": _WIRING,
    **dict.fromkeys(("cache.get", "cache.get_many", "cache.get_or_load", "cache.obtain", "cache.obtain_blocking", "cache.cached"), _READS),
    **dict.fromkeys(("cache.graph", "cache.position", "cache.probe", "cache.tiers", "cache.depends", "cache.expires"), _READS),
    **dict.fromkeys(("cache.get_at_hand", "cache.kept", "cache.touch"), _READS),
    **dict.fromkeys(("cache.invalidate", "cache.set", "cache.set_many", "cache.begin_set", "cache.end_set", "cache.delete"), _PROGRAM),
    **dict.fromkeys(("cache.close", "cache.settled", "netra.run_awaited"), _WIRING),
    **dict.fromkeys(("audit.entries", "audit.log", "audit.prove", "audit.resource", "audit.search", "audit.settle"), _READS),
    "events.record": _PROGRAM,
    "debug.shown": _READS,
    **dict.fromkeys(("kpi.impact", "kpi.list", "kpi.report", "kpi.change"), _READS),
    **dict.fromkeys(("kpi.start", "kpi.stop", "kpi.flush"), _WIRING),
}
"""Call -> why it writes none."""
