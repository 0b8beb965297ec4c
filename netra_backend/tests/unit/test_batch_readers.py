"""Readers begin behind any cursor and read what a run without a break would have read; partitions cover the input once."""

from __future__ import annotations

import csv as standard
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from unittest.mock import MagicMock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netra_backend import batch
from netra_backend.batch import registry
from netra_backend.batch.errors import JobExists, UnknownJob
from netra_backend.batch.model import Malformed
from netra_backend.batch.readers import Source, ranges
from netra_backend.errors import InvalidInput
from netra_backend.kernel.scope import Scope

SOURCE = Source({}, MagicMock(), Scope("acme"))
CELLS = st.text(alphabet='ab,"\n\r é;', max_size=6)


async def parts_of(reader, partitions):
    return [part.spec for part in await reader.split(SOURCE, partitions)]


async def everything(reader, partitions=1):
    return [item for spec in await parts_of(reader, partitions) for _, item in reader.read(SOURCE, spec, None)]


class Threads(ThreadPoolExecutor):
    """A thread that counts what it was given."""

    given = 0

    def submit(self, *args, **kwargs):
        self.given += 1
        return super().submit(*args, **kwargs)


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet", "sequence"])
async def test_what_waits_for_a_disk_to_cut_its_input_does_so_in_a_thread(tmp_path, kind):
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    (tmp_path / "in.ndjson").write_text("1\n2\n")
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "in.parquet")
    reader = batch.sequence([1, 2]) if kind == "sequence" else getattr(batch, kind)(tmp_path / f"in.{kind}")
    with Threads(1) as threads:
        parts = await reader.split(replace(SOURCE, threads=threads), 2)
    assert threads.given == 1 and parts


async def assert_restartable(reader, partitions):
    """Every cursor of every partition is a place to begin at."""
    for spec in await parts_of(reader, partitions):
        whole = list(reader.read(SOURCE, spec, None))
        for place, (cursor, _) in enumerate(whole, 1):
            assert list(reader.read(SOURCE, spec, json.loads(json.dumps(cursor)))) == whole[place:]


@given(start=st.integers(0, 50), length=st.integers(0, 200), parts=st.integers(1, 20))
def test_ranges_cover_everything_once_with_none_empty(start, length, parts):
    found = ranges(start, start + length, parts)
    assert found[0][0] == start
    assert found[-1][1] == start + length
    assert all(one[1] == two[0] for one, two in pairwise(found))
    assert len(found) <= parts
    assert all(one < two for one, two in found) or length == 0


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=25), partitions=st.integers(1, 6))
async def test_a_csv_file_is_read_whole_in_parts_and_from_any_row(tmp_path_factory, rows, partitions):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = standard.writer(file, quoting=standard.QUOTE_ALL)
        writer.writerows([("one", "two"), *rows])
    reader = batch.csv(path)
    expected = [{"one": one, "two": two} for one, two in rows]
    assert await everything(reader, partitions) == expected
    await assert_restartable(reader, partitions)


@pytest.mark.parametrize("body", ["a,b\n1,2\n3\n4,5,6\n\n7,8", "a,b\r\n1,2\r\n3\r\n4,5,6\r\n7,8\r\n", "\ufeffa,b\n1,2\n3\n4,5,6\n7,8\n"])
async def test_a_row_of_another_length_is_malformed_and_the_rest_is_read(tmp_path, body):
    (tmp_path / "t.csv").write_text(body, encoding="utf-8", newline="")
    found = await everything(batch.csv(tmp_path / "t.csv"))
    assert [item for item in found if isinstance(item, dict)] == [{"a": "1", "b": "2"}, {"a": "7", "b": "8"}]
    assert [item.raw for item in found if isinstance(item, Malformed)] == ["3", "4,5,6"]


@pytest.mark.parametrize(
    "options", [{"encoding": "utf-16"}, {"encoding": "utf-32-le"}, {"encoding": "cp037"}, {"encoding": "no such"}], ids=str
)
def test_a_csv_file_in_which_line_breaks_are_other_bytes_is_refused(options):
    with pytest.raises(InvalidInput):
        batch.csv("t.csv", **options)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "shift_jis"])
async def test_a_csv_file_in_an_encoding_beside_ascii_is_read(tmp_path, encoding):
    (tmp_path / "t.csv").write_bytes('a,b\n1,"x\ny"\n'.encode(encoding))
    assert await everything(batch.csv(tmp_path / "t.csv", encoding=encoding)) == [{"a": "1", "b": "x\ny"}]


async def test_an_empty_csv_file_and_one_with_a_header_alone_have_no_rows(tmp_path):
    for body in ("", "a,b\n", "a,b"):
        (tmp_path / "t.csv").write_text(body)
        assert await everything(batch.csv(tmp_path / "t.csv"), 3) == []


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    values=st.lists(st.dictionaries(st.text(max_size=3), st.integers(-(2**63), 2**63 - 1), max_size=2), max_size=20),
    partitions=st.integers(1, 6),
)
async def test_an_ndjson_file_is_read_whole_in_parts_and_from_any_line(tmp_path_factory, values, partitions):
    path = tmp_path_factory.mktemp("ndjson") / "t.ndjson"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    assert await everything(batch.ndjson(path), partitions) == values
    await assert_restartable(batch.ndjson(path), partitions)


async def test_a_line_that_is_no_json_is_malformed(tmp_path):
    (tmp_path / "t.ndjson").write_text('{"a":1}\n{"a":\n\n2')
    found = await everything(batch.ndjson(tmp_path / "t.ndjson"))
    assert (found[0], found[1].raw, found[2]) == ({"a": 1}, '{"a":', 2)


@pytest.mark.parametrize("partitions", [1, 2, 9])
async def test_a_parquet_file_is_read_whole_in_parts_and_from_any_row(tmp_path, partitions):
    rows = [{"n": n, "v": str(n)} for n in range(23)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=5)
    reader = batch.parquet(tmp_path / "t.parquet")
    assert await everything(reader, partitions) == rows
    await assert_restartable(reader, partitions)


@pytest.mark.parametrize("partitions", [1, 3, 30])
async def test_a_sequence_is_read_whole_in_parts_and_from_any_item(partitions):
    assert await everything(batch.sequence(range(20)), partitions) == list(range(20))
    await assert_restartable(batch.sequence(lambda _: range(20)), partitions)


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 20])
async def test_several_files_are_read_whole_in_parts_and_from_any_item(tmp_path, kind, partitions):
    counts, lines = (4, 0, 9, 1), {"csv": "n\n{}", "ndjson": "{}"}
    for number, count in enumerate(counts):
        path, values = tmp_path / f"{number}.{kind}", [10 * number + n for n in range(count)]
        if kind == "parquet":
            pq.write_table(pa.table({"n": pa.array(values, pa.int64())}), path, row_group_size=2)
        else:
            path.write_text(lines[kind].format("".join(f"{value}\n" for value in values)))
    reader = batch.files(str(tmp_path / f"*.{kind}"), getattr(batch, kind))
    found = [int(item if kind == "ndjson" else item["n"]) for item in await everything(reader, partitions)]
    assert found == [10 * number + n for number, count in enumerate(counts) for n in range(count)]
    assert len(await parts_of(reader, partitions)) <= partitions
    await assert_restartable(reader, partitions)
    for spec in await parts_of(reader, partitions):
        before = None
        for cursor, _ in reader.read(SOURCE, spec, None):
            assert reader.skip(SOURCE, spec, before) == cursor
            before = cursor


async def test_files_may_be_listed_or_named_by_the_runs_parameters_and_none_is_an_error(tmp_path):
    (tmp_path / "a.ndjson").write_text("1\n2\n")
    listed = batch.files([tmp_path / "a.ndjson", str(tmp_path / "a.ndjson")], batch.ndjson)
    assert await everything(listed) == [1, 2, 1, 2]
    named = batch.files(lambda params: str(tmp_path / params["which"]), batch.ndjson)
    source = replace(SOURCE, params={"which": "*.ndjson"})
    assert [part.total for part in await named.split(source, 1)] == [None]
    with pytest.raises(InvalidInput):
        await named.split(replace(SOURCE, params={"which": "*.csv"}), 1)


@pytest.mark.parametrize("partitions", [1, 2, 5])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_input_cut_by_a_key_has_all_of_one_key_in_one_partition_and_in_order(partitions, asynchronous):
    items = [{"who": n % 7, "n": n} for n in range(60)] + [{"n": 60}, Malformed("raw", "no")]

    async def later(params, cursor):
        for n in range(cursor or 0, len(items)):
            yield n + 1, items[n]

    reader = batch.hashed(batch.iterate(later) if asynchronous else batch.sequence(items), lambda item: item["who"])
    seen, malformed = [], []
    for spec in await parts_of(reader, partitions):
        read = reader.read(SOURCE, spec, None)
        found = [item async for _, item in read] if asynchronous else [item for _, item in read]
        seen.append([item for item in found if not isinstance(item, Malformed)])
        malformed += [item.error for item in found if isinstance(item, Malformed)]
    assert len(seen) == partitions and malformed == ["KeyError: 'who'", "no"]
    assert sorted(item["n"] for part in seen for item in part) == list(range(60))
    assert all([item["n"] for item in part] == sorted(item["n"] for item in part) for part in seen)
    assert all(sum(who in {item["who"] for item in part} for part in seen) == 1 for who in range(7))


async def test_what_nobody_can_cut_is_one_partition():
    reader = batch.iterate(lambda params, cursor: ((n + 1, n) for n in range(cursor or 0, 5)))
    assert await everything(reader, 3) == list(range(5))
    await assert_restartable(reader, 3)


def test_a_query_names_its_bounds():
    with pytest.raises(InvalidInput, match="until"):
        batch.query("select n from t where n > :after limit :limit", "select min(n), max(n) from t")


async def nothing(tx, rows):
    """A writer."""


async def another(tx, rows):
    """Another one."""


def test_a_jobs_name_is_one_jobs_and_a_module_may_be_imported_anew():
    made = batch.job("unit-once", read=batch.sequence([]), write=nothing)
    assert batch.job("unit-once", read=batch.sequence([]), write=nothing) is registry.named("unit-once") is not made
    with pytest.raises(JobExists):
        batch.job("unit-once", read=batch.sequence([]), write=another)
    with pytest.raises(UnknownJob):
        registry.named("unit-nobody")


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"retry": 0}, {"partitions": 0}, {"process": len, "process_chunk": len}])
def test_a_job_that_could_do_nothing_is_refused(wrong):
    with pytest.raises(InvalidInput):
        batch.job("unit-wrong", read=batch.sequence([]), write=nothing, **wrong)


def test_a_job_is_found_by_module_and_name():
    made = batch.job("unit-found", read=batch.sequence([]), write=nothing)
    assert registry.find(f"{__name__}:unit-found") is made
    for wrong in ("no-colon", "no.such.module:x", f"{__name__}:nothing-here"):
        with pytest.raises((InvalidInput, UnknownJob)):
            registry.find(wrong)
