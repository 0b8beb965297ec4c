"""Alerts of SLOs: fired and cleared once each, as operational events (`kpi.alert`) in the transaction that notes it."""

from __future__ import annotations

from typing import Any, Final

from ...kernel.failpoints import declare
from ...storage.statements import Statements
from ...storage.transaction import Tx
from . import slo
from .evaluation import minute_of
from .model import Definition

Q = Statements(__package__)

STREAM: Final = "operational"
KIND: Final = "kpi.alert"
ALERTED: Final = declare("kpi.alerted_before_commit", "an alert is noted and told, nothing is committed")


async def burns(tx: Tx, definition: Definition) -> dict[int, tuple[int, int]]:
    """What was judged in each window, over all tenants."""
    found = {}
    for window in slo.WINDOWS:
        since_us = minute_of(tx.now_us - window)
        row = await tx.one(Q.judged, kpi=definition.id, since_us=since_us, until_us=tx.now_us)
        found[window] = (int(row[0]), int(row[1])) if row else (0, 0)
    return found


async def due(tx: Tx, definition: Definition) -> dict[str, tuple[bool, float]]:
    """The rules whose alert must change: whether it fires now, and its burn rate or number."""
    if definition.slo is None:
        return {}
    now = slo.firing(definition.slo, await burns(tx, definition))
    standing = {rule: bool(is_firing) for rule, is_firing, _ in await tx.all(Q.alerts, kpi=definition.id)}
    rules = [*(each.name for each in slo.RULES), slo.ABSOLUTE]
    return {rule: (rule in now, now.get(rule, 0.0)) for rule in rules if (rule in now) != standing.get(rule, False)}


async def tell(tx: Tx, definition: Definition) -> list[str]:
    """Note each alert that begins or ends, and tell the operator; which rules changed. Exactly one event for each change."""
    told = []
    for rule, (fires, amount) in (await due(tx, definition)).items():
        if not await tx.execute(Q.put_alert, kpi=definition.id, rule=rule, firing=int(fires), now_us=tx.now_us):
            continue
        told.append(rule)
        tx.emit(STREAM, _event(tx, definition, rule, amount, fires=fires))
    if told:
        tx.wake_others()
        tx.runtime.failpoints.hit(ALERTED)
    return told


async def clear(tx: Tx, definition: Definition) -> None:
    """End what fires of a KPI that is about to be another one, or to have no target: nobody would look at it any more."""
    for rule, is_firing, _ in await tx.all(Q.alerts, kpi=definition.id):
        if is_firing and await tx.execute(Q.put_alert, kpi=definition.id, rule=rule, firing=0, now_us=tx.now_us):
            tx.emit(STREAM, _event(tx, definition, rule, 0.0, fires=False))


def _event(tx: Tx, definition: Definition, rule: str, amount: float, *, fires: bool) -> dict[str, Any]:
    assert definition.slo is not None
    measure = "missed" if rule == slo.ABSOLUTE else "burn_rate"
    return {
        "type": KIND,
        "at_us": tx.now_us,
        "kpi": definition.name,
        "unit": definition.unit,
        "rule": rule,
        "state": "firing" if fires else "cleared",
        "severity": slo.severity_of(rule),
        "target": definition.slo.target,
        measure: round(amount, 3),
    }
