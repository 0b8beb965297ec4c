"""What somebody imports: tokens that were got elsewhere, or a key, checked before they are sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from . import answers
from .model import US, Grant


def grant_of(tokens: Mapping[str, Any], now_us: int) -> Grant:
    """The tokens of an import, checked."""
    access, refresh = tokens.get("access_token"), tokens.get("refresh_token")
    if access is None and refresh is not None:
        tokens = {**tokens, "expires_in": 0}
    there = [each for each in (access, refresh) if each is not None]
    if not there or not all(map(answers.is_token, there)):
        raise InvalidInput("the tokens are none", fix="Give `access_token`, `refresh_token` or both, as printable ASCII texts.")
    expires_us: int | None = None
    if tokens.get("expires_at") is not None:
        expires_us = int(_number(tokens, "expires_at") * US)
    elif tokens.get("expires_in") is not None:
        expires_us = now_us + int(_number(tokens, "expires_in") * US)
    elif refresh is not None:
        expires_us = now_us + answers.DEFAULT_LIFETIME_S * US
    return Grant(access, refresh, now_us, expires_us)


def key_of(tokens: Mapping[str, Any], now_us: int) -> Grant:
    """A key that is kept as it is, checked."""
    key = tokens["api_key"]
    if not answers.is_token(key) or len(tokens) > 1:
        raise InvalidInput("the API key is none", fix="Give `api_key` alone, as a printable ASCII text.")
    return Grant(key, None, now_us, None)


def _number(tokens: Mapping[str, Any], name: str) -> float:
    value = tokens[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise InvalidInput(f"{name} is not a number of seconds", fix="Give a number, not negative.")
    return float(value)
