"""Ten times more is cached than fits into memory, by a process whose tier was allowed far too much: it stays below the limit."""

from __future__ import annotations

import json
import subprocess
import sys

LIMIT = 256 << 20
PROGRAM = """
import asyncio, json, sys
from netra_backend import Netra

PIECE, LIMIT = 256 << 10, int(sys.argv[2])

def status(name):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name + ":"))

async def main():
    options = {"data": sys.argv[1], "disk_reserve_bytes": 0, "cache_max_bytes": "2GiB", "memory_limit": LIMIT, "cache_lease": "10s"}
    async with Netra(f"sqlite:///{sys.argv[1]}/netra.db", workers=False, environ={}, **options) as netra:
        with netra.scope(tenant="acme"):
            async def load():
                return b"x" * PIECE
            for number in range(10 * LIMIT // PIECE):
                found = await netra.cache.get_or_load(f"k{number}", load, ttl="1h", serializer="raw")
                assert len(found) == PIECE
            tiers = netra.cache.tiers()
            print(json.dumps({"peak": status("VmHWM"), "loads": tiers["loads"], "kept": tiers["l1"]["fills"], "bytes": tiers["l1"]["bytes"]}))

asyncio.run(main())
"""


def test_ten_times_the_working_set_stays_below_the_limit_and_every_caller_is_answered(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(LIMIT)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["peak"] < LIMIT
    assert found["loads"] == 10 * LIMIT // (256 << 10)
    assert found["kept"] > 200
