"""Attempts: whatever stands between and inside them, what failed is undone and nothing else."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netra_backend.storage.errors import ConstraintViolated

from ..support.storage import ACME, everybody, put

STEPS = st.recursive(
    st.sampled_from(["put", "fail"]),
    lambda steps: st.lists(steps, max_size=4),
    max_leaves=14,
)
"""A list is an attempt of its steps; "put" puts somebody, "fail" raises, which undoes the attempt that it is in."""


async def carry_out(tx, steps, names, stands):
    """`stands` takes the names that must be there at the end, of this attempt and of those in it."""
    for step in steps:
        if step == "put":
            name = f"n{next(names)}"
            await put(tx, name)
            stands.append(name)
        elif step == "fail":
            raise LookupError("told to")
        else:
            within = []
            error = await tx.attempt(carry_out, step, names, within)
            assert error is None or (type(error), str(error)) == (LookupError, "told to")
            stands += [] if error else within


async def refused_in_between(tx):
    """Statements that the database refuses, with others between them and without; the kind of each attempt's error."""
    errors = []
    await tx.attempt(put, "first")
    for number, who in enumerate(("second", "first", "third", "third", "fourth")):
        errors.append(await tx.attempt(put, who))
        await put(tx, f"after {number}")
    errors += [await tx.attempt(put, who) for who in ("first", "fifth", "second")]
    return [error and type(error) for error in errors]


class EndedError(Exception):
    """Leaves nothing behind for the next example."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(STEPS, max_size=6))
async def test_what_an_attempt_did_is_there_if_and_only_if_it_and_those_around_it_stood(database, steps):
    async def work(tx):
        stands = []
        with suppress(LookupError):  # outside any attempt: what was done before it stands
            await carry_out(tx, steps, itertools.count(), stands)
        assert set(await everybody(tx)) == set(stands)
        raise EndedError

    with pytest.raises(EndedError):
        await database.write(work, scope=ACME)


async def test_what_the_database_refuses_is_undone_whatever_was_done_since_the_last_attempt(database):
    assert await database.write(refused_in_between, scope=ACME) == [
        None,
        ConstraintViolated,
        None,
        ConstraintViolated,
        None,
        ConstraintViolated,
        None,
        ConstraintViolated,
    ]
    there = await database.read(everybody, scope=ACME)
    assert there == dict.fromkeys(["first", "second", "third", "fourth", "fifth", *(f"after {number}" for number in range(5))], 2)
