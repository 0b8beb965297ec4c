"""The shop's tables."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Stock(models.Model):
    """What there is of an item."""

    item = models.CharField(max_length=80, primary_key=True)
    pieces = models.IntegerField()

    class Meta:
        """Never less than nothing."""

        constraints: ClassVar = [models.CheckConstraint(condition=models.Q(pieces__gte=0), name="not_less_than_nothing")]

    def __str__(self) -> str:
        return f"{self.pieces} x {self.item}"


class Order(models.Model):
    """What was ordered."""

    item = models.CharField(max_length=80)
    pieces = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.pieces} x {self.item}"
