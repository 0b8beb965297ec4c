"""Netra: the reliability backend of SaaS and AI platforms. Public names only, loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import batch, oauth, webhooks
    from .errors import NetraError
    from .netra import Netra
    from .observability.kpi.model import Event

__all__ = ["Event", "Netra", "NetraError", "batch", "oauth", "webhooks"]
__version__ = "0.1.0.dev0"

_HOMES: Final = {"Event": ".observability.kpi.model", "Netra": ".netra", "NetraError": ".errors"}
_PARTS: Final = frozenset({"batch", "oauth", "webhooks"})


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
