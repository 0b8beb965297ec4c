"""Values as bytes: JSON by orjson, msgpack through msgspec, or bytes as they are. Never pickle.

What a load returns goes through its codec once, whether or not it is shared: so everybody gets the same value, the first
caller included, and nobody keeps a reference to an object that the loader goes on changing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

import orjson

from ..errors import UsageError
from .errors import NotCacheable

Serializer = Literal["json", "msgpack", "raw"]


@dataclass(frozen=True, slots=True)
class Codec:
    """`encode` and `decode` of one serializer, for values of one type."""

    tag: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def pass_through(self, value: Any) -> tuple[Any, bytes]:
        """The value as everybody will see it, and its bytes; `NotCacheable` where it has none."""
        try:
            data = self.encode(value)
            return self.decode(data), data
        except NotCacheable:
            raise
        except Exception as error:
            raise NotCacheable(f"{type(value).__name__} cannot be stored as {self.tag}: {error}") from error


def _raw(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise NotCacheable(f"serializer='raw' takes bytes, not {type(value).__name__}")
    return value


JSON = Codec("json", orjson.dumps, orjson.loads)
RAW = Codec("raw", _raw, bytes)


@cache
def codec_of(serializer: Serializer, type_: Any = None) -> Codec:
    """The codec. With msgpack, values are decoded into `type_` (a `msgspec.Struct`, a dataclass, `list[int]`, ...)."""
    if serializer == "json" and type_ is None:
        return JSON
    if serializer == "raw" and type_ is None:
        return RAW
    try:
        msgspec: Any = import_module("msgspec")
    except ImportError as error:
        raise UsageError("this serializer needs msgspec", fix="pip install 'netra-backend[msgspec]'") from error
    wanted = Any if type_ is None else type_
    if serializer == "msgpack":
        return Codec("msgpack", msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(wanted).decode)
    if serializer == "json":
        return Codec("json", msgspec.json.Encoder().encode, msgspec.json.Decoder(wanted).decode)
    raise UsageError(f"{serializer!r} is no serializer", fix="Use json, msgpack or raw; a type goes with json and msgpack.")
