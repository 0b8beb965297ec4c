"""Serving: a free port, one word when ready, and a drain that loses nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import signal
import ssl
import sys
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from netra_backend.errors import CannotStart
from netra_backend.server.serve import listen, run, url_of

from ...support.server import API, OPERATOR, message, new_netra, serving
from ...support.storage import Gate, eventually

PROGRAM = """
import sys
from netra_backend import Netra
from netra_backend.server.serve import ensure_operator_key, run, serve

async def main(folder):
    async with Netra(f"sqlite:///{folder}/netra.db", data=folder, disk_reserve_bytes=0, environ={}) as netra:
        print(await ensure_operator_key(netra), flush=True)
        await serve(netra, "127.0.0.1", 0, dev=False, on_ready=lambda url: print(url, flush=True))
    print("left", flush=True)

run(main(sys.argv[1]))
"""
KEY = {"authorization": f"Bearer {OPERATOR}"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_the_caller_goes_on(tmp_path, number):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(tmp_path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        key = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}) as client:
            assert (await client.post(f"{API}/app", json={"name": "n", "uid": "acme"})).status_code == 201
            assert (await client.get("/metrics")).status_code == 200
            process.send_signal(number)
            rest, errors = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, rest.decode().strip()) == (0, "left"), errors.decode()[-2000:]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/ready")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_request_under_way_is_answered_before_the_end(netra):
    gate = Gate()
    async with serving(netra) as url, httpx.AsyncClient(base_url=url, headers=KEY) as client:
        await client.post(f"{API}/app", json={"name": "n", "uid": "acme"})
        async with gate.closed(netra.database):
            sending = asyncio.create_task(message(client))
            await eventually(lambda: [job for job in netra.database.writer._lanes["normal"] if job.weight])  # the message, not a beat
            leaving = asyncio.create_task(_leave(url))
            await leaving
        assert (await sending)["eventType"] == "thing.happened"


async def _leave(url):
    """Ask for the end the way an operator does, in this process: a signal to it."""
    import os

    os.kill(os.getpid(), signal.SIGTERM)

    async def closed():
        try:
            async with httpx.AsyncClient() as other:
                await other.get(f"{url}/ready")
        except httpx.ConnectError:
            return True
        return False

    await eventually(closed)


def test_an_address_that_is_taken_is_a_clear_error():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"cannot listen on 127.0.0.1:{port}") as refused:
            listen("127.0.0.1", port)
        assert "--port" in refused.value.fix
        assert url_of(taken, "127.0.0.1") == f"http://127.0.0.1:{port}"


def test_an_ipv6_address_is_written_in_brackets():
    with listen("::1", 0) as listener:
        assert url_of(listener, "::1") == f"http://[::1]:{listener.getsockname()[1]}"


def test_run_uses_the_loop_that_was_measured():
    async def loop_name():
        return type(asyncio.get_running_loop()).__module__

    assert run(loop_name()) == "uvloop"


async def test_the_wire_says_who_may_and_what_is_json(netra):
    async with serving(netra) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get(f"{API}/app")
        assert (answer.status_code, "server" in answer.headers, "date" in answer.headers) == (401, False, True)
        many = b'{"eventType":"a.b","payload":{"x":' + b"[" * 100_000
        assert (await client.post(f"{API}/app/acme/msg", content=many)).status_code == 401
        head = await client.get("/openapi.json")
        assert json.loads(head.content)["openapi"].startswith("3.")


def certificate(folder: Path) -> Path:
    """A certificate for this host and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tls.pem").write_bytes(made.public_bytes(Encoding.PEM) + private)
    return folder / "tls.pem"


async def test_with_a_certificate_it_speaks_tls_only_and_shows_its_pages_to_anybody(tmp_path):
    file = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=file)
    async with new_netra(tmp_path, tls_certificate=str(file)) as netra, serving(netra) as url:
        assert url.startswith("https://127.0.0.1:")
        async with httpx.AsyncClient(base_url=url, verify=trusting) as client:
            assert (await client.get("/ui/login", headers={"host": "hooks.example.com"})).status_code == 200
        async with httpx.AsyncClient() as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get(url.replace("https", "http") + "/ready")


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_certificate_that_is_of_no_use_is_told_before_the_port_is_taken(tmp_path, content):
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_text(content)
    async with new_netra(tmp_path, tls_certificate=str(file)) as netra:
        with pytest.raises(CannotStart, match="cannot be used"):
            async with serving(netra):
                pass
