"""A message that arrives several times has its effect once, in the transaction of the effect, on every engine."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.webhooks.inbox import Received, receive
from netra_backend.webhooks.keys import decode_secret
from netra_backend.webhooks.signing import SignatureMismatch, signature_header

from ..support.storage import opened
from ..support.webhooks import in_tenant

ACME, GLOBEX = in_tenant("acme"), in_tenant("globex")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"n":1}'


def request_of(database, message_id="msg_1"):
    now_s = database._runtime.clock.wall_us() // 1_000_000
    signature = signature_header([decode_secret(SECRET)], message_id, now_s, BODY)
    return {"webhook-id": message_id, "webhook-timestamp": str(now_s), "webhook-signature": signature}


async def news(database, *requests, scope=ACME, **options):
    async def each(tx):
        return [(await receive(tx, request, BODY, SECRET, **options)).new for request in requests]

    return await database.write(each, scope=scope)


async def test_a_message_is_new_once_for_a_tenant_and_a_source(database):
    request = request_of(database)
    assert await news(database, request, request) == [True, False]
    assert await news(database, request) == [False]
    assert await news(database, request, source="other") == [True]
    assert await news(database, request, scope=GLOBEX) == [True]
    assert await news(database, request_of(database, "msg_2")) == [True]


async def test_what_is_received_is_told(database):
    received = await database.write(receive, request_of(database), BODY, SECRET, scope=ACME)
    assert received == Received(new=True, id="msg_1", payload={"n": 1})


async def test_a_request_that_does_not_verify_takes_no_id(database):
    request = request_of(database)
    with pytest.raises(SignatureMismatch):
        await database.write(receive, request, b"{}", SECRET, scope=ACME)
    assert await news(database, request) == [True]


async def test_a_rollback_gives_the_id_back(database):
    request = request_of(database)

    async def fails(tx):
        assert (await receive(tx, request, BODY, SECRET)).new
        raise InvalidInput("the effect failed")

    with pytest.raises(InvalidInput, match="the effect failed"):
        await database.write(fails, scope=ACME)
    assert await news(database, request) == [True]


async def test_of_copies_that_arrive_at_once_one_is_new(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        request = request_of(ours)
        answers = await asyncio.gather(*(news(door, request) for door in (ours, theirs) * 4))
    assert sorted(answers) == [[False]] * 7 + [[True]]


@pytest.mark.parametrize("source", ["x" * 65, "a\nb", "\x00"])
async def test_a_source_that_cannot_be_stored_is_refused(database, source):
    with pytest.raises(InvalidInput, match="source"):
        await database.write(receive, request_of(database), BODY, SECRET, scope=ACME)
        await news(database, request_of(database, "msg_2"), source=source)
