"""The stories of docs/guides/, played word for word: each command as it stands there prints what stands below it."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import closing
from pathlib import Path

from .driving import Process, audited, netra, run

GUIDES = Path(__file__).parents[4] / "docs" / "guides"
BLOCK = re.compile(r"^```(text|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_ITS_DAY = (
    (re.compile(r"\b(dbg|msg)_[0-9a-z]{26}\b"), r"\1_"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "then"),
    (re.compile(r"127\.0\.0\.1:\d+"), "there"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "trace"),
)
"""What is another one each time: ids, times, ports, traces."""


def as_ever(text):
    for what, word in OF_ITS_DAY:
        text = what.sub(word, text)
    return text


def same(told, seen):
    """Whether all that a guide shows of a record is in it; how long something took is a number."""
    if isinstance(told, dict):
        return all(name in seen and (name == "seconds" or same(value, seen[name])) for name, value in told.items())
    return as_ever(str(told)) == as_ever(str(seen))


def way(line):
    """In or out: which of the two is recorded first is not promised."""
    return line.split()[2]


def commands(block):
    """Each command of a block, and the lines that it prints."""
    for part in block.split("$ ")[1:]:
        command, *printed = part.strip().splitlines()
        yield shlex.split(command)[1:], printed


def test_why_acmes_deliveries_fail_is_found_as_the_guide_tells_it(tmp_path, capsys, monkeypatch):
    guide = (GUIDES / "why-do-acmes-deliveries-fail.md").read_text()
    blocks = BLOCK.findall(guide)
    assert [kind for kind, _ in blocks] == ["text", "text", "json", "text"]
    monkeypatch.chdir(tmp_path)
    payload = tmp_path / "payload.json"
    payload.write_text('{"order": 42, "password": "hunter2"}')
    with (
        closing(Process("netra_backend.testing.endpoint", "--behaviour", "503", "--port", "0")) as receiver,
        netra("serve", "--data", tmp_path / "data", "--port", "0", "--dev", NETRA_WEBHOOKS_SCHEDULE="1h") as server,
    ):
        names = {"$KEY": server.line()["key"], "$URL": server.line()["url"]}
        there = ["--server", names["$URL"], "--key", names["$KEY"]]
        hook = receiver.line()["url"]
        assert run(capsys, "tenant", "create", "acme", *there).code == 0
        assert run(capsys, "webhooks", "endpoint", "add", hook, "--tenant", "acme", *there).code == 0

        def play(block, *more):
            """Run what stands there with this day's names; a reader ends `watch` by hand, here it ends after the two records."""
            for words, printed in commands(block):
                done = run(capsys, *[names.get(word, word) for word in words], *(more if "watch" in words else ()))
                assert done.code == 0, done.err
                yield (done.out + done.err).strip().splitlines(), printed

        ((started, told),) = play(blocks[0][1])
        assert as_ever("\n".join(started)) == as_ever("\n".join(told))
        names[told[0].split()[0]] = started[0].split()[0]
        assert run(capsys, "webhooks", "send", "--tenant", "acme", "--type", "order.paid", payload, *there).code == 0
        ((followed, told),) = play(blocks[1][1], "--count", "2")
        for line, shown in zip(sorted(followed, key=way), sorted(told, key=way), strict=True):
            assert as_ever(line).startswith(as_ever(shown.removesuffix(" ...")))
        (lines, _), *_ = play(blocks[1][1], "--count", "2", "--json")
        assert any(same(json.loads(blocks[2][1]), json.loads(line)) for line in lines), lines
        for done, told in play(blocks[3][1]):
            assert as_ever("\n".join(done)) == as_ever("\n".join(told))
        assert json.loads((tmp_path / "case.json").read_text())["session"]["tenant"] == "acme"
        assert "hunter2" not in "\n".join([*lines, *followed, (tmp_path / "case.json").read_text()])
        assert server.ends() == 0
    entries = [action for action, _ in audited(tmp_path / "data", "acme") if action.startswith("debug.")]
    assert set(entries) == set(re.findall(r"`(debug\.[a-z]+)`", guide))
