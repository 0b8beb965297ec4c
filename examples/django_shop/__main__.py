"""Make the tables, order three times, and print what became of it and what the cache said before and after."""

from __future__ import annotations

import os
import tempfile

import django

from ..receiver import Receiver, add_endpoint

ORDERS = (("kettle", 2), ("teapot", 9), ("teapot", 1))


def main() -> None:
    """Three orders, one of which there is not enough stock for."""
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver:
        os.environ |= {"SHOP_DATA": folder, "DJANGO_SETTINGS_MODULE": "examples.django_shop.settings"}
        django.setup()
        run(folder, receiver)


def run(folder: str, receiver: Receiver) -> None:
    """What needs Django to be set up."""
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from .models import Stock
    from .platform import netra

    with netra:
        call_command("migrate", run_syncdb=True, verbosity=0)
        Stock.objects.bulk_create([Stock(item="kettle", pieces=5), Stock(item="teapot", pieces=2)])
        netra.sync.tenant("acme")
        receiver.secret = add_endpoint(f"sqlite:///{folder}/shop.db", folder, "acme", receiver.url)
        client = Client(headers={"x-api-key": "key-of-acme"})
        stock = []
        for item, pieces in ORDERS:
            before = client.get(f"/stock/{item}").json()["pieces"]
            answer = client.post("/orders", {"item": item, "pieces": pieces}, content_type="application/json")
            done = "committed" if answer.status_code == 201 else "rolled back, and its message with it"
            print(f"{done}: {pieces} x {item}")
            stock.append(f"{item} {before}, then {client.get(f'/stock/{item}').json()['pieces']}")
        for order in sorted(receiver.wait(2), key=lambda each: each["order"]):
            print(f"delivered: {order['pieces']} x {order['item']}")
        connection.close()
    print(f"{len(receiver.orders)} messages for 2 orders")
    print(f"in stock, as the cache had it: {'; '.join(stock)}")


if __name__ == "__main__":
    main()
