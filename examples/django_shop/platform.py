"""The process's one Netra, on the database that Django uses; whoever serves the project enters it."""

from __future__ import annotations

from django.conf import settings

from netra_backend import Netra

netra = Netra(f"sqlite:///{settings.SHOP_DATA}/shop.db", data=settings.SHOP_DATA, dev=True)
