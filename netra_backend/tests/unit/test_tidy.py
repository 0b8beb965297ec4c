"""Each rule of tools/tidy catches its planted offence and lets the honest line pass; the repository has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.tidy import locks, sizes
from tools.tidy.__main__ import offences
from tools.tidy.code_rules import RULES
from tools.tidy.source import Source

ROOT = Path(__file__).parents[3]
PRODUCT = "netra_backend/webhooks/worker.py"


def found(text, path=PRODUCT):
    source = Source(path, '"""Purpose."""\n' + text)
    return [offence.rule for rule in RULES for offence in rule(source)]


@pytest.mark.parametrize(
    "line",
    [
        "import time\nx = time.time()",
        "import time as t\nx = t.monotonic()",
        "from time import time\nx = time()",
        "from datetime import datetime as d\nx = d.now()",
        "import datetime\nx = datetime.datetime.utcnow()",
        "import datetime\nx = datetime.date.today()",
        "from uuid import uuid4\nx = uuid4()",
        "import uuid\nx = field(default_factory=uuid.uuid4)",
        "import random\nx = random.random()",
        "from random import choice\nx = choice([1])",
        "import secrets\nx = secrets.token_bytes(8)",
        "import os\nx = os.urandom(8)",
    ],
)
def test_time_and_chance_outside_the_kernel_are_found(line):
    assert "time-and-chance" in found(line)
    assert found(line, "netra_backend/kernel/clock.py") == []
    assert found(line, "netra_backend/tests/unit/test_x.py") == []


@pytest.mark.parametrize(
    "line",
    [
        "import secrets\nx = secrets.compare_digest(a, b)",
        "x = clock.time()",
        "x = self.random.uniform(0, 1)",
        "secrets = {}\nx = secrets.items()",
    ],
)
def test_clocks_that_are_handed_in_pass(line):
    assert found(line) == []


@pytest.mark.parametrize(
    "line",
    [
        "import requests",
        "import httpx as h",
        "from urllib import request",
        "import urllib.request",
        "from http.client import HTTPConnection",
        "import aiohttp",
    ],
)
def test_a_second_http_client_is_found(line):
    assert found(line) == ["one-http-client"]
    assert found("def late():\n    " + line) == ["one-http-client"]


def test_the_guarded_client_and_plain_url_parsing_pass():
    assert found("import aiohttp", "netra_backend/resilience/egress.py") == []
    assert found("from urllib.parse import urlsplit\nfrom http import HTTPStatus") == []


@pytest.mark.parametrize(
    "line",
    [
        'q = f"select * from {table}"',
        'q = "delete from netra_message where id = %s" % name',
        'q = "insert into " + table',
        'q = "update {} set a = 1".format(table)',
        'q = "".join(["select a ", "from t"])',
        "tx.execute(f'pragma {x}')",
        "cursor.executemany('a' + b, rows)",
        'q = "select a, " "b " + "from t"',
    ],
)
def test_built_sql_is_found(line):
    assert "no-built-sql" in found(line)
    assert found(line, "netra_backend/storage/listing.py") == []


@pytest.mark.parametrize(
    "line", ['words = f"choose {a} or leave {b}"', 'x = connection.execute("select 1 from t")', 'words = f"no update for {x}, set it"']
)
def test_whole_statements_and_sentences_pass(line):
    assert found(line) == []


def test_a_commit_outside_storage_is_found():
    assert found("connection.commit()") == ["commit-in-storage-only"]
    assert found("connection.commit()", "netra_backend/storage/sqlite.py") == []


@pytest.mark.parametrize("line", ["from ..tests import support", "from netra_backend.tests.unit import x", "import netra_backend.tests"])
def test_a_product_module_that_imports_tests_is_found(line):
    assert found(line) == ["nothing-imports-tests"] * len(found(line)) != []


@pytest.mark.parametrize(
    "line",
    ["import pytest\npytest.skip('x')", "import pytest\n@pytest.mark.skipif(True)\ndef test(): ...", "from pytest import xfail\nxfail()"],
)
def test_a_skipped_test_is_found(line):
    assert "no-skipped-test" in found(line, "netra_backend/tests/unit/test_x.py")


def test_a_module_without_purpose_is_found():
    assert [o.rule for rule in RULES for o in rule(Source(PRODUCT, "x = 1\n"))] == ["module-docstring"]


def test_a_file_over_the_limit_is_found():
    assert [o.rule for o in sizes.file_limit(Source(PRODUCT, "x = 1\n" * 601))] == ["file-size"]
    assert list(sizes.file_limit(Source(PRODUCT, "x = 1\n" * 600))) == []


def function(name, lines):
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def test_long_functions_are_found_once_they_are_more_than_one_in_a_hundred():
    short = [Source(PRODUCT, "".join(function(f"f{n}", 3) for n in range(33)))] * 3
    assert list(sizes.medians_and_shares([*short, Source("tools/a.py", function("long", 71))])) == []
    crowd = [Source("tools/a.py", function("long", 71)), Source("tools/b.py", function("longer", 80))]
    assert [o.path for o in sizes.medians_and_shares([*short, *crowd])] == ["tools/a.py", "tools/b.py"]


def test_medians_over_the_limit_are_found():
    assert [o.path for o in sizes.medians_and_shares([Source(PRODUCT, function("f", 11))])] == ["(all functions)"]
    assert [o.path for o in sizes.medians_and_shares([Source(PRODUCT, "x = 1\n" * 151)])] == ["(all files)"]
    assert list(sizes.medians_and_shares([Source("netra_backend/tests/unit/test_x.py", function("f", 400))])) == []


@pytest.mark.parametrize("line", ["--index-url x", "a @ git+ssh://host/a", "--find-links ./wheels", "a==1 # https://host/a"])
def test_an_address_in_a_lock_file_is_found(line):
    assert [o.rule for o in locks.addresses("requirements/env.txt", line)] == ["address-in-lock"]


def test_a_pin_without_a_hash_is_found():
    assert [o.line for o in locks.hashes("r.txt", "a==1 \\\n    --hash=sha256:00\nb==2\n")] == [3]


def versions(table, lock, wanted):
    return [o.words for o in locks.minimum_versions(table, {"requirements/env.txt": lock}, f"[project]\ndependencies = {wanted}\n")]


def test_a_version_below_the_safe_one_is_found_in_locks_and_ranges():
    table = '[a]\nversion = "1.10"\nreason = "r"\n'
    assert versions(table, "a==1.9.9 \\\n", []) == ["a 1.9.9 is below the safe 1.10"]
    assert versions(table, "a==1.10.0 \\\n", ["a[x]>=1.2"]) == ["a 1.2 is below the safe 1.10"]
    assert versions(table, "a==1.10 ; python_version < '4' \\\n", ["a>=1.10.1"]) == []
    assert versions(table, "b==1 \\\n", []) == ["a is in no lock file: remove its row"]


def test_the_repository_is_tidy():
    assert [str(offence) for offence in offences(ROOT)] == []
