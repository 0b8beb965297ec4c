"""A shop on the standard library's `sqlite3`, without a framework and without an event loop.

    python -m examples.plain_sqlite

The order and its webhook are one transaction on the shop's own connection: there is a message if and only if there is the
order. Netra runs beside it, on a thread of its own, and never begins or commits anything on that connection.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing

from netra_backend import Netra

from .receiver import Receiver, add_endpoint

TENANT = "acme"
SCHEMA = """
create table stock (item text primary key, pieces integer not null check (pieces >= 0));
create table orders (id integer primary key, item text not null, pieces integer not null);
insert into stock values ('kettle', 5), ('teapot', 2);
"""


def take_order(netra: Netra, connection: sqlite3.Connection, item: str, pieces: int) -> None:
    """One transaction: the stock, the order, and what the tenant's customers are told of it."""
    connection.execute("begin immediate")
    try:
        order = connection.execute("insert into orders (item, pieces) values (?, ?) returning id", (item, pieces)).fetchone()[0]
        tx = netra.adopt(connection, tenant=TENANT)
        netra.sync.webhooks.send(tx, "order.made", {"order": order, "item": item, "pieces": pieces}, event_id=f"order-{order}-{item}")
        connection.execute("update stock set pieces = pieces - ? where item = ?", (pieces, item))
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def main() -> None:
    """Three orders, one of which there is not enough stock for."""
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver:
        url = f"sqlite:///{folder}/shop.db"
        with Netra(url, data=folder, dev=True) as netra, closing(sqlite3.connect(f"{folder}/shop.db", isolation_level=None)) as connection:
            connection.executescript(SCHEMA)
            netra.sync.tenant(TENANT)
            receiver.secret = add_endpoint(url, folder, TENANT, receiver.url)
            for item, pieces in (("kettle", 2), ("teapot", 9), ("teapot", 1)):
                try:
                    take_order(netra, connection, item, pieces)
                    print(f"committed: {pieces} x {item}")
                except sqlite3.IntegrityError:
                    print(f"rolled back, and its message with it: {pieces} x {item}")
            for order in sorted(receiver.wait(2), key=lambda each: each["order"]):
                print(f"delivered: {order['pieces']} x {order['item']}")
        print(f"{len(receiver.orders)} messages for 2 orders")


if __name__ == "__main__":
    main()
