"""Rebuilds audited rows from the trail alone, and compares them with what stands in the tables.

Per column: how the entries tell of it. A secret is compared by the fingerprint of what is stored. Every audited table and every column that
its triggers watch stands here, or says why not; a new one turns the tests red.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...kernel.ids import to_text


@dataclass
class Told:
    """What the entries about one row say by now."""

    facts: dict[str, Any]
    audit_id: str = ""
    ended: dict[str, int] | None = None
    """When, by column, of those that are times."""


def sha256(stored: Any) -> str:
    return hashlib.sha256(stored.encode() if isinstance(stored, str) else bytes(stored)).hexdigest()


def as_is(name: str) -> Callable[[Told, Any], bool]:
    return lambda told, stored: told.facts.get(name) == stored


def as_json(name: str) -> Callable[[Told, Any], bool]:
    return lambda told, stored: told.facts.get(name) == (None if stored is None else json.loads(stored))


def by_fingerprint(name: str) -> Callable[[Told, Any], bool]:
    return lambda told, stored: told.facts.get(name) == (None if stored is None else sha256(stored))


def at_the_end(column: str) -> Callable[[Told, Any], bool]:
    return lambda told, stored: (told.ended or {}).get(column) == stored


def members(told: Told, stored: Any) -> bool:
    """Each member of the stored object by its own name."""
    found = json.loads(stored)
    return isinstance(found, dict) and all(told.facts.get(name) == value for name, value in found.items())


def of_bytes(name: str) -> Callable[[Told, Any], bool]:
    return lambda told, stored: told.facts.get(name) == bytes(stored).hex()


def last_entry(told: Told, stored: Any) -> bool:
    return stored is None or told.audit_id == to_text("aud", bytes(stored))


Rule = Callable[[Told, Any], bool]
KEY = ("tenant", "id")
COLUMNS: dict[str, dict[str, Rule]] = {
    "netra_tenant": {
        "id": lambda told, stored: told.facts.get("id") == to_text("app", bytes(stored)),
        "uid": lambda told, stored: (None if told.ended else told.facts.get("uid")) == stored,
        "name": as_is("name"), "metadata": as_json("metadata"), "rate_limit": as_is("rate_limit"), "deleted_us": at_the_end("deleted_us"),
    },
    "netra_api_key": {
        "hash": by_fingerprint("hash"), "name": as_is("name"), "scopes": as_json("scopes"), "expires_us": as_is("expires_us"),
        "revoked_us": at_the_end("revoked_us"), "deleted_us": at_the_end("deleted_us"),
        "parent": lambda told, stored: told.facts.get("parent") == (bytes(stored).hex() if isinstance(stored, bytes) else stored),
    },
    "netra_endpoint": {
        **{name: as_is(name) for name in (
            "uid", "url", "description", "event_types", "channels", "disabled", "rate_limit", "metadata", "ordering", "filter", "schedule", "auth",
        )},
        "headers": by_fingerprint("headers_sha256"), "deleted_us": at_the_end("deleted_us"),
    },
    "netra_endpoint_secret": {
        "endpoint_id": of_bytes("endpoint"), "sealed": by_fingerprint("sealed"), "expires_us": as_is("expires_us"),
        "deleted_us": at_the_end("deleted_us"),
    },
    "netra_event_type": {
        **{name: as_is(name) for name in ("description", "archived", "deprecated", "group_name", "schedule")},
        "schemas": by_fingerprint("schemas_sha256"), "deleted_us": at_the_end("deleted_us"),
    },
    "netra_oauth_client": {
        **{name: as_is(name) for name in (
            "issuer", "token_endpoints", "authorize_endpoint", "revoke_endpoint", "client_id", "auth", "scopes", "replay_window_s", "provider",
            "device_endpoint", "idle_s", "assertion",
        )},
        "sealed": by_fingerprint("sealed"), "assertion_key": by_fingerprint("assertion_key"),
    },
    "netra_connection": {"state": as_is("state"), "deleted_us": at_the_end("deleted_us")},
    "netra_job_run": {"state": lambda told, stored: stored not in {"paused", "cancelled", "pausing", "cancelling"} or told.facts["state"] == stored},
    "netra_webhook_task": {"state": lambda told, stored: stored != "cancelled" or told.facts["state"] == stored},
    "netra_delivery": {},
    "netra_job_schedule": {
        **{name: as_is(name) for name in ("state", "job", "cron", "zone", "partitions", "priority")}, "params": as_json("params"),
    },
    "netra_debug_session": {
        **{name: as_is(name) for name in ("state", "reason", "expires_us")},
        **{name: as_json(name) for name in ("predicates", "captures", "logpoints")},
    },
    "netra_kpi": {
        "name": as_is("name"), "deleted_us": at_the_end("deleted_us"),
        "definition": members,
    },
    "netra_sso_provider": {
        "client": of_bytes("registration"), "rank": as_is("rank"), "enabled": as_is("enabled"), "options": members,
    },
    "netra_sso_identity": {
        "role": as_is("role"), "linked": lambda told, stored: told.facts.get("linked") == (bytes(stored).hex() if isinstance(stored, bytes) else stored),
    },
    "netra_sso_rotation": {name: as_is(name) for name in ("active", "pinned", "share")},
    "netra_signing_key": {"sealed": by_fingerprint("sealed"), "signs_from_us": as_is("signs_from_us")},
}  # fmt: skip
"""Of a run, a task and a delivery the trail has what somebody decided; what they come to by themselves stands in their own ledgers."""

ENDS = {
    "tenant.delete": "deleted_us",
    "endpoint.delete": "deleted_us",
    "event_type.delete": "deleted_us",
    "connection.delete": "deleted_us",
    "api_key.revoke": "revoked_us",
    "kpi.retire": "deleted_us",
}
FORGOTTEN = {"event_type.create"}
"""What brings back a row that was deleted."""

PLACES = {"netra_delivery": ("message_id", "endpoint_id"), "netra_event_type": ("name",), "netra_tenant": ("tenant",)}


def told_by(entries: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], Told]:
    """By (tenant, table, target), from entries in the order of the log."""
    found: dict[tuple[str, str, str], Told] = {}
    for each in entries:
        if not each["table"]:
            continue
        told = found.setdefault((each["tenant"], each["table"], each["target"]), Told({}))
        told.facts |= each["after"] or {}
        told.audit_id = each["id"]
        if each["action"] in ENDS:
            told.ended = (told.ended or {}) | {ENDS[each["action"]]: each["at_us"]}
        if each["action"] in FORGOTTEN:
            told.ended = None
    return found


def differences(entries: Sequence[dict[str, Any]], rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Columns of rows that the trail does not rebuild; rows by table."""
    told, odd = told_by(entries), []
    for table, found in rows.items():
        for row in found:
            parts = [row[name] for name in PLACES.get(table, ("id",))]
            target = "/".join(bytes(part).hex() if isinstance(part, bytes | memoryview) else part for part in parts)
            about = told.get((row["tenant"], table, target))
            if about is None:
                odd += [] if row["audit_id"] is None else [f"{table} {target}: no entry"]
                continue
            rules = COLUMNS[table] | {"audit_id": last_entry}
            odd += [
                f"{table}.{name} of {target}: {row[name]!r}, told {about}" for name, rule in rules.items() if not rule(about, row[name])
            ]
    return odd


def watched(triggers: Sequence[tuple[str, str]]) -> dict[str, set[str]]:
    """Columns by table that some trigger demands an entry for: (table, the trigger's text)."""
    found: dict[str, set[str]] = {}
    for table, sql in triggers:
        columns = re.search(r"after update of (.*?)\son\s", sql.lower(), re.DOTALL)
        if columns and "audit" in sql:
            found.setdefault(table, set()).update(name.strip() for name in columns[1].split(","))
    return found
