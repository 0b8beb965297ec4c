"""The rows of two tenants that collide: the same ids, names and keys in both, and another content.

A statement that loses its tenant therefore finds two rows where it found one. Four things need more than that, because
their statements choose by a number, a time or an owner: data keys, idempotency records, deliveries and health differ in those.
Each change of an audited row has an entry at hand in both tenants, under one id, so that no trigger stands in a leak's way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

ACME: Final = "acme"
GLOBEX: Final = "globex"
INITECH: Final = "initech"
"""About to be made: an audit entry, no tenant yet."""
SYSTEM: Final = "*"

Row = tuple[str, dict[str, Any]]
"""A table, and a value for each of its columns that has one."""


def named(word: str) -> bytes:
    """A readable id of 16 bytes."""
    return word.encode().ljust(16, b".")[:16]


NODE, OTHER_NODE, DEAD_NODE = named("node"), named("other node"), named("dead node")
ENDPOINT, NEW_ENDPOINT = named("endpoint"), named("endpoint new")
OPEN, WELL, IDLE, PROBED, LINED = (named(f"endpoint {n}") for n in ("open", "well", "idle", "prob", "line"))
"""By the breaker; the one that is idle is open too, and nothing is due for it at acme's. To the last one messages go in lines."""

KEY, NEW_KEY, SECRET, NEW_SECRET = named("key"), named("key new"), named("secret"), named("secret new")
BROWSERS: Final = named("key of browser")
"""A session's key; its parent is the first one."""
READY, LEASED, ORPHANED, SETTLED, LATER, DEAD = (named(f"message {n}") for n in ("ready", "leased", "orphan", "settled", "later", "dead"))
FRONT, BEHIND = named("message front"), named("message behind")
GONE, GONE_TOO, VOID, VOID_TOO = (named(f"message {n}") for n in ("gone", "gone 2", "void", "void 2"))
"""Without a delivery at acme's; the first of each pair has one at globex's. Those that are gone have attempts."""

THEIRS: Final = named("theirs")
"""A message of globex alone."""

MESSAGES: Final = (GONE, GONE_TOO, VOID, VOID_TOO, FRONT, BEHIND, READY, LEASED, ORPHANED, SETTLED, LATER, DEAD)
NEW_MESSAGE, ATTEMPT, ATTEMPT_2, NEW_ATTEMPT = named("message new"), named("attempt"), named("attempt 2"), named("attempt new")
TASK, NEW_TASK, FREE_TASK = named("task"), named("task new"), named("task free")
LOOK, NEW_LOOK = named("look"), named("look new")
"""Debug sessions."""
SCHEDULE, NEW_SCHEDULE = named("schedule"), named("plan new")
KPI, NEW_KPI = named("kpi"), named("kpi new")
RUN, NEW_RUN, IDLE_RUN, OLD_RUN, LONE_RUN = named("run"), named("run new"), named("run idle"), named("run old"), named("run lone")
FLOW, NEW_FLOW = named("flow"), named("flow new")
LINK_FLOW, DEVICE_FLOW, ENDED_FLOW = named("flow link"), named("flow device"), named("ended flow")
CLIENT, NEW_CLIENT = named("client"), named("client new")
LOGIN_2, LOGIN, NEW_LOGIN, SESSION, NEW_SESSION = (
    named("login 2"),
    named("login"),
    named("login new"),
    named("session"),
    named("session new"),
)
SIGNING_KEY, NEW_SIGNING_KEY = named("signing key"), named("signing key new")
PROVIDER, NEW_PROVIDER = named("provider"), named("provider new")
ROTATION, NEW_ROTATION = named("rotation"), named("rotation new")
PERSON, NEW_PERSON, PERSON_2 = named("person"), named("person new"), named("person 2")
CONNECTION, NEW_CONNECTION, FREE = named("connection"), named("connection new"), named("connection free")
"""The first is leased to NODE, the second is to be made, the third is free; each of the first two names stands in both tenants."""

ENTRY: Final = named("an entry")
GIVEN_AWAY, GIVEN_AWAY_TOO = named("given away"), named("given away too")
"""Entries that both logs have given away; the first has served a change."""

PAST_US: Final = 90
NOW_US: Final = 100
FAR_US: Final = 10**9
NEVER_US: Final = 2 * 10**9
EVENT_TYPE: Final = "thing.happened"
ROUTE, EVENT_ROUTE = "POST /app/{app_id}/msg", "event_id"


def shared_rows() -> Iterator[Row]:
    """What belongs to nobody, to the operator, or to a tenant that is about to be made."""
    for node in (NODE, OTHER_NODE):
        yield "netra_node", {"id": node, "beat": 1, "host": "host", "pid": 1, "role": "test", "started_us": 1}
    yield _entry(INITECH, SPARE["tenant"], "netra_tenant", INITECH)
    for word, target in (("event type", EVENT_TYPE), ("event type changed", EVENT_TYPE), ("event type new", "thing.new")):
        yield _entry(SYSTEM, named(word), "netra_event_type", target)
    facts = {"description": "", "archived": 0, "deprecated": 0, "schemas": '{"1": {}}', "schedule": "5s", **_made(), **_by("event type")}
    yield "netra_event_type", {"tenant": SYSTEM, "name": EVENT_TYPE, **facts}


SPARE: Final = {
    "tenant": named("tenant changed"),
    "key": named("key changed"),
    "endpoint": named("endpoint chgd"),
    "secret": named("secret changed"),
    "delivery": named("delivery chgd"),
    "delivery due": named("delivery due"),
    "event type": named("event type changed"),
    "run": named("run changed"),
    "task": named("task changed"),
    "kpi": named("kpi changed"),
    "new kpi": named("kpi made"),
    "new key": named("key made"),
    "new endpoint": named("endpoint made"),
    "new secret": named("secret made"),
    "new event type": named("event type new"),
    "client": named("client changed"),
    "provider": named("provider changed"),
    "rotation": named("rotation chgd"),
    "person": named("person changed"),
    "signer": named("signer changed"),
    "new signer": named("signer made"),
    "new provider": named("provider made"),
    "new rotation": named("rotation made"),
    "new person": named("person made"),
    "person 2": named("person 2 made"),
    "connection": named("connection chgd"),
    "new run": named("run made"),
    "new client": named("client made"),
    "new connection": named("connection made"),
    "free connection": named("connection freed"),
    "new task": named("task made"),
    "look": named("look changed"),
    "new look": named("look made"),
    "free task": named("task freed"),
    "new idle": named("idle made"),
    "new old run": named("old made"),
    "new lone run": named("lone made"),
    "schedule": named("schedule chgd"),
    "new schedule": named("schedule made"),
}
"""Entries for the changes that the statements make, by what they are for."""


def rows_of(tenant: str) -> Iterator[Row]:
    """All of one tenant's, in an order that its references allow."""
    own = {"tenant": tenant}
    yield from _entries(tenant)
    yield "netra_tenant", {**own, "id": named(tenant), "uid": f"{tenant}-uid", "name": tenant, "metadata": "{}", **_made(), **_by("tenant")}
    yield "netra_webhook_version", {**own, "version": _one_or_two(tenant)}
    for version in range(1, 1 + _one_or_two(tenant)):  # the newest of both is globex's
        yield "netra_data_key", {**own, "version": version, "root_id": "r1", "wrapped": tenant.encode(), "created_us": 1}
    yield (
        "netra_api_key",
        {**own, "id": KEY, "hash": named(tenant) * 2, "name": tenant, "scopes": '["portal"]', "created_us": 1, **_by("key")},
    )
    facts = {"parent": KEY, "scopes": '["portal"]', "created_us": 1, "audit_id": BROWSERS}
    yield "netra_api_key", {**own, "id": BROWSERS, "hash": named(f"browser {tenant}") * 2, "name": tenant, **facts}
    yield from _idempotency(tenant)
    yield from _endpoints(tenant)
    yield from _messages(tenant)
    yield from _runs(tenant)
    yield from _connections(tenant)
    yield from _sign_on(tenant)
    yield from _tasks(tenant)
    yield from _looks(tenant)
    yield from _audit_log(tenant)
    yield from _kpis(tenant)
    yield "netra_outbox", {"stream": "events", **own, "items": "[]", "at_us": 1}
    yield "netra_log", {"stream": "events", "seq": _one_or_two(tenant), **own, "items": "[]", "at_us": 1}


def _entries(tenant: str) -> Iterator[Row]:
    targets = {
        "tenant": ("netra_tenant", tenant, tenant),
        "key": ("netra_api_key", KEY.hex(), NEW_KEY.hex()),
        "endpoint": ("netra_endpoint", ENDPOINT.hex(), NEW_ENDPOINT.hex()),
        "secret": ("netra_endpoint_secret", SECRET.hex(), NEW_SECRET.hex()),
        "run": ("netra_job_run", RUN.hex(), NEW_RUN.hex()),
        "schedule": ("netra_job_schedule", SCHEDULE.hex(), NEW_SCHEDULE.hex()),
        "client": ("netra_oauth_client", CLIENT.hex(), NEW_CLIENT.hex()),
        "signer": ("netra_signing_key", SIGNING_KEY.hex(), NEW_SIGNING_KEY.hex()),
        "provider": ("netra_sso_provider", PROVIDER.hex(), NEW_PROVIDER.hex()),
        "rotation": ("netra_sso_rotation", ROTATION.hex(), NEW_ROTATION.hex()),
        "person": ("netra_sso_identity", PERSON.hex(), NEW_PERSON.hex()),
        "connection": ("netra_connection", CONNECTION.hex(), NEW_CONNECTION.hex()),
        "task": ("netra_webhook_task", TASK.hex(), NEW_TASK.hex()),
        "look": ("netra_debug_session", LOOK.hex(), NEW_LOOK.hex()),
        "kpi": ("netra_kpi", KPI.hex(), NEW_KPI.hex()),
    }
    yield _entry(tenant, SPARE["free task"], "netra_webhook_task", FREE_TASK.hex())
    yield _entry(tenant, SPARE["delivery due"], "netra_delivery", f"{READY.hex()}/{ENDPOINT.hex()}")
    yield _entry(tenant, SPARE["new idle"], "netra_job_run", IDLE_RUN.hex())
    yield _entry(tenant, SPARE["new old run"], "netra_job_run", OLD_RUN.hex())
    yield _entry(tenant, SPARE["new lone run"], "netra_job_run", LONE_RUN.hex())
    yield _entry(tenant, SPARE["free connection"], "netra_connection", FREE.hex())
    yield _entry(tenant, SPARE["person 2"], "netra_sso_identity", PERSON_2.hex())
    for entry in (ENTRY, GIVEN_AWAY, GIVEN_AWAY_TOO):
        yield _entry(tenant, entry, "", "")
    yield "netra_audit_use", {"tenant": tenant, "audit_id": GIVEN_AWAY}
    yield _entry(tenant, SPARE["delivery"], "netra_delivery", f"{DEAD.hex()}/{ENDPOINT.hex()}")
    yield _entry(tenant, BROWSERS, "netra_api_key", BROWSERS.hex())
    for endpoint in (OPEN, WELL, IDLE, PROBED, LINED):
        yield _entry(tenant, endpoint, "netra_endpoint", endpoint.hex())
    for word, (table, target, new_target) in targets.items():
        yield _entry(tenant, named(word), table, target)
        yield _entry(tenant, SPARE[word], table, target)
        if word != "tenant":
            yield _entry(tenant, SPARE[f"new {word}"], table, new_target)


def _entry(tenant: str, entry: bytes, table: str, target: str) -> Row:
    facts = {"actor": tenant, "action": "test.arrange", "outcome": "ok", "trace_id": "trace", "span_id": ""}
    return "netra_audit_entry", {"tenant": tenant, "id": entry, "at_us": 1, "target_table": table, "target": target, **facts}


def _idempotency(tenant: str) -> Iterator[Row]:
    made = NOW_US if tenant == ACME else FAR_US  # so that what is old enough to go is acme's alone
    lost = THEIRS if tenant == ACME else named("no message")  # of neither is a message there, of acme's only in globex
    for route, key, ref in ((ROUTE, "key-1", READY), (EVENT_ROUTE, "event-1", READY), (ROUTE, "key-lost", lost)):
        facts = {"body_hash": tenant, "ref": ref, "status": 202, "created_us": made}
        yield "netra_idempotency", {"tenant": tenant, "route": route, "key": key, **facts}


def _endpoints(tenant: str) -> Iterator[Row]:
    for endpoint in (ENDPOINT, OPEN, WELL, IDLE, PROBED, LINED):
        facts = {"url": f"http://{tenant}/", "description": tenant, "disabled": 0, "metadata": "{}", "headers": "{}"}
        uid = "hook" if endpoint == ENDPOINT else None
        yield "netra_endpoint", {"tenant": tenant, "id": endpoint, "uid": uid, **facts, **_made(), "audit_id": endpoint}
    facts = {"endpoint_id": ENDPOINT, "sealed": tenant.encode(), "created_us": 1}
    yield "netra_endpoint_secret", {"tenant": tenant, "id": SECRET, **facts, **_by("secret")}
    for endpoint, phase in HEALTH[tenant].items():
        prober = NODE if phase == "half_open" else None
        facts = {"since_us": 1, "until_us": 1, "openings": 0, "slow_limit": 0, "credit": 0, "gate_us": 0}
        failing = {"failing_since_us": 1, "failed_us": 1, "failing_us": 1, "failures": _one_or_two(tenant), "warned": 1}
        facts |= failing if endpoint == OPEN else {}
        yield "netra_endpoint_health", {"tenant": tenant, "endpoint_id": endpoint, "phase": phase, "prober": prober, **facts}


def _messages(tenant: str) -> Iterator[Row]:
    traced = {"trace_id": "", "span_id": ""}
    for message in (*MESSAGES, *([THEIRS] if tenant == GLOBEX else [])):
        facts = {"event_type": EVENT_TYPE, "payload": f'"{tenant}"', "channels": '["c"]', "tags": '["t"]', "created_us": 1}
        later = {"deliver_at_us": FAR_US} if (tenant, message) == (GLOBEX, BEHIND) else {}
        short = {"payload_until_us": PAST_US} if message == LATER else {}
        yield "netra_message", {"tenant": tenant, "id": message, **facts, **later, **short, **traced}
    for (message, endpoint), (state, due_us, owner) in DELIVERIES[tenant].items():
        facts = {"state": state, "number": 0, "due_us": due_us, "deadline_us": PAST_US, "manual": 0, "owner": owner}
        yield "netra_delivery", {"tenant": tenant, "message_id": message, "endpoint_id": endpoint, **facts}
    lines = {line: last for line, last, *_ in LINES[tenant]} | dict.fromkeys(EMPTY_LINES[tenant], 1)
    for line, last in lines.items():
        yield (
            "netra_line",
            {"tenant": tenant, "endpoint_id": LINED, "line": line, "last_place": last, "used_us": PAST_US if line == "m" else FAR_US},
        )
    for line, _, message, state, place in LINES[tenant]:
        facts = {"state": state, "number": 0, "due_us": NEVER_US, "deadline_us": FAR_US, "manual": 0, "line": line, "place": place}
        yield "netra_delivery", {"tenant": tenant, "message_id": message, "endpoint_id": LINED, **facts}
    for message, attempt in ((READY, ATTEMPT), (READY, ATTEMPT_2), (GONE, ATTEMPT), (GONE_TOO, ATTEMPT)):
        facts = {"number": 1, "manual": 0, "started_us": 1, "duration_us": 1, "outcome": "delivered", "status": 200, "error_kind": ""}
        rest = {"error": "", "response": tenant, "url": f"http://{tenant}/", "late": 0, **traced}
        yield "netra_attempt", {"tenant": tenant, "message_id": message, "id": attempt, "endpoint_id": ENDPOINT, **facts, **rest}


def _tasks(tenant: str) -> Iterator[Row]:
    """The first is held by a node that lives, the other is free."""
    facts = {
        "kind": "recover",
        "state": "running",
        "parameters": f'"{tenant}"',
        "after_us": _one_or_two(tenant),
        "after_id": b"",
        "done": 0,
    }
    more = {"changed": 0, **_made(), "trace_id": "", "span_id": ""}
    yield "netra_webhook_task", {"tenant": tenant, "id": TASK, **facts, **more, "owner": NODE, **_by("task")}
    yield "netra_webhook_task", {"tenant": tenant, "id": FREE_TASK, **facts, **more, "audit_id": SPARE["free task"]}


def _looks(tenant: str) -> Iterator[Row]:
    """A live debug session, what it has recorded, and a row that it chose."""
    texts = {"reason": tenant, "actor": tenant, "predicates": "{}", "captures": "[]", "logpoints": "[]"}
    times = {"granted_us": 1, "created_us": 1, "expires_us": FAR_US, "last_seq": _one_or_two(tenant), "dropped": 0}
    yield "netra_debug_session", {"tenant": tenant, "id": LOOK, "state": "active", **texts, **times, **_by("look")}
    facts = {"session_id": LOOK, "kind": "log", "at_us": 1, "trace_id": "", "data": f'"{tenant}"'}
    yield "netra_debug_record", {"tenant": tenant, "seq": 1, **facts}
    yield "netra_debug_mark", {"tenant": tenant, "ref": READY, "session_id": LOOK}
    if tenant == GLOBEX:
        yield "netra_debug_mark", {"tenant": tenant, "ref": READY, "session_id": NEW_LOOK}


def _audit_log(tenant: str) -> Iterator[Row]:
    """A log of some hundred entries, of which the first bundle was given away."""
    facts = {"size": 600, "root": tenant.encode(), "epoch": 1, "origin": tenant, "signed_size": 300, "checkpoint": tenant, "minimum": 256}
    keys = {"public_key": tenant.encode(), "sealed": tenant.encode(), "created_us": 1, "updated_us": 1}
    yield "netra_audit_log", {"tenant": tenant, **facts, **keys}
    yield "netra_audit_tile", {"tenant": tenant, "level": 0, "number": 0, "hashes": tenant.encode()}
    yield (
        "netra_audit_page",
        {"tenant": tenant, "number": 0, "ids": GIVEN_AWAY + GIVEN_AWAY_TOO + named(tenant), "lowest": bytes(16), "highest": b"\xff" * 16},
    )
    yield "netra_audit_personal", {"tenant": tenant, "entry_id": ENTRY, "salt": tenant.encode(), "data": tenant}


def _kpis(tenant: str) -> Iterator[Row]:
    yield "netra_kpi", {"tenant": tenant, "id": KPI, "name": "kpi", "definition": f'"{tenant}"', **_made(), **_by("kpi")}
    ends_us = PAST_US if tenant == ACME else FAR_US  # so that what is old enough to go is acme's alone
    times = {"total_us": 1, "next_us": PAST_US, "turned_us": FAR_US, "judged_us": 1, "keep_us": ends_us}
    facts = {"value": _one_or_two(tenant), "trace_id": "trace", "result": "late", "cause": "cause", **times}
    yield "netra_kpi_object", {"tenant": tenant, "kpi": KPI, "key": "key", **facts}
    counts = dict.fromkeys(("total", "good", "late", "lost", "value", "value_good", "value_late", "value_lost", "met", "missed"), 1)
    yield "netra_kpi_bucket", {"tenant": tenant, "kpi": KPI, "minute_us": PAST_US, **counts}
    span = {"trace_id": "trace", "span_id": "span", "parent": "", "link_trace": "other", "link_span": "", "part": "app", "name": tenant}
    yield "netra_span", {"tenant": tenant, **span, "start_us": PAST_US, "end_us": PAST_US, "status": "ok", "ref": ""}
    yield "netra_kpi_alert", {"tenant": tenant, "kpi": KPI, "rule": "rule", "firing": 1, "since_us": _one_or_two(tenant)}


def _runs(tenant: str) -> Iterator[Row]:
    """The first partition of acme's run is held by a node that lives, globex's is free; globex has a rerun of its old run, which waits for it too, and another old one."""
    at = {"created_us": 1, "wanted": 1, "trace_id": "trace", "span_id": ""}
    running = {"state": "running", "partitions": 3}
    yield "netra_job_run", {"tenant": tenant, "id": RUN, "job": "job", "key": "key", "params": f'"{tenant}"', **at, **running, **_by("run")}
    over = {"state": "completed", "partitions": 1, "finished_us": 2, "audit_id": SPARE["new old run"]}
    yield "netra_job_run", {"tenant": tenant, "id": OLD_RUN, "job": "job", "key": "old", "params": "{}", **at, **over}
    if tenant == GLOBEX:
        lone = {**over, "id": LONE_RUN, "audit_id": SPARE["new lone run"], "created_us": 2}  # the last one of both tenants'
        yield "netra_job_run", {"tenant": tenant, "job": "job", "key": "lone", "params": "{}", **at, **lone}
    asked = {"job": "job", "cron": "@daily", "zone": "UTC", "params": f'"{tenant}"', "partitions": 1, "priority": 0, "next_us": 1}
    schedule = {"id": SCHEDULE, "name": "nightly", "state": "on", **asked, **_made(), **_by("schedule")}
    yield "netra_job_schedule", {"tenant": tenant, **schedule}
    yield "netra_job_pace", {"tenant": tenant, "job": "job", "next_us": _one_or_two(tenant) * NOW_US}
    idle = {"state": "queued", "audit_id": SPARE["new idle"], "parent": None, "waits_for": None}
    if tenant == GLOBEX:
        idle |= {"parent": OLD_RUN, "waits_for": f'["{OLD_RUN.hex()}"]'}
    yield "netra_job_run", {"tenant": tenant, "id": IDLE_RUN, "job": "job", "key": "idle", "params": "{}", **at, **idle}
    counts = {"done": _one_or_two(tenant), "failed": 1, "skipped": 0, "position": 1, "total": 9, "chunk_size": 10, "failure_ppm": 0}
    counts["crashes"] = 1
    for number, owner in ((0, NODE if tenant == ACME else None), (1, DEAD_NODE), (2, NODE)):
        facts = {"state": "open", "spec": f'"{tenant}"', "fence": 1, "owner": owner, **counts}
        yield "netra_job_partition", {"tenant": tenant, "run_id": RUN, "number": number, **facts}
    facts = {"state": "done", "spec": f'"{tenant}"', "fence": 1, "owner": None, **counts}
    yield "netra_job_partition", {"tenant": tenant, "run_id": OLD_RUN, "number": 0, **facts}
    facts = {"key": "k", "place": "null", "payload": f'"{tenant}"', "exact": 1, "cause": "error", "error": tenant, "attempts": 1}
    for number in (1,) if tenant == ACME else (0, 1):
        yield "netra_item_failure", {"tenant": tenant, "run_id": RUN, "number": number, "position": 0, **facts, "created_us": 1}


def _connections(tenant: str) -> Iterator[Row]:
    """Leased, with an open intent; free; and a successor that came too late."""
    facts = {"issuer": f"http://{tenant}/", "token_endpoints": "[]", "client_id": tenant, "auth": "none", "sealed": tenant.encode()}
    facts |= {"idle_s": _one_or_two(tenant), "assertion": "{}", "assertion_key": tenant.encode()}
    yield (
        "netra_oauth_client",
        {"tenant": tenant, "id": CLIENT, "name": "client", **facts, "first_secret": 0, "scopes": "[]", **_made(), **_by("client")},
    )
    for id_, name, holder, entry in ((CONNECTION, "user", NODE, named("connection")), (FREE, "free", None, SPARE["free connection"])):
        tokens = {"access": tenant.encode(), "refresh": tenant.encode(), "rt_fp": f"fp-{name}", "generation": 1}
        times = {"issued_us": 1, "expires_us": FAR_US, "due_us": PAST_US, "fence": 1, "attempt_fp": f"fp-{name}", "attempt_us": 1}
        facts = {"state": "active", "holder": holder, "attempt_at": 0, "attempts": 1, "failures": 0, "audit_id": entry}
        yield "netra_connection", {"tenant": tenant, "id": id_, "name": name, "client": CLIENT, **tokens, **times, **facts, **_made()}
    facts = {"connection_id": CONNECTION, "verifier": tenant.encode(), "redirect_uri": f"http://{tenant}/", "generation": 0}
    facts |= {"state_hash": named(tenant), "expires_us": FAR_US, "created_us": 1}
    yield "netra_connect_flow", {"tenant": tenant, "id": FLOW, **facts}
    yield "netra_connect_flow", {"tenant": tenant, "id": LINK_FLOW, **facts, "state_hash": named(f"{tenant} link"), "kind": "link"}
    ended = {"state_hash": named(f"{tenant} ended"), "outcome": "failed", "reason": tenant}
    yield "netra_connect_flow", {"tenant": tenant, "id": ENDED_FLOW, **facts, **ended}
    poll = {"kind": "device", "poll_us": PAST_US, "interval_s": _one_or_two(tenant)}
    yield "netra_connect_flow", {"tenant": tenant, "id": DEVICE_FLOW, **facts, "state_hash": named(f"{tenant} device"), **poll}
    facts = {"rt_fp": "fp-late", "parent_generation": 8 + _one_or_two(tenant), "sealed": tenant.encode(), "created_us": 1}
    yield "netra_connection_orphan", {"tenant": tenant, "connection_id": CONNECTION, **facts}


def _sign_on(tenant: str) -> Iterator[Row]:
    """A provider, where logins go, and somebody who has a backup."""
    facts = {"rank": _one_or_two(tenant), "enabled": 1, "options": f'"{tenant}"', **_made(), **_by("provider")}
    yield "netra_sso_provider", {"tenant": tenant, "id": PROVIDER, "name": "idp", "client": CLIENT, **facts}
    facts = {"purpose": "login", "version": 3, "active": tenant, "share": 0, "body": f'"{tenant}"', **_made(), **_by("rotation")}
    yield "netra_sso_rotation", {"tenant": tenant, "id": ROTATION, **facts}
    role = {"role": "viewer" if tenant == ACME else "admin"}
    yield "netra_sso_identity", {"tenant": tenant, "id": PERSON, "issuer": "http://a/", "subject": "u", **role, **_made(), **_by("person")}
    backup = {"issuer": "http://b/", "subject": "v", "linked": PERSON, **role, **_made(), "audit_id": SPARE["person 2"]}
    yield "netra_sso_identity", {"tenant": tenant, "id": PERSON_2, **backup}
    way = {"provider": tenant, "issuer": "http://a/", "browser_hash": b"b", "sealed": tenant.encode(), "redirect_uri": "", "target": ""}
    yield "netra_sso_login", {"tenant": tenant, "id": LOGIN, "state_hash": named(f"s {tenant}"), "expires_us": FAR_US, **way}
    ends_us = PAST_US if tenant == ACME else FAR_US
    yield "netra_sso_login", {"tenant": tenant, "id": LOGIN_2, "state_hash": named(f"s2 {tenant}"), "expires_us": ends_us, **way}
    whose = {"identity": PERSON, "provider": tenant, "issuer": "http://a/", "subject": "u", **role, "backup": 0, "sealed": b"s"}
    times = {"due_us": PAST_US, "created_us": 1, "expires_us": ends_us, "idle_us": FAR_US}
    yield "netra_sso_session", {"tenant": tenant, "id": SESSION, "hash": named(f"h {tenant}"), **whose, **times}
    facts = {"sealed": tenant.encode(), "signs_from_us": 1, "created_us": 1, **_by("signer")}
    yield "netra_signing_key", {"tenant": tenant, "id": SIGNING_KEY, **facts}
    yield "netra_token_exchange", {"tenant": tenant, "trace": named("trade"), "expires_us": ends_us}


DELIVERIES: Final[dict[str, dict[tuple[bytes, bytes], tuple[str, int, bytes | None]]]] = {
    ACME: {
        (READY, ENDPOINT): ("due", 50, None),
        (LEASED, ENDPOINT): ("leased", 50, NODE),
        (ORPHANED, ENDPOINT): ("leased", 50, DEAD_NODE),
        (SETTLED, ENDPOINT): ("delivered", 50, None),
        (LATER, ENDPOINT): ("due", FAR_US, None),
        (DEAD, ENDPOINT): ("dead", 50, None),
        (READY, OPEN): ("due", 50, None),
        (READY, WELL): ("due", 50, None),
    },
    GLOBEX: {
        (READY, ENDPOINT): ("due", 50, None),
        (LEASED, ENDPOINT): ("leased", 50, NODE),
        (ORPHANED, ENDPOINT): ("leased", 50, OTHER_NODE),  # its owner lives
        (SETTLED, ENDPOINT): ("leased", 50, NODE),  # a lease that acme's has not
        (LATER, ENDPOINT): ("due", 50, None),  # due now, which acme's is not
        (DEAD, ENDPOINT): ("dead", 50, None),
        (READY, OPEN): ("due", 50, None),
        (READY, WELL): ("due", 40, None),  # ahead of acme's, where the two are put in one row
        (READY, IDLE): ("due", 50, None),
        (GONE, ENDPOINT): ("delivered", 50, None),
        (VOID, ENDPOINT): ("delivered", 50, None),
    },
}
LINES: Final[dict[str, list[tuple[str, int, bytes, str, int]]]] = {
    ACME: [("l", 2, FRONT, "delivered", 1), ("l", 2, BEHIND, "due", 2)],
    GLOBEX: [("l", 5, FRONT, "due", 1), ("l", 5, BEHIND, "due", 2), ("m", 1, READY, "due", 1), ("n", 1, SETTLED, "due", 1)],
}
"""Line, its last number, message, state, place: at globex's somebody stands before, and there is one line more."""

EMPTY_LINES: Final = {ACME: ("e", "n"), GLOBEX: ("e",)}
"""In which nobody stands."""

HEALTH: Final = {
    ACME: {ENDPOINT: "closed", OPEN: "open", IDLE: "open", PROBED: "half_open"},
    GLOBEX: {ENDPOINT: "open", OPEN: "open", IDLE: "open", PROBED: "half_open"},
}


def _one_or_two(tenant: str) -> int:
    return 1 if tenant == ACME else 2


def _made() -> dict[str, int]:
    return {"created_us": 1, "updated_us": 1}


def _by(entry: str) -> dict[str, bytes]:
    return {"audit_id": named(entry)}
