"""What can be wrong with a cached value, a key or a load."""

from __future__ import annotations

from ..errors import InvalidInput, NetraError, UsageError


class CycleRefused(UsageError):
    """A cached value would depend on itself."""

    code = "cache_cycle"
    fix = "Depend on what both are made from, in place of on each other."


class NotCacheable(InvalidInput):
    """The value cannot be stored by this serializer."""

    code = "not_cacheable"
    fix = "Return what JSON can say, use serializer='msgpack' with a msgspec type, or serializer='raw' for bytes."


class LoadTimeout(NetraError):
    """The loader took longer than its hard limit, and no older value may be served."""

    code = "cache_load_timeout"
    status = 504
    fix = "Make the loader quicker, raise `hard_timeout`, or allow an older value with `stale_for`."


class NoLoad(UsageError):
    """`depends` and `expires` say something about a load, and none is under way here."""

    code = "cache_no_load"
    fix = "Call it inside the function that a cached call or `get_or_load` runs."
