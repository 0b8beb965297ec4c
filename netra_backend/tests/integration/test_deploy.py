"""What stands under deploy/ works: the image's steps as plain commands, the server that they make, the units, the monitoring."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from netra_backend.cli.catalogue import NAMES

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
SHIPPED = ROOT / "netra_backend" / "integrations" / "prometheus"


def stages():
    """The lines of each stage as (instruction, arguments)."""
    lines = [line.split(" ", 1) for line in CONTAINERFILE.splitlines() if line and not line.startswith("#")]
    starts = [place for place, (name, _) in enumerate(lines) if name == "FROM"] + [len(lines)]
    return [lines[start:end] for start, end in pairwise(starts)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The image's first stage, step by step, with folders of the test in the place of the image's; the folder of the environment."""
    folder = tmp_path_factory.mktemp("image")
    opt, build = folder / "opt", folder / "build"

    def here(text):
        return text.replace("/opt/netra", str(opt)).replace("/build", str(build))

    for name, words in stages()[0][1:]:
        if name == "COPY":
            *sources, target = here(words).split(" ")
            subprocess.run(["mkdir", "-p", target], check=True)
            for source in sources:
                into = f"{target}/." if (ROOT / source).is_dir() else target
                subprocess.run(["cp", "-r", f"{ROOT / source}{'/.' if (ROOT / source).is_dir() else ''}", into], check=True)
        else:
            assert name == "RUN", name
            command = shlex.split(here(words))
            command[0] = sys.executable if command[0] == "python" else command[0]
            done = subprocess.run(command, env=bare(CC="false", CXX="false"), cwd=folder, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return opt


def bare(**more):
    """An environment without anything of the checkout; the index and proxies of the machine stay."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NETRA_", "PYTHON", "VIRTUAL_ENV"))}
    return kept | more


def test_the_image_serves_and_ends_from_nothing_but_wheels_in_an_empty_environment(installed, tmp_path):
    (entry,) = [json.loads(words) for name, words in stages()[1] if name == "ENTRYPOINT"]
    (command,) = [json.loads(words) for name, words in stages()[1] if name == "CMD"]
    words = [str(installed / "bin" / entry[0]), *command[:1], "--port", "0", "--dev"]
    with subprocess.Popen(words, env=bare(NETRA_DATA=str(tmp_path)), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            said = [json.loads(server.stdout.readline()) for _ in range(2)]
            for path, status in (("/ready", 200), ("/api/v1/health", 204), ("/ui/login", 200)):
                with urllib.request.urlopen(said[-1]["url"] + path, timeout=10) as answer:
                    assert answer.status == status, path
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=45) == 0


def test_the_wheel_holds_the_package_and_neither_tests_nor_anything_else(installed):
    (package,) = installed.glob("lib/python*/site-packages/netra_backend")
    assert not (package / "tests").exists()
    for needed in ("py.typed", "storage/migrations/sqlite/0001_substrate.sql", "integrations/prometheus/alerts.yml"):
        assert (package / needed).is_file(), needed
    (record,) = package.parent.glob("netra_backend-*.dist-info/RECORD")
    outside = {line.split("/")[0] for line in record.read_text().splitlines()} - {"netra_backend", record.parent.name, ".."}
    assert outside == set()


def test_the_image_runs_as_nobody_else_and_keeps_data_in_a_volume():
    final = {name: words for name, words in stages()[1] if name in {"USER", "VOLUME", "STOPSIGNAL"}}
    assert final == {"USER": "netra", "VOLUME": "/var/lib/netra", "STOPSIGNAL": "SIGTERM"}


@pytest.mark.parametrize("unit", ["netra.service", "netra-worker@.service"])
def test_a_unit_starts_a_command_that_exists_and_gives_it_time_to_drain(unit):
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read_string((DEPLOY / "systemd" / unit).read_text())
    service = parsed["Service"]
    program, command = service["ExecStart"].split()
    assert (program, command in NAMES) == ("/opt/netra/bin/netra", True)
    assert int(service["TimeoutStopSec"]) > 30  # the server drains for 30 s at most
    assert (service["Restart"], service["User"]) == ("always", "netra")
    assert service["EnvironmentFile"] == "-/etc/netra/netra.env"


def test_the_monitoring_names_what_the_package_ships():
    prometheus = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    assert [Path(name).name for name in prometheus["rule_files"]] == ["alerts.yml"]
    assert prometheus["scrape_configs"][0]["metrics_path"] == "/metrics"
    provisioning = DEPLOY / "monitoring" / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "netra.yml").read_text())["datasources"]
    assert [source["type"] for source in sources] == ["prometheus"]
    assert yaml.safe_load((provisioning / "dashboards" / "netra.yml").read_text())["providers"][0]["options"]["path"].endswith("netra")
    for shipped in ("alerts.yml", "dashboard.json"):
        assert (SHIPPED / shipped).is_file()
    for text in ((provisioning / "dashboards" / "netra.yml").read_text(), (DEPLOY / "monitoring" / "prometheus.yml").read_text()):
        for path in re.findall(r"netra_backend/\S+", text):
            assert (ROOT / path).is_file(), path
