"""How figures and times are written on pages, and that drawings hold nothing but numbers and escaped words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.dashboard import charts
from netra_backend.dashboard.rendering import ago, count, moment, number, percent, pretty, seconds, size

NOW = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"),
        (0, "0 ms"),
        (0.0004, "< 1 ms"),
        (0.25, "250 ms"),
        (3, "3 s"),
        (3.25, "3.2 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(value, shown):
    assert seconds(value) == shown


def test_a_share_is_whole_only_where_nothing_is_missing():
    assert (percent(999_999, 1_000_000), percent(5, 5), percent(0, 0)) == ("99.9 %", "100.0 %", "—")


def test_figures_are_told_as_people_write_them():
    assert (number(1_234_567), number(0.5), number(None), count(10_001), size(1536)) == (
        "1,234,567",
        "0.5",
        "—",
        "more than 10,000",
        "1.5 KiB",
    )


def test_an_axis_is_short():
    assert [charts.short(each) for each in (0, 0.5, 999, 10_000, 2_500_000, 3e9)] == ["0", "0.5", "999", "10k", "2.5M", "3G"]


def test_a_time_has_the_exact_one_beside_it():
    assert moment(NOW) == '<time datetime="2023-11-14T22:13:20.000000Z">2023-11-14 22:13:20</time>'
    assert ">in 5 s<" in ago(NOW + 5_000_000, NOW) and ">5 s ago<" in ago(NOW - 5_000_000, NOW)
    assert "9999" in moment(2**62)


@pytest.mark.parametrize("text", ["{", '{"a":1}', "x" * 20_000, ""])
def test_what_is_no_json_is_shown_as_it_is_and_never_endless(text):
    assert len(pretty(text)) < 17_000


@given(st.lists(st.tuples(st.text(max_size=12), st.booleans()), max_size=20, unique_by=lambda each: each[0]), st.data())
def test_a_graph_draws_any_names_escaped_and_from_left_to_right(nodes, data):
    names = [name for name, _ in nodes]
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
    drawn = str(charts.graph("<b>", nodes, edges))
    assert drawn.count("<rect") == len(nodes) and drawn.count('class="edge"') == len(edges)
    assert drawn.count("<") == drawn.count(">") and "<b>" not in drawn and "style=" not in drawn
    layers = charts._layers(names, edges)
    assert all(layers[a] < layers[b] for a, b in edges)


@given(st.lists(st.floats(0, 1e6), max_size=60), st.lists(st.floats(0, 100) | st.none(), max_size=60))
def test_no_chart_leaves_its_frame(values, shares):
    steps = [str(at) for at in range(len(values))]
    charts.latencies("t", values)
    charts.curve("t", [str(at) for at in range(len(shares))], shares, 100)
    drawn = str(charts.stacked("t", steps, [charts.Series("a", "good", values), charts.Series("b", "bad", values)], height=170))
    tops = [float(part.split('"')[0]) for part in drawn.split(' y="')[1:]]
    assert all(0 <= top <= 170 for top in tops)


def test_quantiles_are_values_that_were_there():
    values = [float(each) for each in range(1, 101)]
    assert (charts.quantile(values, 0.5), charts.quantile(values, 0.99), charts.quantile([], 0.5)) == (50.0, 99.0, None)


@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 12), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30))
def test_a_waterfall_draws_any_spans_within_its_frame(spans):
    bars = [charts.Bar(words, depth, start, start + took, "busy") for words, depth, start, took in spans]
    drawn = str(charts.waterfall("t", bars))
    assert drawn.count("<rect") == len(bars)
    assert all(float(part.split('"')[0]) <= charts.WIDTH for part in drawn.split('<rect x="')[1:])


def test_a_band_shows_each_phase_for_as_long_as_it_lasted_and_a_moment_too():
    drawn = str(
        charts.phases(
            "t",
            100,
            200,
            [(0, "good", "closed"), (50, "good", "closed"), (120, "bad", "open"), (170, "warn", "<half>"), (170.1, "good", "closed")],
        )
    )
    bars = [
        (float(x), float(wide), style)
        for x, wide, style in re.findall(r'<rect x="([\d.]+)" y="0.0" width="([\d.]+)" height="24.0" class="(\w+)">', drawn)
    ]
    assert bars == [(0, 720, "wait"), (0, 144, "good"), (144, 360, "bad"), (504, 1, "warn"), (504.7, 215.3, "good")]
    assert "&lt;half&gt;" in drawn
