"""Serve the application, order three times, and print what became of it."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine, text

from ..receiver import Receiver, add_endpoint
from .app import make_app

KEYS = {"key-of-acme": "acme"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a free port; its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()  # what connects before it is ready waits in the socket's backlog
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def order(address: str, item: str, pieces: int) -> str:
    """POST /orders as a client of acme's."""
    headers = {"content-type": "application/json", "x-api-key": "key-of-acme", "traceparent": TRACEPARENT}
    body = json.dumps({"item": item, "pieces": pieces}).encode()
    request = urllib.request.Request(f"{address}/orders", body, headers)  # noqa: S310  (an address of our own)
    try:
        with urllib.request.urlopen(request, timeout=20):  # noqa: S310  (as above)
            return f"committed: {pieces} x {item}"
    except urllib.error.HTTPError as refused:
        return f"rolled back, and its message with it: {pieces} x {item} ({refused.code})"


def main() -> None:
    """Three orders, one of which there is not enough stock for."""
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver:
        path = f"{folder}/shop.db"
        with served(make_app(path, folder, KEYS)) as address:
            order(address, "nothing", 0)  # acme's first message makes the tenant; nobody listens yet
            receiver.secret = add_endpoint(f"sqlite:///{path}", folder, "acme", receiver.url)
            engine = create_engine(f"sqlite:///{path}")
            with engine.begin() as connection:
                connection.execute(text("insert into stock values ('kettle', 5), ('teapot', 2)"))
            for item, pieces in (("kettle", 2), ("teapot", 9), ("teapot", 1)):
                print(order(address, item, pieces))
            for each in sorted(receiver.wait(2), key=lambda each: each["order"]):
                print(f"delivered: {each['pieces']} x {each['item']}")
            with engine.begin() as connection:
                traces = connection.execute(text("select distinct trace_id from netra_message")).scalars().all()
            engine.dispose()
        print(f"{len(receiver.orders)} messages for 2 orders, in the trace of their requests: {', '.join(traces)}")


if __name__ == "__main__":
    main()
