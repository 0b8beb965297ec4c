"""The misbehaving endpoint as a process: its ready line, its ledger, its signatures, its moods, its end."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from standardwebhooks import Webhook

from netra_backend.testing.behaviours import behaviour
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.signatures import SignatureCheck

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@contextmanager
def endpoint(*arguments):
    command = [sys.executable, "-m", "netra_backend.testing.endpoint", "--max-seconds", "60", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.ready = json.loads(process.stdout.readline())
            yield process
        finally:
            process.kill()


def post(url, body=b"{}", headers=()):
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def signed(secret, message_id, body, when=None):
    when = when or dt.datetime.now(dt.UTC)
    signature = Webhook(secret).sign(message_id, when, body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(int(when.timestamp())), "webhook-signature": signature}


def lines(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def test_the_ready_line_says_where_it_listens_and_sigterm_ends_it_cleanly():
    with endpoint() as process:
        ready = process.ready
        assert ready["event"] == "ready"
        assert ready["pid"] == process.pid
        assert f":{ready['port']}/" in ready["url"]
        assert post(ready["url"]) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_each_request_is_one_line_that_says_who_what_and_whether_the_signature_held(tmp_path):
    ledger = tmp_path / "ledger.ndjson"
    body = b'{"n":1}'
    with endpoint("--ledger", ledger, "--secret", OTHER, "--secret", SECRET) as process:
        url = process.ready["url"] + "?tenant=acme&endpoint=ep_1"
        post(url, body, {**signed(SECRET, "msg_1", body), "netra-attempt": "3"})
        post(url, b'{"n":2}', signed(SECRET, "msg_2", body))
        post(url, body, signed("whsec_" + "A" * 32, "msg_3", body))
        post(url, body, signed(SECRET, "msg_4", body, dt.datetime.now(dt.UTC) - dt.timedelta(minutes=6)))
        post(url, body)
        found = lines(ledger)
    assert [line["signature_ok"] for line in found] == [True, False, False, False, False]
    first = found[0]
    assert (first["webhook_id"], first["attempt"], first["tenant"], first["endpoint"]) == ("msg_1", "3", "acme", "ep_1")
    assert (first["sha256"], first["status"]) == (hashlib.sha256(body).hexdigest(), 200)
    assert abs(first["at_us"] / 1e6 - time.time()) < 60
    assert first["path"].endswith("?tenant=acme&endpoint=ep_1")


def test_what_was_answered_stands_in_the_ledger_after_sigkill(tmp_path):
    ledger = tmp_path / "ledger.ndjson"
    with endpoint("--ledger", ledger) as process:
        for number in range(20):
            post(process.ready["url"], headers={"webhook-id": f"msg_{number}"})
        process.kill()
        process.wait(10)
    assert [line["webhook_id"] for line in lines(ledger)] == [f"msg_{number}" for number in range(20)]


def test_sigusr1_heals_it(tmp_path):
    ledger = tmp_path / "ledger.ndjson"
    with endpoint("--behaviour", "503", "--ledger", ledger) as process:
        assert post(process.ready["url"]) == 503
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while post(process.ready["url"]) != 200:
            assert time.monotonic() < deadline
    statuses = [line["status"] for line in lines(ledger)]
    assert statuses[0] == 503
    assert statuses[-1] == 200


@pytest.mark.parametrize(
    ("arguments", "first"), [(("--behaviour", "500", "--heal-after", 0.5), 500), (("--behaviour", "ok", "--fail-for", 0.5), 503)]
)
def test_it_heals_after_a_while(arguments, first):
    with endpoint(*arguments) as process:
        assert post(process.ready["url"]) == first
        deadline = time.monotonic() + 10
        while post(process.ready["url"]) != 200:
            assert time.monotonic() < deadline


def test_it_ends_by_itself():
    with endpoint("--max-seconds", "0.2") as process:
        assert process.wait(10) == 0


def test_a_request_that_is_never_answered_is_written_down(tmp_path):
    ledger = tmp_path / "ledger.ndjson"
    with endpoint("--behaviour", "hang", "--ledger", ledger) as process:
        with socket.create_connection(("127.0.0.1", process.ready["port"])) as client:
            client.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nwebhook-id: msg_1\r\n\r\n{}")
            deadline = time.monotonic() + 10
            while not ledger.read_text():
                assert time.monotonic() < deadline
        (line,) = lines(ledger)
    assert (line["webhook_id"], line["status"]) == ("msg_1", None)


@pytest.mark.parametrize("arguments", [("--behaviour", "polite"), ("--secret", "whsec_*"), ("--behaviour", "999")])
def test_an_unknown_wish_is_a_usage_error(arguments):
    command = [sys.executable, "-m", "netra_backend.testing.endpoint", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert found.returncode == 2
    assert "error" in found.stderr


def test_statuses_can_change_after_a_number_of_requests():
    planned = behaviour("503-then-ok:2")
    assert [planned(seen).status for seen in range(4)] == [503, 503, 200, 200]


def test_without_a_secret_nothing_is_said_of_signatures():
    assert SignatureCheck([])({}, b"", 0) is None


async def test_in_process_it_lists_what_it_received_and_can_change_its_mood():
    async with MisbehavingEndpoint("410", secrets=[SECRET]) as here:
        reader_status = await _post_async(here.port, b"{}")
        here.behave("ok")
        healed_status = await _post_async(here.port, b"{}")
        received = await here.until(lambda all_of_them: len(all_of_them) == 2)
    assert (reader_status, healed_status) == (b"410", b"200")
    assert [one.status for one in received] == [410, 200]
    assert [one.body for one in received] == [b"{}", b"{}"]
    assert {one.signature_ok for one in received} == {False}


async def test_once_healed_it_does_not_fall_ill_again_when_a_planned_failure_comes_due():
    async with MisbehavingEndpoint("503") as here:
        here.behave_unless_healed("500")
        assert await _post_async(here.port, b"{}") == b"500"
        here.heal()
        here.behave_unless_healed("500")
        assert await _post_async(here.port, b"{}") == b"200"


async def test_pipelined_and_broken_requests_are_told_apart():
    async with MisbehavingEndpoint() as here:
        assert await _post_async(here.port, b"a", times=3) == b"200"
        assert len(await here.until(lambda found: len(found) == 3)) == 3
        assert await _send_async(here.port, b"nonsense\r\n\r\n") == b"400"


async def _post_async(port, body, times=1):
    return await _send_async(port, b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body) * times)


async def _send_async(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    status = (await reader.readline()).split(b" ")[1]
    writer.close()
    await writer.wait_closed()
    return status
