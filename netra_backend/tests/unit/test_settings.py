"""All settings: three sources, one check, errors that name the setting and never a secret."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from netra_backend.errors import CannotStart
from netra_backend.kernel.settings import Settings, load, reference, unknown_environment

KEY = "k" * 32
BINDING = [
    "DATABASE_URL",
    "MIGRATE_URL",
    "CACHE_URL",
    "DATA",
    "OPERATOR_KEY",
    "ROOT_KEYS",
    "EGRESS_ALLOW",
    "EGRESS_PORTS",
    "LEASE_TTL",
    "WEBHOOKS_SCHEDULE",
    "WEBHOOKS_JITTER",
    "WEBHOOKS_TIMEOUT",
    "WEBHOOKS_DEADLINE",
    "WEBHOOKS_BREAKER_FAILURES",
    "WEBHOOKS_BREAKER_OPEN",
    "OAUTH_HTTP_TIMEOUT",
    "OAUTH_LEASE_TTL",
    "SSO_DWELL",
    "SSO_WINDOW",
    "BATCH_JOBS",
    "CACHE_LEASE",
    "CACHE_MAX_BYTES",
    "SQLITE_DRIVER",
    "TENANTS",
    "TRANSACTION_TIMEOUT",
    "MEMORY_LIMIT",
    "PROC_ROOT",
    "CGROUP_ROOT",
    "SVIX_STRICT",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(environ=None, config=None, **keywords) -> CannotStart:
    with pytest.raises(CannotStart) as error:
        load(environ or {}, config, **keywords)
    return error.value


def test_every_binding_variable_is_a_setting():
    assert {f"NETRA_{name}" for name in BINDING} <= {entry["variable"] for entry in reference()}


def test_every_setting_says_what_it_means_and_what_it_does_when_set_badly():
    for entry in reference():
        assert len(entry["meaning"].split()) >= 12, entry["name"]


def test_every_duration_and_amount_has_a_range():
    bounded = {entry["name"]: entry["range"] for entry in reference()}
    for name in ("lease_ttl", "webhooks_timeout", "oauth_lease_ttl", "cache_max_bytes", "webhooks_in_flight", "payload_max_bytes"):
        assert bounded[name].startswith("from ")
    assert bounded["lease_ttl"] == "from 200ms to 10m"
    assert bounded["tenants"] == "auto | strict" and bounded["sqlite_driver"] == "apsw | sqlite3"


def test_the_defaults_are_those_of_the_design():
    settings = load({})
    assert settings.database_url == "sqlite:///netra-data/netra.db" and settings.engine == "sqlite"
    assert settings.root_keys == Path("netra-data/root.keys")
    assert (settings.lease_ttl, settings.heartbeat_s, settings.quiet_after_s, settings.release_check_s) == (10, 2, 5, 5)
    assert (settings.transaction_timeout, settings.cache_lease, settings.webhooks_timeout, settings.webhooks_connect_timeout) == (
        5,
        1,
        15,
        5,
    )
    assert (settings.oauth_http_timeout, settings.oauth_lease_ttl, settings.webhooks_deadline) == (10, 30, 96 * 3600)
    assert (settings.webhooks_in_flight, settings.webhooks_in_flight_total, settings.egress_ports) == (10, 1000, (80, 443))
    assert (settings.payload_max_bytes, settings.body_max_bytes, settings.disk_reserve_bytes) == (1 << 20, 16 << 20, 64 << 20)
    assert (settings.webhooks_breaker_failures, settings.webhooks_breaker_open) == (10, 30)
    assert settings.schedule.attempts == 12 and settings.schedule.jitter == 0.2
    assert (settings.tenants, settings.event_types, settings.sqlite_driver, settings.operator_key) == ("auto", "auto", None, None)


def test_keywords_win_over_the_environment_and_the_environment_over_the_file(tmp_path):
    config = tmp_path / "own.toml"
    config.write_text('lease_ttl = "3s"\ntransaction_timeout = "3s"\n[webhooks]\ntimeout = "3s"\n')
    environ = {"NETRA_LEASE_TTL": "2s", "NETRA_TRANSACTION_TIMEOUT": "2s"}
    settings = load(environ, config, lease_ttl="1s")
    assert (settings.lease_ttl, settings.transaction_timeout, settings.webhooks_timeout) == (1, 2, 3)


def test_the_file_in_the_working_folder_is_read_without_being_named():
    Path("netra.toml").write_text('data = "/srv/netra"\nwebhooks_schedule = ["1s", 2]\negress_ports = [8443]\n')
    settings = load({})
    assert settings.database_url == "sqlite:////srv/netra/netra.db"
    assert settings.webhooks_schedule == (1, 2) and settings.egress_ports == (8443,)


def test_an_empty_variable_and_a_keyword_of_none_count_as_absent():
    assert load({"NETRA_LEASE_TTL": " ", "NETRA_OPERATOR_KEY": ""}, lease_ttl=None).lease_ttl == 10


def test_lists_are_read_from_text():
    environ = {"NETRA_EGRESS_ALLOW": "10.1.0.0/16, fd00::/8", "NETRA_EGRESS_PORTS": "80,8443", "NETRA_BATCH_JOBS": "shop.jobs,shop.more"}
    settings = load(environ | {"NETRA_WEBHOOKS_SCHEDULE": "100ms,1s"})
    assert [str(network) for network in settings.egress_allow] == ["10.1.0.0/16", "fd00::/8"]
    assert settings.egress_ports == (80, 8443) and settings.batch_jobs == ("shop.jobs", "shop.more")
    assert settings.webhooks_schedule == (0.1, 1)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        load({}).lease_ttl = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LEASE_TTL", "5x"),
        ("LEASE_TTL", "1ms"),
        ("LEASE_TTL", "1h"),
        ("WEBHOOKS_SCHEDULE", "5s,often"),
        ("WEBHOOKS_JITTER", "1"),
        ("WEBHOOKS_BREAKER_FAILURES", "0"),
        ("EGRESS_ALLOW", "10.0.0.1/8"),
        ("EGRESS_PORTS", "80,70000"),
        ("EGRESS_PORTS", ","),
        ("BATCH_JOBS", "os;rm"),
        ("TENANTS", "open"),
        ("SQLITE_DRIVER", "pysqlite"),
        ("DATABASE_URL", "mysql://h/db"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "netra.db"),
        ("DATABASE_URL", "postgresql+asyncpg://h/db"),
        ("MIGRATE_URL", "sqlite:////a.db"),
        ("CACHE_URL", "memcached://h"),
        ("MEMORY_LIMIT", "1MiB"),
        ("CACHE_MAX_BYTES", "lots"),
        ("SVIX_STRICT", "perhaps"),
    ],
)
def test_a_bad_value_is_named_with_its_setting_its_source_and_advice(variable, value):
    error = refused({f"NETRA_{variable}": value})
    assert f"NETRA_{variable} (in the environment)" in error.detail
    assert value.split(",")[0] in error.detail
    assert error.fix and error.facts["settings"] == [variable.lower()]


def test_all_bad_values_are_told_at_once():
    error = refused({"NETRA_LEASE_TTL": "x"}, tenants="y")
    assert "NETRA_LEASE_TTL (in the environment)" in error.detail and "tenants (as a keyword)" in error.detail


@pytest.mark.parametrize("key", ["short", "has.a.dot." + KEY, "x" * 129, KEY + "\n", "ü" * 40])
def test_an_operator_key_of_the_wrong_form_is_refused_without_being_shown(key):
    error = refused({"NETRA_OPERATOR_KEY": key})
    assert "NETRA_OPERATOR_KEY" in error.detail and "32 to 128" in error.fix
    assert key.strip() not in json.dumps(error.as_dict(), ensure_ascii=False) + str(error.facts)


@pytest.mark.parametrize("key", [KEY, "A-Z_az09" * 16])
def test_an_operator_key_of_the_right_form_is_taken(key):
    assert load({}, operator_key=key).operator_key == key


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@host:5432/db",
        "postgresql://user:hun/hunter2@x@host/db",
        "postgresql://:hunter2@host/db",
        "postgresql://host/db?sslmode=require&password=hunter2",
        "postgresql://host/db?sslpassword=hunter2&x=1",
    ],
)
def test_no_password_is_ever_printed(url):
    settings = load({}, database_url=url, migrate_url=url, operator_key=KEY, cache_url="redis://:hunter2@h/0")
    shown = json.dumps(settings.masked()) + repr(settings) + str(settings)
    assert "hunter2" not in shown and KEY not in shown
    assert settings.database_url == url
    error = refused(database_url=url.replace("postgresql", "mysql"))
    assert "hunter2" not in json.dumps(error.as_dict()) and "****" in error.detail


def test_a_refused_password_is_not_printed_by_a_direct_construction_either():
    with pytest.raises(ValidationError) as error:
        Settings(database_url="mysql://u:hunter2@h/db")
    assert "hunter2" not in str(error.value)


def test_the_masked_form_reads_back_to_the_same_settings():
    settings = load({}, data="/srv/x", lease_ttl="1500ms", egress_allow="10.0.0.0/8", webhooks_schedule="1s,2m", memory_limit="1GiB")
    masked = {name: value for name, value in settings.masked().items() if value is not None}
    assert load({}, **masked) == settings


def test_an_unknown_keyword_is_an_error_with_the_name_that_was_meant():
    error = refused(lease_tll="1s")
    assert "'lease_tll'" in error.detail and "lease_ttl?" in error.detail


def test_an_unknown_key_of_the_file_is_an_error(tmp_path):
    config = tmp_path / "n.toml"
    config.write_text('[webhooks]\ntimeouts = "1s"\n')
    assert "webhooks_timeouts" in refused(config=config).detail


def test_an_unknown_variable_is_reported_and_no_error():
    environ = {
        "NETRA_LEASE_TLL": "1s",
        "NETRA_LEASE_TTL": "1s",
        "NETRA_FAILPOINT": "",
        "NETRA_TENANT": "t",
        "NETRA_TEST_MODE": "1",
        "PATH": "",
    }
    assert load(environ).lease_ttl == 1
    assert unknown_environment(environ) == ["NETRA_LEASE_TLL sets nothing; did you mean NETRA_LEASE_TTL?"]


def test_a_file_that_is_missing_or_broken_cannot_start(tmp_path):
    assert "no file" in refused(config=tmp_path / "absent.toml").detail
    broken = tmp_path / "broken.toml"
    broken.write_text("lease_ttl = ")
    assert re.search(r"broken\.toml cannot be read", refused(config=broken).detail)
    broken.write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(config=broken).detail


@pytest.mark.parametrize(
    "keywords",
    [
        {"payload_max_bytes": "32MiB"},
        {"webhooks_in_flight": 20, "webhooks_in_flight_total": 10},
        {"oauth_http_timeout": "30s"},
    ],
)
def test_settings_that_contradict_each_other_are_refused_together(keywords):
    error = refused(**keywords)
    assert next(iter(keywords)) in error.detail and error.fix
