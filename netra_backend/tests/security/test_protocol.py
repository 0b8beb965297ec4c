"""What arrives before there is a request: heads without end, slow clients, and bytes on which two parsers might disagree."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from ..support.server import served_over


async def answering(scope, receive, send):
    """Reads the whole body and answers its length."""
    size, more = 0, True
    while more:
        part = await receive()
        if part["type"] == "http.disconnect":
            return
        size, more = size + len(part["body"]), part["more_body"]
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def refusing(scope, receive, send):
    """Answers without reading the body."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def exchange(place, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send the parts, read until the server closes."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
CLOSE = b"connection: close\r\n\r\n"


@pytest.fixture
async def place():
    async with served_over(answering, head_s=5.0, body_s=5.0) as place:
        yield place


async def test_a_request_within_its_bounds_is_answered(place):
    headers = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 500) for n in range(90))
    assert (await exchange(place, GET + headers + CLOSE)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x: " + b"y" * 70_000 + b"\r\n" + CLOSE,
        GET + b"".join(b"x-%d: y\r\n" % n for n in range(101)) + CLOSE,
        b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n" + CLOSE,
        GET + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(80)) + CLOSE,
    ],
    ids=["one long header", "too many headers", "long request line", "too long in all"],
)
async def test_a_head_beyond_its_bounds_is_a_431(place, head):
    assert (await exchange(place, head)).startswith(b"HTTP/1.1 431")


async def test_a_header_that_never_ends_is_cut_off(place):
    async def pour():
        reader, writer = await asyncio.open_connection(*place)
        sent = 0
        try:
            writer.write(GET + b"x: ")
            while sent < 8 * 1024 * 1024:
                writer.write(b"y" * 32768)
                sent += 32768
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
        return sent, reader

    sent, _ = await pour()
    assert sent < 8 * 1024 * 1024


async def test_a_head_that_takes_too_long_is_a_408():
    async with served_over(answering, head_s=0.2, body_s=5.0) as place:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await exchange(place, *[bytes([byte]) for byte in GET[:8]], pause_s=0.01)
        assert answer.startswith(b"HTTP/1.1 408")
        assert loop.time() - began < 3


async def test_a_connection_that_says_nothing_is_closed_without_a_word():
    async with served_over(answering, head_s=0.2) as place:
        assert await exchange(place) == b""


async def test_a_body_that_takes_too_long_is_a_408():
    async with served_over(answering, head_s=5.0, body_s=0.2) as place:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
        assert (await exchange(place, head, b"x", b"x", b"x", pause_s=0.05)).startswith(b"HTTP/1.1 408")


async def test_a_body_that_nobody_reads_is_cut_off_too_and_answered_once():
    async with served_over(refusing, head_s=5.0, body_s=0.3) as place:
        answer = await exchange(place, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n", b"x")
        assert answer.startswith(b"HTTP/1.1 413")
        assert answer.count(b"HTTP/1.1") == 1


async def test_an_early_refusal_reaches_a_client_that_sends_on():
    async with served_over(refusing, head_s=5.0, body_s=10.0) as place:
        reader, writer = await asyncio.open_connection(*place)
        size = 4 * 1024 * 1024
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GET + CLOSE)  # and the connection goes on
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_large_body_has_time_for_as_long_as_it_moves():
    async with served_over(answering, head_s=5.0, body_s=0.4) as place:
        size = 3 * 1024 * 1024
        head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size
        parts = [b"x" * (size // 6)] * 6
        answer = await exchange(place, head, *parts, pause_s=0.1)  # 0.7 s in all, past the time of the first MiB
        assert answer.startswith(b"HTTP/1.1 200")


LARGE = 32 * 1024 * 1024
"""More than the sockets of both sides hold, where the client's is a small one."""


async def at_length(send):
    """Answers, and returns when that was taken, or the connection is over."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
    await send({"type": "http.response.body", "body": bytes(LARGE), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def slowly_connected(place):
    """A connection whose client holds next to nothing that it has not read."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, place)
    return await asyncio.open_connection(sock=small)


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off():
    over = asyncio.Event()

    async def app(scope, receive, send):
        await at_length(send)
        over.set()

    async with served_over(app, head_s=5.0, body_s=0.2) as place:
        reader, writer = await slowly_connected(place)
        writer.write(GET + CLOSE)
        await asyncio.wait_for(over.wait(), 60)
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < LARGE
        writer.close()


async def test_a_client_that_takes_its_time_but_takes_gets_all_of_its_answer():
    async def app(scope, receive, send):
        await at_length(send)

    async with served_over(app, head_s=5.0, body_s=2.0) as place:
        reader, writer = await slowly_connected(place)
        writer.write(GET + CLOSE)
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(16):
            await reader.readexactly(LARGE // 16)
            await asyncio.sleep(0.15)  # 2.4 s in all, past the time of the first MiB
        writer.close()


POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
SMUGGLED = {
    "both lengths": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "a length with a sign": POST + b"content-length: +5\r\n\r\nhello",
    "an unknown coding": POST + b"transfer-encoding: chunked, x\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"content-length : 5\r\n\r\nhello",
    "a folded header": GET + b"x: a\r\n b\r\n" + CLOSE,
    "a bare carriage return": GET + b"x: a\rb: c\r\n" + CLOSE,
    "a NUL in a header": GET + b"x: a\x00b\r\n" + CLOSE,
    "a chunk size that is none": POST + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "a huge chunk size": POST + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 20,
    "a tunnel": b"CONNECT / HTTP/1.1\r\nhost: x\r\n\r\n" + GET + CLOSE,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_two_parsers_could_read_differently_is_refused(place, name):
    answer = await exchange(place, SMUGGLED[name])
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408")), answer[:200]
    assert answer.count(b"HTTP/1.1 200") == 0


async def test_pipelined_requests_are_answered_in_order(place):
    first = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    second = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nabcde"
    answer = await exchange(place, first + second)
    assert sizes(answer) == [b"3", b"5"]


def sizes(answer: bytes) -> list[bytes]:
    """The length of each body, as `answering` saw it."""
    return [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200")[1:]]


WISHES = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "websocket": b"upgrade: websocket\r\nconnection: keep-alive, upgrade\r\n",
}


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "the body later"])
@pytest.mark.parametrize("wish", WISHES)
async def test_a_body_stays_a_body_where_another_protocol_was_asked_for(place, wish, apart):
    inner = GET + b"\r\n"
    lengths = b"content-length: %d\r\n\r\n" % len(inner), b"transfer-encoding: chunked\r\n\r\n"
    bodies = inner, b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    for length, body in zip(lengths, bodies, strict=True):
        head = b"POST / HTTP/1.1\r\nhost: x\r\n" + WISHES[wish] + length
        parts = (head, body, GET + CLOSE) if apart else (head + body + GET + CLOSE,)
        assert sizes(await exchange(place, *parts, pause_s=0.05 if apart else 0.0)) == [b"%d" % len(inner), b"0"]


async def test_a_thousand_wishes_in_one_read_are_a_thousand_requests(place):
    wishing = GET + WISHES["h2c"] + b"\r\n"
    assert sizes(await exchange(place, wishing * 1000 + GET + CLOSE)) == [b"0"] * 1001


async def test_a_head_that_asks_for_another_protocol_keeps_its_bounds(place):
    long = WISHES["h2c"] + b"x: " + b"y" * 70_000 + b"\r\n"
    many = WISHES["h2c"] + b"".join(b"x-%d: y\r\n" % n for n in range(98))
    for head in (long, many):
        assert (await exchange(place, GET + head + CLOSE)).startswith(b"HTTP/1.1 431")
    within = WISHES["h2c"] + b"".join(b"x-%d: y\r\n" % n for n in range(90))
    assert sizes(await exchange(place, GET + within + b"\r\n" + GET + CLOSE)) == [b"0", b"0"]


async def test_a_connection_may_idle_between_requests_longer_than_a_head_may_take():
    async with served_over(answering, head_s=0.2, body_s=0.2) as place:
        reader, writer = await asyncio.open_connection(*place)
        for _ in range(3):
            writer.write(GET + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"\r\n\r\n0")
            await asyncio.sleep(0.4)  # idleness is what is tried here
        writer.close()
