"""OAuth: tokens that stay fresh, and tokens of others that are judged strictly.

`validate` and `verify_jws` need no database and no network: whoever holds an issuer's keys can call them.
"""

from __future__ import annotations

from .errors import VERDICTS, TokenRejected
from .jws import verify_jws
from .keys import Keys
from .validation import Claims, validate

__all__ = ["VERDICTS", "Claims", "Keys", "TokenRejected", "validate", "verify_jws"]
