"""What a user installs: everything that runs, and nothing that only tests."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guides" / "operating.md"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_every_file_of_the_package_but_the_tests_is_in_the_wheel(wheel):
    package = ROOT / "netra_backend"
    found = [path.relative_to(ROOT) for path in package.rglob("*") if path.is_file()]
    caches = ("__pycache__", ".")  # what tools leave behind is not the package's
    files = {path.as_posix() for path in found if not any(part.startswith(caches) for part in path.parts)}
    shipped = {name for name in wheel.namelist() if name.startswith("netra_backend/")}
    assert shipped == {name for name in files if not name.startswith("netra_backend/tests/")}
    assert any(name.endswith(".sql") for name in shipped)


def test_the_wheel_brings_the_command_and_the_licence_and_no_other_top_level_name(wheel):
    [entry_points] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(entry_points).decode())
    assert dict(parser["console_scripts"]) == {"netra": "netra_backend.cli.main:main"}
    assert {name.split("/")[0].split("-")[0] for name in wheel.namelist()} == {"netra_backend"}
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_wheel_is_no_bigger_than_the_guide_says(wheel):
    said = re.search(r"the wheel has ([\d.]+) MB \(([\d.]+) MB unpacked\) and stays below ([\d.]+) MB", GUIDE.read_text())
    size, unpacked, most = (float(number) * 1_000_000 for number in said.groups())
    now = Path(wheel.filename).stat().st_size
    assert now < most
    assert now == pytest.approx(size, rel=0.15), "say the new size in the guide and in README.md"
    assert sum(each.file_size for each in wheel.infolist()) == pytest.approx(unpacked, rel=0.15)
    assert f"The wheel has {said[1]} MB" in README.read_text()
