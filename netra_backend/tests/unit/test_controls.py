"""The controls' machinery, tried on a package of four lines."""

from __future__ import annotations

import json

import pytest

from tools.controls.__main__ import main
from tools.controls.edits import apply, plant_markers, poison
from tools.controls.plan import BadControl, Edit, load

ACCOUNT = '''\
"""A fake product."""
import os
import signal


def withdraw(balance, amount):
    if amount > balance:
        raise ValueError("too much")
    return balance - amount


def never_called():
    return 1


def dies():
    amount = 7
    os.kill(os.getpid(), signal.SIGKILL) if amount == 7 else None
'''

TESTS = """\
import subprocess
import sys
from shop import account


def test_no_overdraft():
    try:
        account.withdraw(1, 2)
    except ValueError:
        return
    raise AssertionError("overdraft allowed")


def test_weak():
    account.withdraw(2, 1)


def test_kill():
    code = subprocess.run([sys.executable, "-c", "from shop import account; account.dies()"]).returncode
    assert code == -9, "it lived"


def test_statements():
    import pathlib
    import sqlite3
    text = pathlib.Path(account.__file__).with_name("queries.sql").read_text()
    used = text.split("-- name: used")[1].split("-- name:")[0]
    assert sqlite3.connect(":memory:").execute(used).fetchall() == [(2,)]
"""

SQL = """\
-- name: unused
select 1

-- name: used
select 1 + 1
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the fake package needs none, and they cost seconds a run
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").write_text("")
    (tmp_path / "shop/account.py").write_text(ACCOUNT)
    (tmp_path / "shop/queries.sql").write_text(SQL)
    (tmp_path / "test_shop.py").write_text(TESTS)
    return tmp_path


def carry_out(shop, capsys, *controls, only=()):
    lines = []
    for name, test, find, replace, target in controls:
        lines.append(f'[[control]]\nid = "{name}"\npromise = "W1"\ntest = "test_shop.py::{test}"\ntimeout_s = 60\n')
        lines.append(f"[[control.edit]]\ntarget = {json.dumps(target)}\nfind = {json.dumps(find)}\nreplace = {json.dumps(replace)}\n")
    (shop / "controls.toml").write_text("".join(lines))
    selected = [word for name in only for word in ("--only", name)]
    code = main(["--root", str(shop), "--controls", "controls.toml", "--jobs", "2", *selected])
    capsys.readouterr()
    report = json.loads((shop / "build/report/controls.json").read_text())
    return code, {row["id"]: row["status"] for row in report["controls"]}


CHECK = ("    if amount > balance:\n", "    if False:\n", "shop/account.py")


def test_a_control_that_its_test_notices_is_caught(shop, capsys):
    code, verdicts = carry_out(
        shop,
        capsys,
        ("overdraft", "test_no_overdraft", *CHECK),
        ("survivor", "test_kill", "amount = 7", "amount = 8", "shop/account.py"),
        ("statement", "test_statements", "1 + 1", "1 + 2", "shop/queries.sql"),
    )
    assert verdicts == {"overdraft": "caught", "survivor": "caught", "statement": "caught"}
    assert code == 0
    assert (shop / "shop/account.py").read_text() == ACCOUNT


def test_a_weak_test_an_unexecuted_line_and_a_stale_edit_are_told_apart(shop, capsys):
    code, verdicts = carry_out(
        shop,
        capsys,
        ("weak", "test_weak", *CHECK),
        ("elsewhere", "test_weak", "return 1", "return 2", "shop/account.py"),
        ("other-statement", "test_statements", "select 1\n\n", "select 3\n\n", "shop/queries.sql"),
        ("stale", "test_weak", "no such text", "", "shop/account.py"),
        ("no-test", "test_that_is_not_there", *CHECK),
        ("syntax", "test_weak", "return 1", "return (", "shop/account.py"),
    )
    assert verdicts == {
        "weak": "missed",
        "elsewhere": "unexecuted",
        "other-statement": "unexecuted",
        "stale": "broken",
        "no-test": "broken",
        "syntax": "broken",
    }
    assert code == 1


def test_only_chooses_and_an_unknown_id_is_refused(shop, capsys):
    overdraft, weak = ("overdraft", "test_no_overdraft", *CHECK), ("weak", "test_weak", *CHECK)
    assert carry_out(shop, capsys, overdraft, weak, only=["overdraft"]) == (0, {"overdraft": "caught"})
    assert main(["--root", str(shop), "--controls", "controls.toml", "--only", "nothing"]) == 2
    assert "there is no control nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("find", "before"),
    [
        ("amount > balance", "    if amount > balance:"),
        ('("too much")', '        raise ValueError("too much")'),
        ("elif amount == 0", "    if amount > balance:"),
        ("# a comment", "    return balance"),
        ("except KeyError", "        return 0"),
        ("    else:\n        amount = 2", "        amount = 2"),
    ],
)
def test_the_marker_stands_before_the_statement_that_the_edit_touches(find, before, tmp_path):
    text = '''
@decorated
def withdraw(balance, amount):
    """Docstring."""
    if amount > balance:
        raise ValueError("too much")
    elif amount == 0:
        pass
    else:
        amount = 2
    try:
        balance[amount]
    except KeyError:
        return 0
    # a comment
    return balance
'''
    marked = plant_markers(text, [(Edit("a.py", find, ""), tmp_path / "m")]).splitlines()
    at = next(number for number, line in enumerate(marked) if "touch()" in line)
    assert marked[at + 1] == before


def test_edits_of_one_file_are_judged_against_the_text_as_it_was():
    first, second = Edit("a.py", "a = 1", "b = 2"), Edit("a.py", "c = 3", "a = 1")
    assert apply("a = 1\nc = 3\n", [first, second]) == "b = 2\na = 1\n"
    with pytest.raises(BadControl, match="stands 2 times"):
        apply("a = 1\na = 1\n", [first])
    with pytest.raises(BadControl, match="changes nothing"):
        apply("a = 1\n", [Edit("a.py", "a = 1", "a = 1")])


def test_only_the_statement_that_the_edit_touches_is_poisoned():
    poisoned = poison(SQL, Edit("q.sql", "1 + 1", "2"))
    assert "select 1\n" in poisoned
    assert "1 + 1" not in poisoned
    assert poison("create table t (a);", Edit("m.sql", "(a)", "(b)")).endswith("create table t (a);")


def test_a_misspelt_key_is_refused(tmp_path):
    file = tmp_path / "controls.toml"
    file.write_text('[[control]]\nid = "x"\npromise = "W1"\ntest = "t"\n[[control.edit]]\ntarget = "a.py"\nfind = "x"\nreplaced = "y"\n')
    with pytest.raises(BadControl, match="target, find and replace"):
        load(file)
