"""A1 and A3, whatever process is killed at whatever moment: each change has its entry, each entry its change, each one index, one history."""

from __future__ import annotations

import itertools
import json
import os
import random
from contextlib import closing

import pytest

from netra_backend.observability.audit import note
from netra_backend.observability.audit.verifying import verify

from ..support import audit_verifier
from ..support.places import File, place_of
from ..support.world import FAST
from ..support.zygote import Died
from .test_kills import FAILPOINTS

TENANT = "acme"
OF_THE_TRAIL = [name for name in FAILPOINTS if name.startswith("audit.")]
OF_THE_COMMIT = ["storage.before_commit@40", "storage.after_commit_before_ack@40", "storage.log_sequenced_before_commit@2"]
KILLS = int(os.environ.get("NETRA_KILLS", "4"))
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))


class TrailWorld:
    """A database and processes that decide in it; what each acknowledged, and every checkpoint that was seen."""

    def __init__(self, zygote, folder, place):
        self.folder = folder
        self.place = place
        self.acknowledged = []
        self.seen = []
        self.children = []
        self._zygote = zygote
        self._numbers = itertools.count()
        self._settings = {**FAST, "root_keys": str(folder / "root.keys"), "data": str(folder)}

    def start(self, failpoint=""):
        spec = {"url": self.place.url, "failpoint": failpoint, "settings": self._settings}
        child = self._zygote.fork("trail", spec, log=self.folder / f"trail-{next(self._numbers)}.log")
        self.children.append(child)
        return child

    def decide(self, child, count=8):
        self.acknowledged += child.ask("decide", tenant=TENANT, names=[f"key-{next(self._numbers)}" for _ in range(count)])

    def look(self, child):
        answer = child.ask("checkpoint", tenant=TENANT)
        if isinstance(answer, str):
            self.seen.append(answer)

    def until_it_dies(self, child):
        for _ in range(400):
            try:
                self.decide(child)
                self.look(child)
            except Died:
                assert child.died() == 9, child.last_words()
                self.children.remove(child)
                return
        raise AssertionError(f"the failpoint was not reached\n{child.last_words()}")

    def judged(self, child):
        """Every promise, from the files and from the rows."""
        folder = self.folder / f"export-{next(self._numbers)}"
        self.look(child)
        assert child.ask("export", tenant=TENANT, folder=str(folder), within_s=40) is None
        verdict = verify(folder, earlier=self.seen)
        assert verdict.ok, verdict
        notes = [note.read_note(text) for text in self.seen]
        assert audit_verifier.judge(folder, [(each.size, each.root) for each in notes]) is None
        assert {each.origin for each in notes} | {verdict.origin} == {verdict.origin}, "an epoch was opened although nothing was lost"
        entries = [json.loads(line) for line in (folder / "entries.ndjson").read_bytes().splitlines()]
        assert len({each["id"] for each in entries}) == len(entries)
        keys = {name: id_.hex() for name, id_ in self.place.query(f"select name, id from netra_api_key where tenant = '{TENANT}'")}
        made = {each["target"] for each in entries if each["action"] == "api_key.create"}
        assert made == set(keys.values()), "a change and its entry"
        ordered = [each["target"] for each in entries if each["action"] == "key.ordered"]
        assert sorted(ordered) == sorted(keys), "what stands in one transaction"
        assert set(self.acknowledged) <= set(keys)

    def close(self):
        for child in self.children:
            child.kill()


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, zygote, tmp_path):
    place = place_of(request.param, request) or File(tmp_path / "netra.db")
    with closing(TrailWorld(zygote, tmp_path, place)) as world:
        yield world


@pytest.mark.parametrize("failpoint", [*(f"{name}@3" for name in OF_THE_TRAIL), *OF_THE_COMMIT])
def test_a_process_killed_at_a_failpoint_leaves_each_change_its_entry_and_one_history(world, failpoint):
    victim = world.start(f"{failpoint}=kill")
    world.until_it_dies(victim)
    survivor = world.start()
    world.decide(survivor)
    world.judged(survivor)


def test_a_process_killed_before_the_first_checkpoint_opens_no_epoch(world):
    victim = world.start("audit.remembered_before_signed=kill")
    world.until_it_dies(victim)
    survivor = world.start()
    world.judged(survivor)


def test_a_process_that_stood_still_while_it_signed_changes_nothing_when_it_wakes(world):
    sleeper = world.start("audit.remembered_before_signed=pause")
    asked = sleeper.tell("decide", tenant=TENANT, names=["of the sleeper"])
    sleeper.frozen()
    other = world.start()
    world.decide(other)
    world.look(other)
    world.judged(other)
    sleeper.thaw()
    world.acknowledged += sleeper.answer(asked)
    world.decide(sleeper)
    world.judged(other)


def test_random_kills_leave_each_change_its_entry_and_one_history(world, request):
    """Two processes at once, of which one after the other is killed."""
    chance = random.Random(f"{SEED}/{request.node.name}")
    for _ in range(KILLS):
        while len(world.children) < 2:
            name = chance.choice([*OF_THE_TRAIL, ""])
            world.start(f"{name}@{chance.randint(1, 4)}=kill" if name else "")
        for child in list(world.children):
            try:
                for _ in range(chance.randint(1, 6)):
                    world.decide(child)
                    world.look(child)
            except Died:
                assert child.died() == 9, child.last_words()
                world.children.remove(child)
        if world.children:
            victim = world.children.pop(chance.randrange(len(world.children)))
            victim.kill()
    for child in world.children:
        child.kill()
    world.children.clear()
    survivor = world.start()
    world.decide(survivor)
    world.judged(survivor)
