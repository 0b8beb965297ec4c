"""POST /orders stores an order, sends its webhook and drops the cached stock, all or nothing; GET /stock/ITEM reads it from the cache."""

from __future__ import annotations

import json

from django.core.cache import cache
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
            netra.sync.cache.invalidate(tx, f"stock:{new['item']}")
            Stock.objects.filter(item=new["item"]).update(pieces=F("pieces") - new["pieces"])
    except IntegrityError:
        return JsonResponse({"error": f"there are not so many of {new['item']}"}, status=409)
    return JsonResponse({"order": order.pk}, status=201)


def stock_of(request: HttpRequest, item: str) -> JsonResponse:
    """What is cached of it depends on the name that an order invalidates."""
    del request
    pieces = cache.get_or_set(item, lambda: Stock.objects.get(item=item).pieces, depends_on=[f"stock:{item}"])
    return JsonResponse({"pieces": pieces})


urlpatterns = [path("orders", take_order), path("stock/<item>", stock_of)]
