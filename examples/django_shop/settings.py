"""The project's settings. SHOP_DATA names the folder of its database."""

from __future__ import annotations

import os

SHOP_DATA = os.environ["SHOP_DATA"]
SECRET_KEY = "an example's"  # noqa: S105  (it signs nothing)
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["examples.django_shop"]
ROOT_URLCONF = "examples.django_shop.views"
MIDDLEWARE = ["netra_backend.integrations.django.NetraMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{SHOP_DATA}/shop.db",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
CACHES = {"default": {"BACKEND": "netra_backend.integrations.django_cache.NetraCache", "TIMEOUT": 600, "KEY_PREFIX": "shop"}}
DATABASE_ROUTERS = ["netra_backend.integrations.django.NetraRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
NETRA = "examples.django_shop.platform.netra"
NETRA_TENANT = "examples.django_shop.views.tenant_of"
