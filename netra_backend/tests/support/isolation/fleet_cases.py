"""What each statement on the fleet list is asked, or why it serves all tenants without naming one.

A statement with a tenant in its joins or its written rows is asked about one tenant's rows, and must leave the other's
alone. `BOTH` asks about the rows of two tenants in one call: acme's answer must be the one that it gets alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import rows as r

Params = dict[str, Any]

_MESSAGE: Final = ("thing.happened", None, "{}", None, None, None, None, r.NOW_US, "", "", None, None)
_OPEN: Final = ("open", 1, 1)
_ATTEMPT: Final = (r.ENDPOINT, 1, 0, 1, 1, "delivered", 200, "", "", "", "http://new/", 0, "", "")


def _claim(*lanes: tuple[str, bytes, int]) -> Params:
    return {"lanes": list(lanes), "now_us": r.NOW_US, "most": 100, "node": r.NODE}


_OBJECT: Final = (1, "ref", 5, None, "trace", None, None, None, None, "late", None, None, 1, None, "new")
_WHEN: Final = {"kpi": r.KPI, "since_us": 0, "until_us": r.FAR_US}

OF_ROWS: Final[dict[str, Callable[[str], Params]]] = {
    "storage.insert_spans": lambda tenant: {"rows": [(tenant, "trace", "new", "", "", "", "app", "new", 1, 1, "ok", "")]},
    "tracing.forget_spans": lambda _: {"before_us": r.NOW_US, "limit": 1},
    "audit.entries_by_id": lambda tenant: {"rows": [(tenant, r.ENTRY)]},
    "kpi.objects_of": lambda tenant: {"rows": [(tenant, r.KPI, "key")]},
    "kpi.keys_of_traces": lambda tenant: {"rows": [(tenant, "trace")]},
    "kpi.put_objects": lambda tenant: {"rows": [(tenant, r.KPI, "key", *_OBJECT)]},
    "kpi.add_figures": lambda tenant: {"rows": [(tenant, r.KPI, 0, *[1] * 10)]},
    "kpi.forget_objects": lambda _: {"now_us": r.NOW_US, "limit": 10},
    "kpi.forget_figures": lambda _: {"before_us": r.NOW_US, "limit": 1},
    "webhooks.standing_of_messages": lambda tenant: {"rows": [(tenant, r.READY)]},
    "webhooks.parked_endpoints": lambda tenant: {"rows": [(tenant,)]},
    "oauth.connections_in_trouble": lambda tenant: {"rows": [(tenant,)], "now_us": r.FAR_US},
    "batch.last_runs": lambda tenant: {"rows": [(tenant, "job")]},
    "oauth.generations": lambda tenant: {"rows": [(tenant, r.CONNECTION)]},
    "storage.api_key_by_hash": lambda _: {"hash": r.named(f"browser {r.ACME}") * 2},  # with its parent, which has globex's id
    "storage.insert_debug_mark_rows": lambda tenant: {"rows": [(tenant, r.LEASED, r.LOOK)]},
    "storage.insert_outbox": lambda tenant: {"rows": [("events", tenant, "[]", 1)]},
    "storage.insert_log": lambda tenant: {"rows": [("events", 9, tenant, "[]", 1)]},
    "storage.insert_idempotency_rows": lambda tenant: {"rows": [(tenant, r.ROUTE, "key-new", "new", r.READY, 202, 1)]},
    "storage.get_idempotency_rows": lambda tenant: {"rows": [(tenant, r.ROUTE, "key-1")]},
    "sso.trim_exchanges": lambda _: {"before_us": r.NOW_US, "limit": 10},
    "sso.trim_logins": lambda _: {"before_us": r.NOW_US, "limit": 10},
    "sso.trim_sessions": lambda _: {"before_us": r.NOW_US, "limit": 10},
    "storage.trim_idempotency": lambda _: {"before_us": r.NOW_US + 1, "limit": 10},
    "testing.fill_deliveries": lambda tenant: {
        "rows": [(tenant, r.DEAD, r.WELL, "due", 0, 1, r.FAR_US, None, None, None)],
    },
    "webhooks.current_versions": lambda tenant: {"rows": [(tenant, 2)]},  # globex's number, which acme's is not
    "webhooks.changed_versions": lambda tenant: {"rows": [(tenant, 1)]},
    "webhooks.insert_messages": lambda tenant: {"rows": [(tenant, r.NEW_MESSAGE, *_MESSAGE)]},
    "webhooks.insert_deliveries": lambda tenant: {"rows": [(tenant, r.DEAD, r.WELL, "due", 1, r.FAR_US, None, None, None, None)]},
    "webhooks.take_places": lambda tenant: {"rows": [(tenant, r.LINED, "l", 1)], "now_us": r.NOW_US},
    "webhooks.heads_of_lines": lambda tenant: {"rows": [(tenant, r.LINED, "m")]},
    "webhooks.hold_lines": lambda tenant: {"rows": [(tenant, r.LINED, "m")]},
    "webhooks.free_heads": lambda tenant: {"rows": [(tenant, r.LINED, "l")], "never_us": r.NEVER_US, "now_us": r.NOW_US},
    "webhooks.forget_orphans": lambda tenant: {"rows": [(tenant, r.ROUTE, "key-lost")], "own": []},
    "webhooks.messages_by_id": lambda tenant: {"rows": [(tenant, r.READY)]},
    "webhooks.event_ids": lambda tenant: {"rows": [(tenant, r.READY)]},
    "webhooks.count_failures": lambda tenant: {"rows": [(tenant, r.OPEN, 2, r.NOW_US)], "gap_us": r.FAR_US},
    "webhooks.forget_failures": lambda tenant: {"rows": [(tenant, r.OPEN)]},
    "webhooks.mark_warned": lambda tenant: {"rows": [(tenant, r.OPEN, 2)]},
    "webhooks.claim": lambda tenant: _claim((tenant, r.ENDPOINT, 10)),
    "webhooks.acknowledge": lambda tenant: {
        "rows": [(tenant, r.LEASED, r.ENDPOINT, r.NODE, "delivered", 1, 0, 200, "ok")],
    },
    "webhooks.lost_leases": lambda tenant: {"rows": [(tenant, r.SETTLED, r.ENDPOINT, r.NODE)]},
    "webhooks.insert_health": lambda tenant: {"rows": [(tenant, r.WELL)]},
    "webhooks.raise_gates": lambda tenant: {"rows": [(tenant, r.OPEN, r.FAR_US)], "now_us": r.NOW_US},
    "webhooks.swap_health": lambda tenant: {
        "rows": [(tenant, r.OPEN, *_OPEN, 0, 0, 0, "closed", 0, 0, 0, 0, 0, None)],
    },
    "webhooks.take_probes": lambda tenant: {
        "rows": [(tenant, endpoint, *_OPEN, 2, 3) for endpoint in (r.OPEN, r.IDLE)],
        "node": r.NODE,
        "now_us": r.NOW_US,
    },
    "webhooks.give_up_probes": lambda tenant: {"rows": [(tenant, r.PROBED)], "node": r.NODE, "now_us": r.NOW_US},
    "webhooks.bury_expired": lambda tenant: {
        "lanes": [(tenant, r.ENDPOINT)],
        "now_us": r.NOW_US,
        "most": 100,
        "reason": "expired",
    },
    "webhooks.health_of": lambda tenant: {"rows": [(tenant, r.OPEN)]},
    "webhooks.insert_attempts": lambda tenant: {"rows": [(tenant, r.READY, r.NEW_ATTEMPT, *_ATTEMPT)]},
    "webhooks.release_dead": lambda _: {"owner": r.DEAD_NODE, "limit": 10},
    "webhooks.release": lambda tenant: {"node": r.NODE, "rows": [(tenant, r.LEASED, r.ENDPOINT)]},
}
"""By tenant, for the statements whose rows or joins name one."""

BOTH: Final[dict[str, Params]] = {
    "webhooks.claim": _claim((r.ACME, r.WELL, 1), (r.GLOBEX, r.WELL, 1)),
    "storage.get_idempotency_rows": {"rows": [(r.ACME, r.ROUTE, "key-1"), (r.GLOBEX, r.ROUTE, "key-1")]},
    "webhooks.messages_by_id": {"rows": [(r.ACME, r.READY), (r.GLOBEX, r.READY)]},
    "webhooks.event_ids": {"rows": [(r.ACME, r.READY), (r.GLOBEX, r.READY)]},
    "batch.last_runs": {"rows": [(r.ACME, "job"), (r.GLOBEX, "job")]},
}
"""Two tenants in one call."""

OF_ALL: Final[dict[str, tuple[str, Params]]] = {
    "tracing.tenants_of_trace": ("whose trace it is is what is asked", {"trace_id": "trace", "limit": 10}),
    "batch.active_runs": ("a worker serves all tenants; each row names its own", {"jobs": [("job",)], "limit": 10, "each": 10}),
    "batch.count_under_way": ("a number of the installation", {"limit": 10}),
    "batch.waiting_runs": (
        "a worker serves all tenants; each row names its own",
        {"jobs": [("job",)], "after_tenant": "", "after_id": bytes(16), "limit": 10},
    ),
    "batch.due_schedules": ("a worker fires all tenants' schedules; each row names its own", {"now_us": r.NOW_US, "limit": 10}),
    "audit.unsigned_logs": (
        "the sequencer signs whatever has grown; each row is its tenant's name",
        {"after_tenant": "", "any_size": 2**62, "limit": 10},
    ),
    "audit.list_logs": ("the operator looks at every log; each row names its tenant", {"after_tenant": "", "any_size": 2**62, "limit": 10}),
    "audit.waiting_entries": ("whether the stream has work, and nobody's rows", {"last": 2**62}),
    "audit.last_waiting": ("a number of the installation", {}),
    "kpi.due_objects": ("deadlines pass for all tenants; each row names its own", {"now_us": r.NOW_US, "limit": 10}),
    "kpi.turned_objects": ("the clock steps back for all tenants; each row names its own", {"now_us": r.NOW_US, "limit": 10}),
    "kpi.has_due_objects": ("whether time has changed anything, and nobody's row", {"now_us": r.NOW_US}),
    "kpi.causes_of_all": ("the operator's figures of the installation", {**_WHEN, "limit": 10}),
    "kpi.missed_of_all": ("the operator's list; each row names its tenant", {**_WHEN, "any_cause": 1, "cause": "", "limit": 10}),
    "kpi.tenants_concerned": ("a number of the installation", _WHEN),
    "batch.next_tenant_with_runs": ("retention walks over all tenants", {"after_tenant": "", "ever_us": 2**62}),
    "batch.tenant_of_run": ("whose run it is is what is asked", {"id": r.RUN}),
    "oauth.due_connections": (
        "the scheduler renews whatever is due; each row names its tenant",
        {"now_us": r.NOW_US, "after_us": -1, "after_tenant": "", "after_id": b"", "limit": 10},
    ),
    "oauth.flow_by_state": ("whose way comes back is known by this alone", {"state_hash": r.named(r.GLOBEX)}),
    "oauth.due_polls": ("devices' codes are asked for, whoever's they are", {"now_us": r.NOW_US, "limit": 10}),
    "oauth.ended_flows": ("ways that ended long ago go, whoever's they were", {"before_us": r.NOW_US, "limit": 10}),
    "oauth.open_flows": ("ways that nobody came back on end, whoever's they are", {"now_us": 2 * r.FAR_US, "limit": 10}),
    "sso.login_by_state": ("whose browser comes back is known by this alone", {"state_hash": r.named(f"s {r.GLOBEX}")}),
    "sso.session_by_hash": ("whose cookie it is is known by this alone", {"hash": r.named(f"h {r.GLOBEX}")}),
    "sso.due_sessions": ("providers are asked whoever's people they are", {"now_us": r.NOW_US, "limit": 10}),
    "sso.tenants_with_providers": ("one process watches over all; each row names its tenant", {"limit": 10}),
    "debug.live_sessions": ("every process knows which sessions are live; each row names its tenant", {"limit": 10}),
    "debug.outlived_sessions": ("retention walks over all tenants", {"after_us": 0, "before_us": 2**62, "limit": 10}),
    "storage.take_outbox": ("the log's leader moves every tenant's rows", {"node": r.NODE, "limit": 10}),
    "storage.read_log": ("a cursor reads a stream whole; each item names its tenant", {"stream": "events", "after": 0, "limit": 10}),
    "storage.trim_log": ("retention of a stream, whoever's", {"stream": "events", "before_us": r.NOW_US, "limit": 10}),
    "storage.outbox_has_rows": ("the leader looks whether there is work, and at nobody's rows", {}),
    "cache.look": (
        "every process heeds every tenant's invalidations; each item names its tenant",
        {"stream": "events", "after": 0, "most_waiting": 10, "most_rows": 10},
    ),
    "storage.data_keys_under_other_roots": ("a re-wrap comes to every tenant's key, and names its tenant", {"root_id": "r9", "limit": 10}),
    "storage.count_data_keys": ("two numbers of the installation", {"root_id": "r1"}),
    "storage.tenant_by_uid": ("who asks is not known yet", {"uid": "globex-uid"}),
    "storage.tenant_by_id": ("who asks is not known yet", {"id": r.named(r.GLOBEX)}),
    "storage.list_tenants": ("the operator's list", {"created_us": -1, "id": b"", "limit": 10}),
    "storage.list_tenants_back": ("the operator's list", {"created_us": 2**62, "id": b"", "limit": 10}),
    "webhooks.next_due_lane": ("the dispatcher walks all lanes; each names its tenant", {"after_tenant": "", "after_endpoint": b""}),
    "webhooks.next_tenant_with_messages": ("retention walks over all tenants", {"after_tenant": "", "ever_us": 2**62}),
    "webhooks.next_tenant_with_lines": ("retention walks over all tenants", {"after_tenant": "", "last_endpoint": b"\xff" * 16}),
    "webhooks.outlived_payloads": (
        "retention finds whose payloads are to go; each row names its tenant",
        {"now_us": r.FAR_US, "after_us": 0, "after_tenant": "", "after_id": b"", "limit": 10},
    ),
    "webhooks.claimable_tasks": ("a worker serves all tenants; each row names its own", {"node": r.DEAD_NODE, "limit": 10}),
    "webhooks.tenant_of_task": ("whose task it is is what is asked", {"id": r.TASK}),
    "webhooks.list_all_tasks": (
        "the operator's list",
        {"created_us": 2**62, "id": b"", "kinds": [("recover",)], "states": [("running",)], "limit": 10},
    ),
    "webhooks.list_all_tasks_back": (
        "the operator's list",
        {"created_us": -1, "id": b"", "kinds": [("recover",)], "states": [("running",)], "limit": 10},
    ),
    "webhooks.next_line": (
        "the sweep walks all lines; each names its tenant",
        {"after_tenant": "", "after_endpoint": b"", "after_line": ""},
    ),
    "webhooks.unwell_endpoints": (
        "every process knows all that are not well; each row names its tenant",
        {"after_tenant": "", "after_endpoint": b"", "limit": 100},
    ),
    "webhooks.count_unwell": ("numbers of the installation", {"now_us": r.NOW_US}),
    "webhooks.next_owner": ("nodes serve all tenants", {"after": b""}),
    "webhooks.owned_by": ("a node serves all tenants; each row names its own", {"node": r.NODE}),
    "webhooks.queue_due": ("two numbers of the installation", {}),
    "webhooks.queue_leased": ("a number of the installation", {}),
}
"""Statements that name no tenant at all: the reason, and parameters that reach globex's rows."""
