"""A slice is the source text of exactly that value, whatever the spacing, the escapes and the spelling of numbers."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_backend.server import json_slice
from netra_backend.server.errors import DuplicateMember, MalformedBody

SPACE = st.text(" \t\n\r", max_size=3)
INTEGER = st.integers(-(10**18), 10**18).map(str)
NUMBER = st.one_of(INTEGER, st.sampled_from(["-0", "1.0e0", "1E+2", "0.10", "12345678901234567890123456789", "1e-400", "3.0000"]))
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=0x20), max_size=8)
ESCAPE = st.sampled_from([r"\"", r"\\", r"\/", r"\b", r"\n", r"A", r"é", r"😀", r"\\u0000", "}", "]", ",", ":"])
STRING = st.lists(st.one_of(PLAIN, ESCAPE), max_size=4).map(lambda parts: '"' + "".join(parts) + '"')
SCALAR = st.one_of(NUMBER, STRING, st.sampled_from(["true", "false", "null"]))


@st.composite
def array(draw, inner):
    items = draw(st.lists(inner, max_size=4))
    gap = lambda: draw(SPACE)  # noqa: E731  (each use draws anew)
    return "[" + gap() + ",".join(gap() + item + gap() for item in items) + gap() + "]"


@st.composite
def members(draw, inner, names=STRING):
    pairs = draw(st.lists(st.tuples(names, inner), max_size=5, unique_by=lambda pair: json.loads(pair[0])))
    gap = lambda: draw(SPACE)  # noqa: E731
    text = "{" + gap() + ",".join(gap() + name + gap() + ":" + gap() + value + gap() for name, value in pairs) + gap() + "}"
    return text, [(json.loads(name), value) for name, value in pairs]


def objects(inner):
    return members(inner).map(lambda made: made[0])


VALUE = st.recursive(SCALAR, lambda inner: st.one_of(array(inner), objects(inner)), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(members(VALUE), SPACE, SPACE)
def test_each_slice_is_the_source_of_its_member(made, before, after):
    text, pairs = made
    text = before + text + after
    json_slice.parse(text.encode())
    spans = json_slice.object_members(text)
    assert [(name, text[start:end]) for name, (start, end) in spans.items()] == pairs


@settings(max_examples=100, deadline=None)
@given(st.lists(members(VALUE), max_size=4), SPACE)
def test_each_slice_of_a_batch_is_the_source_of_its_member(batch, space):
    text = space + "[" + ",".join(space + text + space for text, _ in batch) + space + "]"
    json_slice.parse(text.encode())
    found = [[(name, text[start:end]) for name, (start, end) in spans.items()] for spans in json_slice.array_of_objects(text)]
    assert found == [pairs for _, pairs in batch]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | VALUE.map(lambda text: text.encode()[:-1]) | VALUE.map(lambda text: text.encode() + b"x"))
def test_what_is_not_json_is_refused_and_nothing_else_happens(body):
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        with pytest.raises(MalformedBody):
            json_slice.parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1}x',
        b'{"a":1,}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a":"\x00"}',
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":"\\\\\\u0000"}',
        b'\xef\xbb\xbf{"a":1}',
        b"{'a':1}",
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_each_of_these_is_refused(body):
    with pytest.raises(MalformedBody):
        json_slice.parse(body)


def test_an_escaped_backslash_before_u0000_is_not_a_nul():
    assert json_slice.parse(rb'{"a":"\\u0000"}') == {"a": r"\u0000"}


def test_nesting_that_one_pass_allows_and_the_other_does_not_is_refused_cleanly():
    body = b'{"payload":' + b"[" * 1020 + b"]" * 1020 + b"}"
    json_slice.parse(body)
    try:
        json_slice.object_members(body.decode())
    except MalformedBody as error:
        assert "deeply" in error.detail


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":1,"b":{},"\\u0061":2}', '{"a":1, "a" :1}'])
def test_a_member_that_comes_twice_is_refused(text):
    with pytest.raises(DuplicateMember) as refused:
        json_slice.object_members(text)
    assert refused.value.facts == {"member": "a"}


def test_a_member_that_comes_twice_further_down_is_the_payloads_own_business():
    text = '{"payload":{"a":1,"a":2}}'
    (start, end) = json_slice.object_members(text)["payload"]
    assert text[start:end] == '{"a":1,"a":2}'
