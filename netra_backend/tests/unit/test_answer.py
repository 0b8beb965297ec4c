"""Answers as bytes: where each one ends, what is kept of it, and when the connection may serve another request."""

from __future__ import annotations

import pytest

from netra_backend.resilience.addresses import EgressRules
from netra_backend.resilience.answer import MAX_FIELD_BYTES, MAX_FIELDS, Answer
from netra_backend.resilience.egress_error import EgressError
from netra_backend.resilience.exchange import Exchange

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\nok"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def answer(method="POST", limit=100):
    return Answer(Exchange("t", 80, EgressRules(), 1), method, limit)


def fed(*pieces, method="POST", limit=100):
    one = answer(method, limit)
    for piece in pieces:
        if not one.arrived.done():
            one.feed(piece)
    return one


def kind(one):
    error = one.arrived.exception()
    assert isinstance(error, EgressError)
    assert error.sent
    return error.kind


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize(
    "data", [WHOLE, CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + WHOLE]
)
async def test_an_answer_is_the_same_however_it_is_cut(data):
    for pieces in ([data], bytewise(data)):
        one = fed(*pieces)
        assert one.arrived.result() is None
        assert (one.status, bytes(one.body), one.truncated, one.reusable) == (200, b"ok", False, True)
        assert len(one.fields) == 1


async def test_fields_of_interim_answers_and_of_trailers_are_not_the_answers():
    one = fed(b"HTTP/1.1 100 Continue\r\nx-interim: 1\r\n\r\n" + CHUNKED + b"1\r\no\r\n0\r\nx-trailer: 1\r\n\r\n")
    assert [name for name, _ in one.fields] == [b"transfer-encoding"]


async def test_an_interim_answer_is_no_answer():
    assert not fed(b"HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n").arrived.done()


@pytest.mark.parametrize(
    "behind", [WHOLE, b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", b"garbage", OK]
)
async def test_whatever_stands_behind_an_answer_ends_the_connection_and_not_the_answer(behind):
    one = fed(WHOLE + behind)
    assert one.arrived.exception() is None
    assert (one.status, bytes(one.body), one.reusable) == (200, b"ok", False)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_body_ends_at_its_head(status):
    one = fed(b"HTTP/1.1 %d Status\r\ncontent-length: 10\r\n\r\n" % status)
    assert (one.arrived.result(), one.status, one.body, one.truncated, one.reusable) == (None, status, b"", False, True)


async def test_an_answer_to_head_ends_at_its_head():
    one = fed(OK + b"content-length: 10\r\n\r\n", method="HEAD")
    assert (one.arrived.result(), one.truncated, one.reusable) == (None, False, False)


async def test_a_body_without_length_ends_with_the_connection():
    one = fed(OK + b"\r\n", b"some")
    assert not one.arrived.done()
    one.ended(None)
    assert (one.arrived.result(), bytes(one.body), one.reusable) == (None, b"some", False)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (OK + b"\r\nsome", OSError("reset")),
        (OK + b"content-length: 9\r\n\r\nsome", None),
        (CHUNKED + b"9\r\nsome", None),
        (OK, None),
        (b"", None),
    ],
)
async def test_an_answer_that_breaks_off_is_a_reset(data, error):
    one = fed(data)
    one.ended(error)
    assert kind(one) == "reset"


@pytest.mark.parametrize("size", [99, 100, 101, 250])
async def test_a_body_is_cut_at_the_limit_however_it_comes(size):
    body = b"x" * size
    for framed in (OK + b"content-length: %d\r\n\r\n%b" % (size, body), CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)):
        one = fed(framed)
        assert (one.arrived.result(), bytes(one.body), one.truncated, one.reusable) == (None, body[:100], size > 100, size <= 100)


async def test_a_body_that_goes_on_beyond_the_limit_is_not_waited_for():
    one = fed(OK + b"content-length: 1000\r\n\r\n" + b"x" * 100)
    assert (one.arrived.result(), len(one.body), one.truncated, one.reusable) == (None, 100, True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff no HTTP\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"a b: c\r\n\r\n",
        CHUNKED + b"g\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        OK + b"x: 1\r\n" * (MAX_FIELDS + 2),
        OK + b"x: " + b"y" * MAX_FIELD_BYTES + b"\r\n\r\n",
    ],
)
async def test_what_is_not_one_answer_is_a_protocol_error(data):
    assert kind(fed(data)) == "protocol"
    assert kind(fed(*bytewise(data))) == "protocol"


async def test_as_many_fields_as_are_allowed_are_an_answer():
    one = fed(OK + b"x: 1\r\n" * (MAX_FIELDS - 1) + b"content-length: 0\r\n\r\n")
    assert (one.arrived.result(), len(one.fields)) == (None, MAX_FIELDS)


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n", OK + b"connection: close\r\n"])
async def test_a_connection_that_the_receiver_ends_is_not_kept(head):
    one = fed(head + b"content-length: 2\r\n\r\nok")
    assert (one.arrived.result(), one.reusable) == (None, False)
