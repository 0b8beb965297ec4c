"""The public surface is a file under test: what is exported, and under which arguments, changes here or nowhere."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import netra_backend
from netra_backend import Netra, batch, oauth, webhooks
from netra_backend.batch.service import Batch
from netra_backend.cache.service import Cache
from netra_backend.oauth.memory import Memory
from netra_backend.oauth.service import OAuth
from netra_backend.oauth.sso.service import Sso
from netra_backend.observability.events.service import Events
from netra_backend.observability.kpi.service import Kpi, Kpis
from netra_backend.observability.tracing.service import Traces
from netra_backend.sync import SyncDoor
from netra_backend.webhooks.operators import Operators
from netra_backend.webhooks.service import Webhooks

READERS = ["csv", "files", "hashed", "iterate", "ndjson", "parquet", "query", "sequence"]


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_package_exports_these_names_and_loads_them_on_use():
    assert sorted(netra_backend.__all__) == ["Event", "Netra", "NetraError", "batch", "oauth", "webhooks"]
    assert all(getattr(netra_backend, name) for name in netra_backend.__all__)
    assert sorted(webhooks.__all__) == [
        "PayloadUnreadable",
        "Received",
        "SignatureMismatch",
        "SignatureMissing",
        "SignatureOutdated",
        "SignatureRejected",
        "verify",
    ]
    kinds, places = ["Elsewhere", "Job", "Malformed", "Rows"], ["dask", "processes", "threads"]
    assert sorted(batch.__all__) == sorted([*kinds, *places, *READERS, "job", "sql"])
    assert all(getattr(batch, name) for name in batch.__all__)
    assert sorted(oauth.__all__) == ["Claims", "Keys", "TokenRejected", "VERDICTS", "validate", "verify_jws"]


def test_each_part_that_needs_no_database_is_there_once_the_package_is_imported():
    """In a process of its own: here everything has been imported already."""
    names = "netra_backend.webhooks.verify, netra_backend.oauth.validate, netra_backend.batch.job"
    subprocess.run([sys.executable, "-c", f"import netra_backend; {names}"], check=True)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nertra'"):
        _ = netra_backend.Nertra


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Events.record, ["tx", "type", "data", "key"]),
        (Kpis.define, ["name", "unit", "total", "good", "value", "lost_after"]),
        (Kpis.impact, ["name", "since", "tenant"]),
        (Kpis.list, ["since", "tenant"]),
        (Kpis.report, ["tenant", "month"]),
        (Kpi.impact, ["since", "tenant"]),
        (Kpi.slo, ["target", "window", "min_events", "page_if_bad"]),
        (Kpi.depends_on, ["names"]),
        (Netra.span, ["name", "part", "ref"]),
        (Traces.get, ["trace_id", "tenant"]),
        (Netra.write, ["fn", "args", "tenant"]),
        (Netra.transaction, ["tenant"]),
        (Netra.scope, ["tenant", "actor", "trace"]),
        (Netra.adopt, ["connection", "tenant"]),
        (Netra.trace, ["traceparent"]),
        (SyncDoor.write, ["fn", "args", "tenant"]),
        (SyncDoor.transaction, ["tenant"]),
        (SyncDoor.tenant, ["reference"]),
        (Webhooks.send, ["tx", "type", "payload", "event_id", "content_key", "deliver_at", "channels", "tags", "ordering_key", "schedule"]),
        (Webhooks.send_many, ["tx", "messages"]),
        (Webhooks.recover, ["endpoint", "since", "until", "tenant"]),
        (Webhooks.replay_missing, ["endpoint", "since", "until", "tenant"]),
        (Webhooks.bulk_replay, ["endpoint", "since", "until", "event_types", "channel", "tag", "states", "tenant"]),
        (Webhooks.redrive, ["endpoint", "since", "until", "event_types", "tenant"]),
        (Webhooks.dead_letters, ["endpoint", "event_types", "since", "until", "after", "limit", "tenant"]),
        (Webhooks.cancel, ["message", "endpoint", "why", "tenant"]),
        (Webhooks.cancel_backlog, ["endpoint", "why", "since", "until", "tenant"]),
        (Webhooks.expunge, ["message", "tenant"]),
        (Webhooks.expunge_attempt, ["message", "attempt", "tenant"]),
        (Webhooks.task, ["task", "tenant"]),
        (Webhooks.tasks, ["after", "limit", "tenant"]),
        (Webhooks.cancel_task, ["task", "why", "tenant"]),
        (Cache.invalidate, ["tx", "deps"]),
        (Cache.get, ["key", "default", "serializer", "type", "tenant"]),
        (Cache.set, ["key", "value", "ttl", "depends_on", "serializer", "type", "tenant"]),
        (Cache.set_many, ["values", "ttl", "depends_on", "serializer", "type", "tenant"]),
        (Cache.begin_set, ["tx", "keys"]),
        (Cache.end_set, ["token", "values", "ttl", "depends_on", "serializer", "type", "tenant"]),
        (Cache.touch, ["key", "ttl", "serializer", "type", "tenant"]),
        (Cache.kept, ["key", "serializer", "type", "tenant"]),
        (Cache.delete, ["keys", "tenant"]),
        (OAuth.token, ["tenant", "connection", "min_valid_s"]),
        (OAuth.refresh, ["tenant", "connection"]),
        (OAuth.request, ["tenant", "connection", "method", "url", "headers", "json", "options"]),
        (OAuth.import_, ["tenant", "connection", "client", "tokens"]),
        (OAuth.connect, ["tenant", "connection", "client", "redirect_uri"]),
        (OAuth.own, ["tenant", "connection", "client", "grant"]),
        (OAuth.link, ["tenant", "connection", "client", "redirect_uri", "page"]),
        (OAuth.device, ["tenant", "connection", "client"]),
        (OAuth.callback, ["answer"]),
        (OAuth.status, ["tenant", "connection"]),
        (OAuth.connections, ["tenant", "after", "limit"]),
        (OAuth.revoke, ["tenant", "connection", "delete"]),
        (OAuth.set_client, ["tenant", "name", "registration"]),
        (OAuth.client, ["tenant", "name"]),
        (OAuth.clients, ["tenant", "after", "limit"]),
        (OAuth.validate, ["token", "issuer", "audience", "tenant", "nonce", "access_token", "rules"]),
        (OAuth.judge, ["issuer", "audience", "tenant", "keys", "rules"]),
        (OAuth.introspect, ["tenant", "client", "token", "audience"]),
        (OAuth.exchange, ["tenant", "client", "subject_token", "actor_token", "parameters"]),
        (Sso.as_operator, ["actor", "trace"]),
        (Sso.set_provider, ["tenant", "name", "registration"]),
        (Sso.link, ["tenant", "provider", "subject", "backup", "backup_subject"]),
        (Sso.status, ["tenant"]),
        (Sso.pin, ["tenant", "provider"]),
        (Sso.issue, ["tenant", "subject", "audience", "scopes", "lives_s", "issuer", "may_act"]),
        (Sso.rotate_keys, []),
        (Batch.start, ["tx", "job", "params", "key", "partitions", "priority", "after"]),
        (Batch.schedule, ["tx", "name", "job", "cron", "params", "zone", "partitions", "priority"]),
        (Batch.unschedule, ["tx", "name"]),
        (Batch.schedules, ["tenant", "after", "limit"]),
        (Batch.status, ["run", "tenant"]),
        (Batch.runs, ["tenant", "after", "limit"]),
        (Batch.failures, ["run", "tenant", "after", "limit"]),
        (Batch.pause, ["run", "tenant"]),
        (Batch.resume, ["run", "tenant"]),
        (Batch.cancel, ["run", "tenant"]),
        (Batch.rerun, ["run", "tenant"]),
        (
            batch.job,
            [
                "name",
                "read",
                "write",
                "process",
                "process_chunk",
                "chunk",
                "retry",
                "retry_on",
                "skip_limit",
                "partitions",
                "executor",
                "priority",
                "concurrency",
                "rate",
            ],
        ),
        (batch.processes, ["workers"]),
        (batch.dask, ["client", "window"]),
        (batch.csv, ["path", "delimiter", "encoding"]),
        (batch.query, ["page", "bounds", "start"]),
        (batch.sql, ["text"]),
        (
            oauth.validate,
            [
                "token",
                "issuer",
                "audience",
                "keys",
                "algorithms",
                "leeway_s",
                "now",
                "nonce",
                "access_token",
                "authorized_party",
                "max_lifetime_s",
                "required",
            ],
        ),
        (oauth.verify_jws, ["token", "keys", "algorithms"]),
        (webhooks.verify, ["headers", "body", "secret", "now_s"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_public_calls_take_these_arguments(function, expected):
    assert arguments(function) == expected


def test_every_public_call_says_what_it_does():
    public = [
        value
        for cls in (Netra, SyncDoor, Webhooks, Operators, Batch, Cache, OAuth, Sso)
        for name, value in vars(cls).items()
        if callable(value) and not name.startswith("_")
    ]
    assert [value.__qualname__ for value in public if not inspect.getdoc(value)] == []


@pytest.mark.parametrize(("call", "at_hand"), [(Cache.get, Cache.get_at_hand), (OAuth.token, Memory.at_hand)])
def test_what_memory_answers_is_asked_with_the_arguments_of_the_call(call, at_hand):
    assert arguments(call) == arguments(at_hand)  # `netra.sync` passes them on as they are
