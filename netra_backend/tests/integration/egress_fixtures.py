"""Listeners that must not be reached, names that are fixed, and a certificate authority of one test."""

from __future__ import annotations

import asyncio
import datetime as dt
import select
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Listener:
    """Listens on one port of every local address (or of one) and counts connections, which the kernel completes by itself."""

    def __init__(self, host=None, *, port=0, backlog=64):
        family = socket.AF_INET if host and ":" not in host else socket.AF_INET6
        self._socket = socket.socket(family)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        self._socket.bind((host or "::", port))
        self._socket.listen(backlog)
        self.port = self._socket.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    @contextmanager
    def filled(self):
        """The backlog is full meanwhile, so that a further connection is neither accepted nor refused."""
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
        try:
            yield
        finally:
            for filler in fillers:
                filler.close()

    def accepted(self):
        """How many connections stand in the backlog; a connection stands there before the client's connect returns."""
        count = 0
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.accept()[0].close()
            count += 1
        return count


class FixedNames:
    """A resolver of fixed answers that remembers what it was asked. Held, it answers after `release`, save for `free` names."""

    def __init__(self, names, *, held=False, free=("free.test",)):
        self.names = names
        self.asked = []
        self.waiting = 0
        self.most_waiting = 0
        self._free = free
        self._gate = asyncio.Event()
        if not held:
            self._gate.set()

    def release(self):
        self._gate.set()

    async def look_up(self, name):
        self.asked.append(name)
        if name not in self._free:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            try:
                await self._gate.wait()
            finally:
                self.waiting -= 1
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.names[name]

    async def close(self):
        self._gate.set()


class Certificates:
    """An authority and a server certificate for one name."""

    def __init__(self, folder, name):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "netra test authority")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._pem = folder / "certificate.pem"
        self._pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._key = folder / "key.pem"
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._key.write_bytes(key.private_bytes(*form))

    def trust(self):
        return ssl.create_default_context(cafile=str(self._pem))

    @asynccontextmanager
    async def server(self):
        """An HTTPS server that answers 200; yields its port and what it saw: names asked for (SNI), and request heads."""
        seen = {"sni": [], "head": []}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pem, self._key)
        context.sni_callback = lambda _, name, __: seen["sni"].append(name)

        async def serve(reader, writer):
            if head := await reader.read(65536):
                seen["head"].append(head)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            yield server.sockets[0].getsockname()[1], seen
