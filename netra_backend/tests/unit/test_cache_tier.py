"""S3-FIFO beside LRU: better where a few keys are asked for often, much better where everything is asked for once in between, or in a loop."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict

import pytest

from netra_backend.cache.errors import CycleRefused
from netra_backend.cache.graph import Graph
from netra_backend.cache.monitor import Monitor, Thresholds
from netra_backend.cache.node import Node, Value
from netra_backend.cache.stats import Stats
from netra_backend.cache.tier import ENTRY_BYTES, Entry, Tier, weigh

ROOM = 200


def entry(name):
    return Entry(name, None, p=0, deps=frozenset(), made=0, expires=1, stale_until=1, weight=1)


def ratio_of_the_tier(names):
    tier, hits = Tier(ROOM, lambda _: None), 0
    for name in names:
        found = tier.find(name)
        if found is None:
            tier.insert(entry(name))
        else:
            hits += 1
            found.hits = min(found.hits + 1, 3)
        assert tier.used_bytes == len(tier) <= ROOM
    return hits / len(names)


def ratio_of_lru(names):
    kept, hits = OrderedDict(), 0
    for name in names:
        if name in kept:
            hits += 1
            kept.move_to_end(name)
        else:
            kept[name] = None
            if len(kept) > ROOM:
                kept.popitem(last=False)
    return hits / len(names)


def zipf(count, keys=2000):
    weights = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    return [str(number) for number in random.Random(1).choices(range(keys), cum_weights=weights, k=count)]


def with_scans(names):
    scan = (f"scan {number}" for number in itertools.count())
    return [each for at, name in enumerate(names) for each in ([name, *itertools.islice(scan, 300)] if at % 500 == 0 else [name])]


@pytest.mark.parametrize(
    ("workload", "least_gain"),
    [("zipf", 0.03), ("zipf with scans", 0.05), ("loop", 0.5)],
)
def test_hit_ratios_beside_lru(workload, least_gain):
    names = {"zipf": zipf(20_000), "zipf with scans": with_scans(zipf(20_000)), "loop": [str(n % 250) for n in range(10_000)]}[workload]
    ours, lru = ratio_of_the_tier(names), ratio_of_lru(names)
    print(f"{workload}: {ours:.3f}, LRU {lru:.3f}")
    assert ours >= lru + least_gain


def test_a_value_weighs_what_is_inside_it():
    assert weigh("n", {"a": ["x" * 10_000]}) > 10_000 + ENTRY_BYTES
    shared = "x" * 10_000
    assert weigh("n", [shared, shared]) < 20_000


def test_what_is_dropped_keeps_its_edges_while_something_depends_on_it():
    graph = Graph()
    graph.keep("card", ["org"])
    graph.keep("page", ["card"])
    graph.drop("card")
    assert graph.closure(["org"]) == {"card", "page"}
    graph.drop("page")
    assert (len(graph), graph.closure(["org"])) == (0, set())


def test_what_is_made_anew_from_other_things_leaves_its_former_edges_to_what_was_made_from_it():
    graph = Graph()
    graph.keep("featured", ["product:1", "shop"])
    graph.keep("home", ["featured"])
    graph.keep("featured", ["product:2", "shop"])
    assert graph.closure(["product:1"]) == {"home"}
    assert graph.closure(["product:2"]) == graph.closure(["shop"]) == graph.closure(["featured"]) | {"featured"}
    graph.keep("featured", ["product:3"])
    assert (graph.closure(["product:1"]), graph.closure(["shop"]), graph.closure(["product:2"])) == ({"home"}, {"home"}, set())
    graph.keep("home", ["featured"])
    assert (graph.closure(["product:1"]), graph.closure(["product:3"])) == (set(), {"featured", "home"})


def test_the_graph_holds_nothing_once_nothing_is_kept_whatever_was_made_from_what():
    chance, names = random.Random(1), [f"n{number}" for number in range(12)]
    graph, kept = Graph(), set()
    for _ in range(3000):
        at = chance.randrange(len(names))
        if chance.random() < 0.6:
            graph.keep(names[at], [*chance.sample(names[:at], min(at, 2)), f"row:{chance.randrange(5)}"])
            kept.add(names[at])
        else:
            graph.drop(names[at])
            kept.discard(names[at])
        assert {name for _, name in graph.edges()} <= kept | {dep for dep, _ in graph.edges()}
    for name in kept:
        graph.drop(name)
    assert (len(graph), list(graph.edges()), graph.closure([f"row:{number}" for number in range(5)])) == (0, [], set())
    assert not graph._heirs


@pytest.mark.parametrize("meanwhile", [None, {"row:2"}], ids=["the inner one is not kept", "the inner one was made anew"])
def test_a_value_hangs_on_what_its_inner_one_was_made_from_whatever_became_of_that(meanwhile):
    node = Node(1.0, 1 << 20)
    node.flush(0)
    if meanwhile is not None:
        node.fill("card", Value("", frozenset(meanwhile), 1e9, 1e9), node.begin(0))
    page = Value("", frozenset({"card"}), 1e9, 1e9, {"card": frozenset({"card", "row:1"})})
    assert node.fill("page", page, node.begin(0)) is not None
    assert node.graph.closure(["row:1"]) == {"page"}
    assert "page" in node.graph.closure(["card"])


def test_an_order_makes_everything_behind_what_it_is_made_from_whatever_the_edges():
    chance = random.Random(1)
    for _ in range(50):
        graph, names = Graph(), [f"n{number}" for number in range(12)]
        for at, name in enumerate(names):
            graph.keep(name, chance.sample(names[:at], min(at, 2)) or ["root"])
        ordered = graph.order(names)
        assert sorted(ordered) == sorted(names)
        assert all(ordered.index(dep) < ordered.index(name) for dep, name in graph.edges() if dep != "root")
        with pytest.raises(CycleRefused):
            graph.declare("root", [names[-1]])


def test_each_measure_has_its_threshold_and_is_told_when_it_changes_and_at_no_other_time():
    told, stats = [], Stats()
    limits = Thresholds(hit_ratio_least=0.5, error_ratio_most=0.2, load_p99_most_s=0.01, l2_error_ratio_most=0.2, l2_p99_most_s=0.0)
    monitor = Monitor(stats, limits, lambda measure, what: told.append((measure, what["state"])))

    def window(failed, took_s):
        stats.loads += 10
        stats.l2.asked += 10
        stats.load_errors += failed
        stats.l2.errors += failed
        stats.load_times_s.extend([took_s] * 10)
        stats.l2.answer_times_s.extend([9.0] * 10)  # no threshold, never degraded
        monitor.close_window()

    for failed, took_s in ((2, 0.01), (3, 0.02), (3, 0.02)):
        window(failed, took_s)
    assert told == [("error_ratio", "degraded"), ("l2_error_ratio", "degraded"), ("load_p99_s", "degraded")]
    assert (stats.load_p50_s, monitor.measured["l2_p99_s"]) == (0.02, 9.0)
    window(0, 0.001)
    assert told[3:] == [("error_ratio", "ok"), ("l2_error_ratio", "ok"), ("load_p99_s", "ok")]
