"""Readings of memory pressure, on roots of our own making."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from netra_backend.resilience.memory_pressure import THRESHOLDS, Level, MemoryProbe, Pressure

MIB = 1 << 20
NO_LIMIT_V1 = 9_223_372_036_854_771_712


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


class Machine:
    """A fake /proc and /sys/fs/cgroup."""

    def __init__(self, folder):
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        self.cgroups.mkdir()
        self.write("proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 6291456 kB\n")
        self.write("proc/self/status", "Name:\tx\nVmRSS:\t  102400 kB\n")

    def write(self, path, text):
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def group_v2(self, path, current, maximum="max", high="max", cache=0, psi=None):
        where = f"cgroup/{path}".rstrip("/")
        self.write(f"{where}/memory.current", f"{current}\n")
        self.write(f"{where}/memory.max", f"{maximum}\n")
        self.write(f"{where}/memory.high", f"{high}\n")
        self.write(f"{where}/memory.stat", f"anon 1\nfile {cache}\nshmem 0\ninactive_file {cache // 2}\nactive_file {cache - cache // 2}\n")
        if psi:
            self.write(f"{where}/memory.pressure", psi)

    def group_v1(self, path, usage, limit=NO_LIMIT_V1, cache=0, hierarchical=NO_LIMIT_V1):
        where = f"cgroup/memory/{path}".rstrip("/")
        self.write(f"{where}/memory.usage_in_bytes", f"{usage}\n")
        self.write(f"{where}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"{where}/memory.stat", f"hierarchical_memory_limit {hierarchical}\ntotal_inactive_file {cache}\ntotal_active_file 0\n")

    def read(self, memory_limit=None):
        return MemoryProbe(self.proc, self.cgroups, memory_limit).read()


def psi(some, full):
    return f"some avg10={some} avg60=99.00 avg300=0.00 total=1\nfull avg10={full} avg60=99.00 avg300=0.00 total=1\n"


def test_a_group_of_version_2_counts_its_usage_without_file_cache(machine):
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group_v2("app", current=90 * MIB, maximum=100 * MIB, cache=50 * MIB)
    reading = machine.read()
    assert (reading.used_bytes, reading.limit_bytes, reading.fraction) == (40 * MIB, 100 * MIB, 0.4)
    assert reading.source.endswith("/app") and reading.level is Level.GROW


def test_a_group_of_version_1_counts_its_usage_without_file_cache(machine):
    machine.write("proc/self/cgroup", "9:cpu,cpuacct:/app\n4:memory:/app\n1:name=systemd:/app\n0::/app\n")
    machine.group_v1("app", usage=90 * MIB, limit=100 * MIB, cache=10 * MIB)
    reading = machine.read()
    assert (reading.used_bytes, reading.limit_bytes, reading.fraction) == (80 * MIB, 100 * MIB, 0.8)


@pytest.mark.parametrize("tight", ["a", "a/b", "a/b/c"])
def test_the_tightest_of_all_ancestors_decides_in_version_2(machine, tight):
    machine.write("proc/self/cgroup", "0::/a/b/c\n")
    for group in ("a", "a/b", "a/b/c"):
        machine.group_v2(group, current=60 * MIB, maximum=64 * MIB if group == tight else 1024 * MIB)
    reading = machine.read()
    assert reading.source.endswith(f"/{tight}") and reading.fraction == 60 / 64


@pytest.mark.parametrize("tight", ["a", "a/b"])
def test_the_tightest_of_all_ancestors_decides_in_version_1(machine, tight):
    machine.write("proc/self/cgroup", "4:memory:/a/b\n")
    for group in ("", "a", "a/b"):
        machine.group_v1(group, usage=60 * MIB, limit=64 * MIB if group == tight else NO_LIMIT_V1)
    assert machine.read().source.endswith(f"/{tight}")


def test_an_ancestor_that_is_not_mounted_still_limits_in_version_1(machine):
    machine.write("proc/self/cgroup", "4:memory:/docker/0123\n")
    machine.group_v1("", usage=60 * MIB, hierarchical=80 * MIB)
    assert machine.read().fraction == 0.75


def test_in_a_container_with_its_own_namespace_the_root_is_our_group(machine):
    machine.write("proc/self/cgroup", "0::/\n")
    machine.group_v2("", current=70 * MIB, maximum=100 * MIB)
    assert machine.read().level is Level.HALVE


def test_in_a_container_that_shows_the_hosts_path_the_root_is_our_group(machine):
    machine.write("proc/self/cgroup", "0::/system.slice/docker-0123.scope\n")
    machine.group_v2("", current=95 * MIB, maximum=100 * MIB)
    assert machine.read().level is Level.ABORT


def test_a_path_out_of_the_mount_stays_inside_the_root(machine):
    machine.write("proc/self/cgroup", "0::/../../etc\n")
    machine.group_v2("", current=50 * MIB, maximum=100 * MIB)
    assert machine.read().fraction == 0.5


def test_version_2_beside_version_1_is_found_in_its_own_folder(machine):
    machine.write("proc/self/cgroup", "4:memory:/\n0::/app\n")
    machine.group_v2("unified/app", current=90 * MIB, maximum=100 * MIB)
    machine.group_v1("", usage=90 * MIB)
    assert machine.read().fraction == 0.9


def test_the_throttling_limit_counts_as_a_limit(machine):
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group_v2("app", current=60 * MIB, maximum=200 * MIB, high=80 * MIB)
    assert machine.read().limit_bytes == 80 * MIB


def test_without_a_limit_the_machine_is_the_measure(machine):
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group_v2("app", current=60 * MIB)
    reading = machine.read()
    assert (reading.source, reading.fraction, reading.limit_bytes) == ("machine", 0.25, 8192 * MIB)


def test_a_limit_above_the_machines_memory_is_none(machine):
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group_v2("app", current=60 * MIB, maximum=9000 * MIB)
    assert machine.read().source == "machine"


def test_the_setting_replaces_every_limit_and_is_compared_with_the_whole_family(machine):
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group_v2("app", current=99 * MIB, maximum=100 * MIB)
    machine.write("proc/self/task/1/children", "20 21 ")
    machine.write("proc/self/task/2/children", "")
    machine.write("proc/20/status", f"VmRSS: {50 * 1024} kB\n")
    machine.write("proc/20/task/20/children", "30")
    machine.write("proc/30/status", f"VmRSS: {25 * 1024} kB\n")
    reading = machine.read(memory_limit=350 * MIB)
    assert (reading.source, reading.used_bytes, reading.fraction) == ("memory_limit", 175 * MIB, 0.5)


def test_our_own_groups_stalls_are_read_and_the_machines_where_there_are_none(machine):
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group_v2("app", current=1, maximum=100 * MIB)
    machine.write("proc/pressure/memory", psi("1.50", "0.25"))
    reading = machine.read()
    assert (reading.psi_some_pct, reading.psi_full_pct) == (1.5, 0.25)
    machine.group_v2("app", current=1, maximum=100 * MIB, psi=psi("12.00", "0.00"))
    reading = machine.read()
    assert (reading.psi_some_pct, reading.psi_full_pct, reading.level) == (12, 0, Level.HALVE)


def test_nothing_readable_is_no_pressure_and_no_error(tmp_path):
    reading = MemoryProbe(tmp_path / "no", tmp_path / "nowhere").read()
    assert (reading.fraction, reading.limit_bytes, reading.source, reading.level) == (0, None, "none", Level.GROW)


@pytest.mark.parametrize("garbage", ["", "\x00\xff", "0::", ":::::", "memory", "4:memory", "0::/" + "a/" * 50, "999999999999999999999"])
def test_garbage_in_any_file_is_no_error(machine, garbage):
    for path in (
        "proc/self/cgroup",
        "proc/meminfo",
        "proc/pressure/memory",
        "cgroup/memory.max",
        "cgroup/memory.current",
        "cgroup/memory.stat",
    ):
        machine.write(path, garbage)
    assert machine.read().fraction >= 0


def reading(fraction, some=0.0, full=0.0):
    return Pressure(fraction, 0, None, some, full, "test")


@pytest.mark.parametrize(
    ("fraction", "some", "full", "level"),
    [
        (0.0, 0, 0, Level.GROW),
        (0.59, 0, 0, Level.GROW),
        (0.60, 0, 0, Level.HOLD),
        (0.70, 0, 0, Level.HALVE),
        (0.10, 10.1, 0, Level.HALVE),
        (0.10, 10.0, 0, Level.GROW),
        (0.80, 0, 0, Level.PAUSE),
        (0.90, 0, 0, Level.RECYCLE),
        (0.10, 0, 5.1, Level.RECYCLE),
        (0.95, 0, 0, Level.ABORT),
        (7.00, 99, 99, Level.ABORT),
    ],
)
def test_the_levels_are_those_of_the_table(fraction, some, full, level):
    assert reading(fraction, some, full).level is level


def test_a_level_is_reached_at_once_and_left_only_well_below_its_threshold():
    level, walk = Level.GROW, []
    for fraction in (0.50, 0.71, 0.69, 0.66, 0.64, 0.56, 0.54, 0.96, 0.10):
        level = reading(fraction).level_after(level)
        walk.append(level.name)
    assert walk == ["GROW", "HALVE", "HALVE", "HALVE", "HOLD", "HOLD", "GROW", "ABORT", "GROW"]


def test_the_thresholds_descend_and_cover_every_level():
    assert [threshold.level for threshold in THRESHOLDS] == sorted(Level, reverse=True)
    fractions = [threshold.fraction for threshold in THRESHOLDS]
    assert fractions == sorted(fractions, reverse=True)


def test_this_very_process_and_its_children_are_measured():
    probe = MemoryProbe()
    alone = probe.resident_bytes()
    assert alone > 5 * MIB
    child = subprocess.Popen(
        [sys.executable, "-c", "held = b'x' * (64 << 20); print(len(held), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    try:
        assert child.stdout.readline()
        assert probe.resident_bytes() - alone > 60 * MIB
    finally:
        child.communicate(b"\n")
    assert probe.read().limit_bytes > 0
