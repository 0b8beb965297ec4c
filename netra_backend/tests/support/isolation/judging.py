"""The verdict: with globex there, acme gets what it gets without, and nobody else's row has moved."""

from __future__ import annotations

from .rows import GLOBEX
from .worlds import Outcome, Stored


def leak(alone: Outcome, beside: Outcome, standing: Stored, tenant: str) -> str:
    """What another tenant has changed for this one, or this one for another; empty where they are apart."""
    moved = _of_others(standing, tenant) ^ _of_others(beside.stored, tenant)
    if moved:
        return f"changes another's rows: {sorted(moved)}"
    if alone.answer != beside.answer:
        return f"answers {beside.answer}, and {alone.answer} where globex is not"
    odd = _of(alone.stored, tenant) ^ _of(beside.stored, tenant)
    return f"leaves other rows where globex is: {sorted(odd)}" if odd else ""


def leak_between(alone: Outcome, beside: Outcome, tenant: str) -> str:
    """The same for a call that names globex as well: its part of the answer and of the rows is its own affair."""
    answer = [row for row in beside.answer if GLOBEX not in row] if isinstance(beside.answer, list) else beside.answer
    if alone.answer != answer:
        return f"answers {answer} to {tenant}, and {alone.answer} where globex is not"
    odd = _of(alone.stored, tenant) ^ _of(beside.stored, tenant)
    return f"leaves other rows where globex is: {sorted(odd)}" if odd else ""


def _of(stored: Stored, tenant: str) -> Stored:
    """A tenant's rows, and those that are nobody's."""
    return frozenset(row for row in stored if row[1] in {tenant, ""})


def _of_others(stored: Stored, tenant: str) -> Stored:
    return frozenset(row for row in stored if row[1] not in {tenant, ""})
