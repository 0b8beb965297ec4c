"""What one check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """A warning is worth reading and fails nothing; `fix` is the next step where the state is not `ok`."""

    name: str
    state: State
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def judged(name: str, detail: str, *, good: bool, fix: str, otherwise: State = "failed") -> Check:
    """`ok` if it is good, `otherwise` if not."""
    return Check(name, "ok", detail) if good else Check(name, otherwise, detail, fix)
