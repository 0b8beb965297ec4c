"""POST /orders stores an order and sends its webhook, both or neither."""

from __future__ import annotations

import json

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.urls import path

from .models import Order, Stock
from .platform import netra

KEYS = {"key-of-acme": "acme"}


def tenant_of(request: HttpRequest) -> str | None:
    """Whose API key it is."""
    return KEYS.get(request.headers.get("x-api-key", ""))


def take_order(request: HttpRequest) -> JsonResponse:
    """One transaction: the stock, the order, and what the tenant's customers are told of it."""
    new = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(item=new["item"], pieces=new["pieces"])
            tx = netra.adopt(connection)  # the tenant and the trace are the request's
            netra.sync.webhooks.send(tx, "order.made", {"order": order.pk, **new})
            Stock.objects.filter(item=new["item"]).update(pieces=F("pieces") - new["pieces"])
    except IntegrityError:
        return JsonResponse({"error": f"there are not so many of {new['item']}"}, status=409)
    return JsonResponse({"order": order.pk}, status=201)


urlpatterns = [path("orders", take_order)]
