"""A receipt: one entry, and a C2SP tlog-proof that a signed checkpoint covers it. It is judged offline, against a verifier key.

c2sp.org/tlog-proof@v1
extra <base 64 of the entry>
index 5
<base 64 of each hash of the inclusion proof>

<the checkpoint as it was signed>
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .merkle import HASH_BYTES
from .note import decode

HEAD: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})\Z", re.ASCII)


class MalformedReceipt(ValueError):
    """It is not written as the specification writes it, or holds no entry."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """See the module's docstring. `checkpoint` is the signed note."""

    entry: bytes
    index: int
    hashes: Sequence[bytes]
    checkpoint: str

    @property
    def text(self) -> str:
        """The file, `.tlog-proof`."""
        hashes = "".join(base64.b64encode(each).decode() + "\n" for each in self.hashes)
        return f"{HEAD}\nextra {base64.b64encode(self.entry).decode()}\nindex {self.index}\n{hashes}\n{self.checkpoint}"


def parse(data: bytes) -> Receipt:
    """What a receipt's file says."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedReceipt("the receipt is not UTF-8") from None
    proof, _, checkpoint = text.partition("\n\n")
    lines = proof.split("\n")
    index = _INDEX.match(lines[2]) if len(lines) >= 3 else None
    entry = decode(lines[1].removeprefix("extra ")) if len(lines) >= 3 and lines[1].startswith("extra ") else b""
    hashes = [decode(line) for line in lines[3:]]
    if lines[0] != HEAD or index is None or not entry or any(len(each) != HASH_BYTES for each in hashes):
        raise MalformedReceipt("the receipt is not a tlog-proof with the entry in it")
    return Receipt(entry, int(index[1]), hashes, checkpoint)
