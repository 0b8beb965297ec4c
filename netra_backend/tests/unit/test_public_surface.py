"""The public surface is a file under test: what is exported, and under which arguments, changes here or nowhere."""

from __future__ import annotations

import inspect

import pytest

import netra_backend
from netra_backend import Netra, batch, oauth, webhooks
from netra_backend.batch.service import Batch
from netra_backend.cache.service import Cache
from netra_backend.sync import SyncDoor
from netra_backend.webhooks.operators import Operators
from netra_backend.webhooks.service import Webhooks


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_package_exports_these_names_and_loads_them_on_use():
    assert sorted(netra_backend.__all__) == ["Netra", "NetraError", "batch", "oauth"]
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
    assert sorted(batch.__all__) == ["Job", "Malformed", "Rows", "csv", "iterate", "job", "ndjson", "parquet", "query", "sequence", "sql"]
    assert all(getattr(batch, name) for name in batch.__all__)
    assert sorted(oauth.__all__) == ["Claims", "Keys", "TokenRejected", "VERDICTS", "validate", "verify_jws"]


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nertra'"):
        _ = netra_backend.Nertra


@pytest.mark.parametrize(
    ("function", "expected"),
    [
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
        (Cache.delete, ["keys", "tenant"]),
        (Batch.start, ["tx", "job", "params", "key", "partitions"]),
        (Batch.status, ["run", "tenant"]),
        (Batch.runs, ["tenant", "after", "limit"]),
        (Batch.failures, ["run", "tenant", "after", "limit"]),
        (Batch.pause, ["run", "tenant"]),
        (Batch.resume, ["run", "tenant"]),
        (Batch.cancel, ["run", "tenant"]),
        (Batch.rerun, ["run", "tenant"]),
        (
            batch.job,
            ["name", "read", "write", "process", "process_chunk", "chunk", "retry", "retry_on", "skip_limit", "partitions"],
        ),
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
        for cls in (Netra, SyncDoor, Webhooks, Operators, Batch, Cache)
        for name, value in vars(cls).items()
        if callable(value) and not name.startswith("_")
    ]
    assert [value.__qualname__ for value in public if not inspect.getdoc(value)] == []
