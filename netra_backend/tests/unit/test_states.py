"""A state machine is a table."""

from __future__ import annotations

import pytest

from netra_backend.kernel.states import IllegalTransition, StateTable

DELIVERY = StateTable(
    "delivery",
    ("due", "leased", "delivered", "skipped", "dead", "cancelled"),
    {
        "claim": (("due",), "leased"),
        "release": (("leased",), "due"),
        "deliver": (("leased",), "delivered"),
        "skip": (("due", "leased"), "skipped"),
        "dead_letter": (("due", "leased"), "dead"),
        "cancel": (("due", "leased"), "cancelled"),
        "resend": (("delivered", "skipped", "dead"), "due"),
    },
)
ALLOWED = {(source, to) for froms, to in DELIVERY.transitions.values() for source in froms}


def test_every_pair_of_states_is_allowed_or_refused_as_the_table_says():
    pairs = list(DELIVERY.pairs())
    assert len(pairs) == 36
    assert {(source, to) for source, to, allowed in pairs if allowed} == ALLOWED


@pytest.mark.parametrize(("source", "to", "allowed"), list(DELIVERY.pairs()))
def test_the_guard_raises_exactly_for_the_pairs_that_are_not_allowed(source, to, allowed):
    if allowed:
        DELIVERY.check(source, to)
        return
    with pytest.raises(IllegalTransition) as refused:
        DELIVERY.check(source, to)
    assert source in refused.value.detail and to in refused.value.detail
    assert refused.value.facts == {"source": source, "to": to}


def test_an_event_leads_to_its_one_state_and_nowhere_from_elsewhere():
    for event, (froms, to) in DELIVERY.transitions.items():
        for state in DELIVERY.states:
            if state in froms:
                assert DELIVERY.after(event, state) == to
            else:
                with pytest.raises(IllegalTransition):
                    DELIVERY.after(event, state)


def test_the_sources_of_an_event_are_ready_for_its_conditional_update():
    assert DELIVERY.sources("dead_letter") == ("due", "leased")


def test_first_and_last_states_follow_from_the_table():
    assert DELIVERY.initial == "due"
    assert DELIVERY.terminal == ("cancelled",)


def test_the_advice_names_what_is_possible():
    with pytest.raises(IllegalTransition) as refused:
        DELIVERY.check("cancelled", "due")
    assert "final" in refused.value.fix
    with pytest.raises(IllegalTransition) as refused:
        DELIVERY.check("dead", "leased")
    assert refused.value.fix == "From dead it may become due."


def test_the_diagrams_hold_every_transition():
    drawn = DELIVERY.mermaid()
    assert all(f"{source} --> {to}: " in drawn for source, to in ALLOWED)
    assert "[*] --> due" in drawn and "cancelled --> [*]" in drawn
    assert len(DELIVERY.text().splitlines()) == 6
    assert "leased    -> due | delivered | skipped | dead | cancelled" in DELIVERY.text()


@pytest.mark.parametrize(
    ("states", "transitions"),
    [
        (("a", "b"), {"go": (("a",), "c")}),
        (("a", "b"), {"go": (("x",), "b")}),
        (("a", "b", "island"), {"go": (("a",), "b")}),
        (("a", "b", "b"), {"go": (("a",), "b")}),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_when_it_is_built(states, transitions):
    with pytest.raises(ValueError, match="disagree"):
        StateTable("thing", states, transitions)
