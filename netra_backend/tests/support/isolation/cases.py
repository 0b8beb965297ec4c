"""What each statement with a `:tenant` is asked, as acme, about rows that globex has too.

A new statement has no case and turns the suite red. A case is good when the loss of any one of the statement's predicates
shows in the answer or in a row; `test_isolation_by_predicates` holds it to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from . import rows as r

LAST: Final = b"\xff" * 16
EVER_US: Final = 2**62


@dataclass(frozen=True)
class Case:
    """Parameters, and the tenant who asks."""

    params: dict[str, Any]
    tenant: str = r.ACME


def case(_tenant: str = r.ACME, /, **params: Any) -> Case:
    """A case in one line."""
    return Case(params, _tenant)


_NOW: Final = {"now_us": r.NOW_US}
_PAGE: Final = {"limit": 100}
_NEWEST: Final = {"created_us": EVER_US, "id": LAST, **_PAGE}
_OLDEST: Final = {"created_us": -1, "id": b"", **_PAGE}
_ENDPOINT: Final = {
    "uid": "other",
    "url": "http://new/",
    "description": "new",
    "event_types": None,
    "channels": None,
    "disabled": 0,
    "rate_limit": None,
    "metadata": "{}",
    "headers": "{}",
    "ordering": None,
    "filter": None,
    "schedule": None,
    "auth": None,
    **_NOW,
}
_EVENT_TYPE: Final = {"description": "new", "archived": 0, "deprecated": 0, "group_name": None, "schemas": None, "schedule": None, **_NOW}
_TENANT: Final = {"name": "new", "metadata": "{}", "rate_limit": None, **_NOW}
_MESSAGES: Final = {"after_us": -1, "before_us": EVER_US, "any_type": 1, "types": [], "channel": "", "tag": ""}
_ATTEMPTS: Final = {**_MESSAGES, **_PAGE, "any_outcome": 1, "outcomes": [], "least_status": 0, "above_status": 1000}
_OF_ENDPOINT: Final = {**_MESSAGES, **_PAGE, "any_state": 1, "states": [], "least": b"", "above": LAST}
_ANY_ENDPOINT: Final = {"any_endpoint": 1, "endpoint_id": b""}
_DELIVERY: Final = {"message_id": r.DEAD, "endpoint_id": r.ENDPOINT}
_WALK: Final = {"id": r.TASK, "node": r.NODE}
_DEAD: Final = {"any_endpoint": 1, "endpoint_id": b"", "any_type": 1, "types": [], "after_us": -1, "before_us": EVER_US}
_TYPES: Final = {"with_archived": 1, **_PAGE}

_PARTITION: Final = {"run_id": r.RUN, "number": 2}
_LEASE: Final = {**_PARTITION, "node": r.NODE, "fence": 1}
_MOVED: Final = {
    "cursor": "9",
    "position": 9,
    "done": 1,
    "failed": 0,
    "skipped": 0,
    "chunk_size": 5,
    "failure_ppm": 1,
    "item_bytes": 1,
    "memory_level": 1,
    "executor": "new",
}
_LETTERS: Final = [(5, "k5", "null", "1", 1, "error", "words", 1)]
_SCHEDULE: Final = {
    "job": "new",
    "cron": "@hourly",
    "zone": "UTC",
    "params": "{}",
    "partitions": 2,
    "priority": 1,
    "next_us": 3,
    **_NOW,
}
_RUN: Final = {
    "priority": 1,
    "waits_for": "[]",
    "job": "job",
    "params": "{}",
    "parent": None,
    "wanted": 1,
    "trace_id": "",
    "span_id": "",
    **_NOW,
}

_LOOK: Final = {"reason": "new", "actor": "new", "predicates": "{}", "captures": "[]", "logpoints": "[]"}

_REGISTRATION: Final = {
    "issuer": None,
    "token_endpoints": "[1]",
    "authorize_endpoint": None,
    "revoke_endpoint": None,
    "client_id": "new",
    "auth": "post",
    "sealed": b"new",
    "scopes": "[1]",
    "replay_window_s": 1,
    "default_lifetime_s": 1,
    "provider": "new",
    "device_endpoint": None,
    "idle_s": 1,
    "assertion": "{}",
    "assertion_key": b"new",
    **_NOW,
}
_GRANT: Final = {"access": b"new", "refresh": b"new", "rt_fp": "fp-new", "issued_us": 5, "expires_us": 6, "due_us": 7, **_NOW}
_HELD: Final = {"id": r.CONNECTION, "fence": 1, "holder": r.NODE}

_PROVIDER: Final = {"client": r.CLIENT, "rank": 7, "enabled": 0, "options": "[1]", **_NOW}
_ROTATION: Final = {"active": "new", "pinned": "new", "share": 10, "body": "[1]", **_NOW}
_WAY: Final = {"provider": "new", "issuer": "new", "redirect_uri": "", "expires_us": r.FAR_US}
_SESSION: Final = {
    "identity": r.PERSON, "provider": "new", "issuer": "new", "subject": "new", "role": "viewer", "backup": 0, "sealed": None, "due_us": None,
    "expires_us": r.FAR_US, "idle_us": r.FAR_US, **_NOW,
}  # fmt: skip
_PERSON: Final = {"linked": None, "role": "admin", **_NOW}
_MINUTES: Final = {"kpi": r.KPI, "since_us": 0, "until_us": EVER_US}

_TRACE: Final = {"trace_id": "trace", "limit": 100}
_NEW_SPAN: Final = (r.ACME, "trace", "new", "", "", "", "app", "new", 1, 1, "ok", "")

CASES: Final[dict[str, Case]] = {
    "storage.insert_own_spans": case(rows=[_NEW_SPAN]),
    "tracing.spans_of_trace": case(**_TRACE),
    "tracing.spans_linked_to_trace": case(trace_id="other", **_PAGE),
    "tracing.messages_of_trace": case(trace_id="", **_PAGE),
    "tracing.attempts_of_trace": case(trace_id="", **_PAGE),
    "tracing.entries_of_trace": case(**_TRACE),
    "tracing.runs_of_trace": case(**_TRACE),
    "kpi.live_kpis": case(),
    "kpi.versions_of_kpi": case(name="kpi"),
    "kpi.insert_kpi": case(id=r.NEW_KPI, name="new", definition="{}", audit_id=r.SPARE["new kpi"], **_NOW),
    "kpi.update_kpi": case(id=r.KPI, definition="{}", audit_id=r.SPARE["kpi"], **_NOW),
    "kpi.bury_kpi": case(id=r.KPI, audit_id=r.SPARE["kpi"], **_NOW),
    "kpi.figures": case(**_MINUTES),
    "kpi.judged": case(**_MINUTES),
    "kpi.causes": case(**_MINUTES, **_PAGE),
    "kpi.missed": case(any_cause=0, cause="cause", **_MINUTES, **_PAGE),
    "kpi.alerts": case(kpi=r.KPI),
    "kpi.put_alert": case(kpi=r.KPI, rule="rule", firing=0, **_NOW),
    "batch.run_by_key": case(job="job", key="key"),
    "batch.insert_run": case(id=r.NEW_RUN, key="new", audit_id=r.SPARE["new run"], **_RUN),
    "batch.get_run": case(id=r.RUN),
    "batch.hold_run": case(id=r.RUN),
    "batch.run_that_runs": case(id=r.RUN),
    "batch.list_runs": case(**_NEWEST),
    "batch.decide_run": case(id=r.RUN, state="paused", audit_id=r.SPARE["run"], finished_us=None, reason=None),
    "batch.begin_run": case(id=r.IDLE_RUN, partitions=1, **_NOW),
    "batch.end_run": case(id=r.RUN, state="failed", reason="words", **_NOW),
    "batch.insert_partitions": case(run_id=r.RUN, rows=[(7, "null", None)], chunk_size=10),
    "batch.free_partition": case(run_id=r.RUN),
    "batch.claim_partitions": case(run_id=r.RUN, node=r.NODE, limit=1),
    "batch.hold_partition": case(**_LEASE),
    "batch.begin_to_write": case(**_LEASE),
    "batch.advance_partition": case(state="open", **_LEASE, **_MOVED),
    "batch.release_partition": case(**_LEASE),
    "batch.forgive_crashes": case(run_id=r.RUN),
    "batch.states_of_runs": case(rows=[(r.RUN,)]),
    "batch.hold_runs_of_job": case(job="job"),
    "batch.working_of_job": case(job="job"),
    "batch.take_pace": case(job="job", now_us=1, step_us=1, furthest_us=2**62),
    "batch.hold_schedule": case(name="nightly"),
    "batch.get_schedule": case(name="nightly"),
    "batch.insert_schedule": case(id=r.NEW_SCHEDULE, name="new", audit_id=r.SPARE["new schedule"], **_SCHEDULE),
    "batch.update_schedule": case(id=r.SCHEDULE, state="off", audit_id=r.SPARE["schedule"], **_SCHEDULE),
    "batch.move_schedule": case(id=r.SCHEDULE, next_us=9, run_id=r.RUN),
    "batch.list_schedules": case(after_name="", limit=10),
    "batch.partition_spec": case(run_id=r.RUN, number=0),
    "batch.insert_failures": case(rows=_LETTERS, **_PARTITION, **_NOW),
    "batch.totals": case(run_id=r.RUN),
    "batch.list_failures": case(run_id=r.RUN, after_number=-1, after_position=-1, limit=10),
    "batch.count_failures": case(run_id=r.RUN),
    "debug.live_of_tenant": case(**_NOW),
    "debug.insert_session": case(id=r.NEW_LOOK, granted_us=1, expires_us=r.FAR_US, audit_id=r.SPARE["new look"], **_LOOK, **_NOW),
    "debug.hold_session": case(id=r.LOOK),
    "debug.get_session": case(id=r.LOOK),
    "debug.list_sessions": case(**_NEWEST, ended=1),
    "debug.extend_session": case(id=r.LOOK, granted_us=2, expires_us=r.FAR_US + 1, audit_id=r.SPARE["look"]),
    "debug.end_session": case(id=r.LOOK, ended_us=r.NOW_US, ended_by="actor", audit_id=r.SPARE["look"]),
    "debug.take_numbers": case(id=r.LOOK, count=1, dropped=1),
    "debug.insert_records": case(session_id=r.LOOK, rows=[(9, "log", 1, "", "{}")]),
    "debug.trim_records": case(session_id=r.LOOK, seq=1),
    "debug.read_records": case(session_id=r.LOOK, after=0, **_PAGE),
    "debug.delete_records": case(session_id=r.LOOK),
    "debug.delete_marks": case(session_id=r.LOOK),
    "debug.ids_of_sessions": case(),
    "storage.insert_debug_marks": case(rows=[(r.LEASED, r.LOOK)]),
    "storage.debug_marks_of": case(ref=r.READY),
    "batch.outlived_runs": case(before_us=r.NOW_US, limit=10),
    "batch.delete_failures": case(run_id=r.RUN, limit=1),
    "batch.delete_partitions": case(run_id=r.OLD_RUN),
    "batch.delete_run": case(id=r.IDLE_RUN),
    "sso.insert_provider": case(id=r.NEW_PROVIDER, name="new", audit_id=r.SPARE["new provider"], **_PROVIDER),
    "sso.hold_provider": case(name="idp"),
    "sso.update_provider": case(id=r.PROVIDER, audit_id=r.SPARE["provider"], **_PROVIDER),
    "sso.list_providers": case(),
    "sso.client_id_of": case(name="client"),
    "sso.insert_rotation": case(id=r.NEW_ROTATION, purpose="new", audit_id=r.SPARE["new rotation"], **_ROTATION),
    "sso.get_rotation": case(),
    "sso.swap_rotation": case(version=3, audit_id=r.SPARE["rotation"], **_ROTATION),
    "sso.insert_identity": case(id=r.NEW_PERSON, issuer="http://a/", subject="new", audit_id=r.SPARE["new person"], **_PERSON),
    "sso.get_identity": case(issuer="http://a/", subject="u", id=b""),
    "sso.update_identity": case(id=r.PERSON, audit_id=r.SPARE["person"], **_PERSON),
    "sso.insert_signing_key": case(id=r.NEW_SIGNING_KEY, sealed=b"new", signs_from_us=1, audit_id=r.SPARE["new signer"], **_NOW),
    "sso.list_signing_keys": case(after_us=0),
    "sso.insert_exchange": case(trace=b"new", expires_us=1),
    "sso.insert_login": case(id=r.NEW_LOGIN, state_hash=b"new", browser_hash=b"new", sealed=b"new", target="", **_WAY),
    "sso.get_login": case(id=r.LOGIN),
    "sso.consume_login": case(id=r.LOGIN, **_NOW),
    "sso.insert_session": case(id=r.NEW_SESSION, hash=b"new", **_SESSION),
    "sso.get_session": case(id=r.SESSION),
    "sso.touch_session": case(id=r.SESSION, idle_us=5),
    "sso.end_session": case(id=r.SESSION),
    "sso.end_sessions_of": case(identity=r.PERSON),
    "sso.take_turn": case(id=r.SESSION, due_us=r.FAR_US, **_NOW),
    "sso.keep_refresh": case(id=r.SESSION, sealed=b"new", parent=b"s"),
    "sso.end_refused": case(id=r.SESSION, sealed=b"s"),
    "sso.count_links": case(id=r.PERSON),
    "oauth.insert_client": case(id=r.NEW_CLIENT, name="new", audit_id=r.SPARE["new client"], **_REGISTRATION),
    "oauth.hold_client": case(name="client"),
    "oauth.issuer_of_grants": case(id=r.CLIENT),
    "oauth.issuer_of_flows": case(id=r.CLIENT),
    "oauth.update_client": case(id=r.CLIENT, audit_id=r.SPARE["client"], **_REGISTRATION),
    "oauth.prefer_secret": case(id=r.CLIENT, first_secret=1),
    "oauth.get_client": case(name="client", id=b""),
    "oauth.idle_of_client": case(id=r.CLIENT),
    "oauth.list_clients": case(after="", **_PAGE),
    "oauth.insert_connection": case(
        id=r.NEW_CONNECTION,
        name="new",
        client=r.CLIENT,
        state="active",
        generation=1,
        kind=None,
        audit_id=r.SPARE["new connection"],
        **_GRANT,
    ),
    "oauth.get_connection": case(name="user"),
    "oauth.hold_connection": case(id=r.CONNECTION),
    "oauth.list_connections": case(after="", **_PAGE),
    "oauth.take_lease": case(id=r.FREE, holder=r.NODE, fence=1, generation=1, **_NOW),
    "oauth.send_again": case(generation=1, attempt_at=1, **_HELD),
    "oauth.end_attempt": case(retry_us=5, keep_intent=1, **_HELD),
    "oauth.commit_grant": case(id=r.CONNECTION, generation=1, parent_fp="fp-user", audit_id=r.SPARE["connection"], **_GRANT),
    "oauth.replace_grant": case(id=r.CONNECTION, client=r.CLIENT, kind=None, audit_id=r.SPARE["connection"], **_GRANT),
    "oauth.lineage_of": case(rt_fp="fp-user"),
    "oauth.decide_connection": case(id=r.CONNECTION, state="at_risk", reason="words", retry_us=5, audit_id=r.SPARE["connection"], **_NOW),
    "oauth.revoke_connection": case(id=r.CONNECTION, reason="words", deleted_us=None, audit_id=r.SPARE["connection"], **_NOW),
    "oauth.insert_orphan": case(id=r.CONNECTION, rt_fp="fp-other", parent_generation=1, sealed=b"new", **_NOW),
    "oauth.newest_orphan": case(id=r.CONNECTION, generation=1),
    "oauth.drop_orphans": case(id=r.CONNECTION, generation=99, rt_fp=""),
    "oauth.insert_flow": case(
        id=r.NEW_FLOW,
        connection_id=r.CONNECTION,
        state_hash=b"new",
        verifier=b"new",
        redirect_uri="http://new/",
        generation=1,
        expires_us=r.FAR_US,
        kind="device",
        poll_us=1,
        interval_s=5,
        **_NOW,
    ),
    "oauth.get_flow": case(id=r.FLOW),
    "oauth.consume_flow": case(id=r.FLOW, answer_by_us=r.NOW_US, **_NOW),
    "oauth.follow_flow": case(id=r.LINK_FLOW, expires_us=r.FAR_US, **_NOW),
    "oauth.take_poll": case(id=r.DEVICE_FLOW, next_us=r.FAR_US, **_NOW),
    "oauth.poll_later": case(id=r.DEVICE_FLOW, next_us=r.FAR_US, interval_s=9),
    "oauth.delete_flows": case(rows=[(r.ENDED_FLOW,)]),
    "oauth.end_flow": case(id=r.FLOW, outcome="failed", reason="words"),
    "oauth.end_flows_of": case(id=r.CONNECTION, outcome="failed", reason="words"),
    "oauth.carry_flows": case(id=r.CONNECTION, generation=0),
    "audit.entries_of": case(rows=[(r.ENTRY,)]),
    "audit.search_entries": case(after=b"", since_us=0, until_us=EVER_US, actor=None, action=None, target=None, trace_id=None, **_PAGE),
    "audit.get_log": case(),
    "audit.insert_log": case(r.INITECH, root=b"new", public_key=b"new", sealed=b"new", **_NOW),
    "audit.grow_log": case(old_size=600, size=601, root=b"new", **_NOW),
    "audit.sign_log": case(epoch=2, origin="new", signed_size=301, checkpoint="new", old_epoch=1, old_signed_size=300, **_NOW),
    "audit.get_tiles": case(rows=[(0, 0)]),
    "audit.put_tile": case(level=0, number=9, hashes=b"new"),
    "audit.get_pages": case(rows=[(0,)]),
    "audit.pages_around": case(lowest=r.ENTRY, highest=r.ENTRY),
    "audit.pages_holding": case(rows=[(r.ENTRY,)]),
    "audit.put_page": case(number=9, ids=b"new", lowest=r.ENTRY, highest=r.ENTRY),
    "audit.insert_personal": case(entry_id=r.named("endpoint"), salt=b"new", data="new"),
    "audit.raise_minimum": case(minimum=257),
    "audit.delete_use": case(id=r.GIVEN_AWAY),
    "audit.delete_entry": case(id=r.GIVEN_AWAY_TOO),
    "audit.get_personal": case(entry_id=r.ENTRY),
    "audit.delete_personal": case(entry_id=r.ENTRY),
    "storage.insert_data_key": case(version=3, root_id="r1", wrapped=b"new", created_us=1),
    "storage.newest_data_key": case(),
    "storage.get_data_key": case(version=1),
    "storage.rewrap_data_key": case(version=1, old_root_id="r1", root_id="r2", wrapped=b"new"),
    "storage.insert_audit_entry": case(
        id=r.named("entry new"),
        at_us=1,
        actor="new",
        action="test.new",
        target_table="",
        target="",
        outcome="ok",
        trace_id="",
        span_id="",
        before=None,
        after=None,
        personal=None,
    ),
    "dashboard.newest_audit_entries": case(before=LAST, action="", actor="", target="", **_PAGE),
    "dashboard.newest_audit_entries_back": case(after=b"", action="", actor="", target="", **_PAGE),
    "storage.list_audit_entries": case(after=b"", **_PAGE),
    "storage.insert_tenant": case(r.INITECH, id=r.named(r.INITECH), uid=None, audit_id=r.SPARE["tenant"], **_TENANT),
    "storage.tenant_by_name": case(),
    "storage.hold_tenant": case(),
    "storage.update_tenant": case(uid=None, audit_id=r.SPARE["tenant"], **_TENANT),
    "storage.bury_tenant": case(audit_id=r.SPARE["tenant"], **_NOW),
    "storage.tenant_name_is_taken": case(),
    "storage.insert_api_key": case(
        id=r.NEW_KEY, hash=b"new" * 10, name="new", scopes="[]", expires_us=None, parent=None, audit_id=r.SPARE["new key"], **_NOW
    ),
    "storage.list_api_keys": case(after=b"", **_PAGE),
    "storage.live_portal_keys": case(after=b"", expires_us=0, **_PAGE),
    "storage.expire_api_key": case(id=r.KEY, expires_us=r.NOW_US, audit_id=r.SPARE["key"]),
    "storage.revoke_api_key": case(id=r.KEY, audit_id=r.SPARE["key"], **_NOW),
    "storage.count_operator_keys": case(**_NOW),
    "storage.insert_idempotency": case(route=r.ROUTE, key="key-new", body_hash="new", ref=r.READY, status=202, **_NOW),
    "storage.get_idempotency": case(route=r.ROUTE, key="key-1"),
    "webhooks.bump_version": case(),
    "webhooks.get_version": case(),
    "webhooks.insert_endpoint": case(id=r.NEW_ENDPOINT, audit_id=r.SPARE["new endpoint"], **_ENDPOINT),
    "webhooks.hold_endpoint": case(id=r.ENDPOINT),
    "webhooks.hold_enabled_endpoint": case(id=r.ENDPOINT),
    "webhooks.disable_endpoint": case(id=r.ENDPOINT, audit_id=r.SPARE["endpoint"], **_NOW),
    "webhooks.turns_of": case(endpoint_id=r.OPEN),
    "webhooks.reset_health": case(endpoint_id=r.OPEN, **_NOW),
    "webhooks.update_endpoint": case(id=r.ENDPOINT, audit_id=r.SPARE["endpoint"], **_ENDPOINT),
    "webhooks.bury_endpoint": case(id=r.ENDPOINT, audit_id=r.SPARE["endpoint"], **_NOW),
    "webhooks.endpoint_by_id": case(id=r.ENDPOINT),
    "webhooks.endpoint_by_uid": case(uid="hook"),
    "webhooks.count_endpoints": case(limit=100),
    "webhooks.list_endpoints": case(**_OLDEST),
    "webhooks.list_endpoints_back": case(**_NEWEST),
    "webhooks.insert_secret": case(id=r.NEW_SECRET, endpoint_id=r.ENDPOINT, sealed=b"new", audit_id=r.SPARE["new secret"], **_NOW),
    "webhooks.expire_secret": case(id=r.SECRET, expires_us=r.NOW_US, audit_id=r.SPARE["secret"]),
    "webhooks.live_secrets": case(**_NOW),
    "webhooks.endpoint_secrets": case(endpoint_id=r.ENDPOINT, **_NOW),
    "webhooks.insert_event_type": case(r.SYSTEM, name="thing.new", audit_id=r.SPARE["new event type"], **_EVENT_TYPE),
    "webhooks.hold_event_type": case(name=r.EVENT_TYPE),
    "webhooks.update_event_type": case(name=r.EVENT_TYPE, audit_id=r.SPARE["event type"], **_EVENT_TYPE),
    "webhooks.bury_event_type": case(name=r.EVENT_TYPE, audit_id=r.SPARE["event type"], **_NOW),
    "webhooks.get_event_type": case(name=r.EVENT_TYPE),
    "webhooks.schedules_of_event_types": case(),
    "webhooks.list_event_types": case(after="", **_TYPES),
    "webhooks.list_event_types_back": case(after="~", **_TYPES),
    "webhooks.point_key_at": case(route=r.ROUTE, key="key-1", ref=r.LATER),
    "webhooks.forget_key": case(route=r.ROUTE, key="key-1"),
    "webhooks.get_message": case(id=r.READY),
    "webhooks.message_of_event_id": case(event_id="event-1"),
    "webhooks.list_messages": case(**_NEWEST),
    "webhooks.list_messages_back": case(**_OLDEST),
    "webhooks.resend": case(deadline_us=r.FAR_US, audit_id=r.SPARE["delivery"], **_DELIVERY, **_NOW),
    "webhooks.finished_messages": case(before_us=EVER_US, limit=100),
    "webhooks.hold_deliveries": case(rows=[(r.SETTLED,), (r.DEAD,)]),
    "webhooks.delete_deliveries": case(rows=[(r.SETTLED,), (r.DEAD,)]),
    "webhooks.delete_attempts": case(rows=[(r.GONE,), (r.GONE_TOO,)]),
    "webhooks.delete_messages": case(rows=[(r.VOID,), (r.VOID_TOO,)]),
    "webhooks.idle_lines": case(before_us=EVER_US, after_endpoint=b"", after_line="", limit=100),
    "webhooks.delete_lines": case(before_us=EVER_US, rows=[(r.LINED, "e"), (r.LINED, "n")]),
    "webhooks.line_of": case(message_id=r.BEHIND, endpoint_id=r.LINED),
    "webhooks.insert_resent": case(message_id=r.DEAD, endpoint_id=r.WELL, deadline_us=r.FAR_US, **_NOW),
    "webhooks.get_delivery": case(**_DELIVERY),
    "webhooks.deliveries_of_message": case(message_id=r.READY),
    "webhooks.list_dead": case(after_endpoint=b"", after_message=b"", **_DEAD, **_PAGE),
    "webhooks.insert_task": case(
        id=r.NEW_TASK,
        kind="recover",
        parameters="{}",
        after_us=0,
        after_id=b"",
        trace_id="",
        span_id="",
        audit_id=r.SPARE["new task"],
        **_NOW,
    ),
    "webhooks.get_task": case(id=r.TASK),
    "webhooks.list_tasks": case(**_NEWEST),
    "webhooks.claim_task": case(id=r.FREE_TASK, node=r.NODE),
    "webhooks.hold_task": case(**_WALK),
    "webhooks.move_task": case(
        state="running", after_us=9, after_id=b"", done=1, changed=1, reason=None, finished_us=None, **_WALK, **_NOW
    ),
    "webhooks.release_task": case(**_WALK),
    "webhooks.hold_task_to_decide": case(id=r.TASK),
    "webhooks.decide_task": case(id=r.TASK, state="cancelled", reason="no", audit_id=r.SPARE["task"], **_NOW),
    "webhooks.task_page": case(after_us=-1, after_id=b"", until_us=EVER_US, **_PAGE),
    "webhooks.standing_deliveries": case(rows=[(r.READY,), (r.DEAD,)], **_ANY_ENDPOINT),
    "webhooks.hold_chosen": case(
        rows=[(r.SETTLED, r.ENDPOINT), (r.DEAD, r.ENDPOINT), (r.GONE, r.ENDPOINT)], states=[("dead",), ("delivered",)]
    ),
    "webhooks.redrive": case(rows=[(r.ACME, r.DEAD, r.ENDPOINT, r.NOW_US, r.FAR_US, None, None)], reason="new"),
    "webhooks.insert_missing": case(endpoint_id=r.WELL, reason="new", rows=[(r.DEAD, r.WELL, r.NOW_US, r.FAR_US, None, None)]),
    "webhooks.cancel_chosen": case(rows=[(r.READY, r.ENDPOINT)], reason="new"),
    "webhooks.cancel_delivery": case(message_id=r.READY, endpoint_id=r.ENDPOINT, reason="new", audit_id=r.SPARE["delivery due"]),
    "webhooks.expunge_message": case(id=r.READY),
    "webhooks.expunge_attempt": case(message_id=r.READY, id=r.ATTEMPT),
    "webhooks.erase_payloads": case(rows=[(r.LATER,)], now_us=r.FAR_US),
    "webhooks.cancel_erased": case(rows=[(r.READY,)], reason="new"),
    "webhooks.attempts_of_message": case(message_id=r.READY, before=LAST, **_PAGE),
    "webhooks.attempts_of_message_back": case(message_id=r.READY, before=b"", **_PAGE),
    "webhooks.attempts_of_endpoint": case(endpoint_id=r.ENDPOINT, before=LAST, **_PAGE),
    "webhooks.attempts_of_endpoint_back": case(endpoint_id=r.ENDPOINT, before=b"", **_PAGE),
    "webhooks.get_attempt": case(message_id=r.READY, id=r.ATTEMPT),
    "webhooks.queued_deliveries": case(limit=100),
    "webhooks.payloads": case(rows=[(r.READY,)]),
    "webhooks.messages_without_payloads": case(rows=[(r.READY,)]),
    "webhooks.find_messages": case(**_MESSAGES, **_NEWEST),
    "webhooks.find_messages_back": case(**_MESSAGES, **_OLDEST),
    "webhooks.find_attempts_of_message": case(message_id=r.READY, place=LAST, **_ANY_ENDPOINT, **_ATTEMPTS),
    "webhooks.find_attempts_of_message_back": case(message_id=r.READY, place=b"", **_ANY_ENDPOINT, **_ATTEMPTS),
    "webhooks.find_attempts_of_endpoint": case(endpoint_id=r.ENDPOINT, place=LAST, **_ATTEMPTS),
    "webhooks.find_attempts_of_endpoint_back": case(endpoint_id=r.ENDPOINT, place=b"", **_ATTEMPTS),
    "webhooks.schemas_of_event_types": case(),
    "webhooks.messages_of_endpoint": case(endpoint_id=r.ENDPOINT, place=LAST, **_OF_ENDPOINT),
    "webhooks.messages_of_endpoint_back": case(endpoint_id=r.ENDPOINT, place=b"", **_OF_ENDPOINT),
    "webhooks.states_of_endpoint": case(endpoint_id=r.ENDPOINT, least=b"", above=LAST),
    "webhooks.outcomes_of_endpoint": case(endpoint_id=r.ENDPOINT, least=b"", above=LAST),
    "webhooks.destinations_of_message": case(message_id=r.READY, after=b"", **_PAGE),
    "webhooks.destinations_of_message_back": case(message_id=r.READY, after=LAST, **_PAGE),
}

READ_BY_EVERYBODY: Final = {
    "webhooks.get_event_type": "event types are the operator's, and every tenant may know them",
    "webhooks.schedules_of_event_types": "as above",
    "webhooks.list_event_types": "as above",
    "webhooks.list_event_types_back": "as above",
    "webhooks.schemas_of_event_types": "as above",
}
"""Statements that answer with rows of the operator's where only the policies hold them."""

REDUNDANT: Final[dict[tuple[str, str], str]] = {
    ("webhooks.redrive", "r.tenant = :tenant"): "each row names its tenant, and a transaction refuses another's",
    ("storage.insert_own_spans", "r.tenant = :tenant"): "each row names its tenant, and a transaction refuses another's",
    ("webhooks.insert_missing", "m.tenant = :tenant"): "the foreign key refuses a delivery of a message that the tenant has not",
}
"""(statement, what was taken out) whose loss no case can show, and why it cannot reach another tenant's row."""
