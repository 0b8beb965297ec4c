"""docs/evidence/controls.json and .md: what became of each control, when, and of which revision. No line of them is typed by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..report import revision
from .plan import Control

FOLDER = Path("docs/evidence")


@dataclass(frozen=True)
class Verdict:
    """What became of one control."""

    control: Control
    status: str
    detail: str
    seconds: float


class Evidence:
    """The newest verdict on each control that there is; one that was removed is left out, one that was changed counts as not judged."""

    def __init__(self, root: Path, controls: list[Control]) -> None:
        self._folder = root / FOLDER
        self._digests = {control.id: _digest(control) for control in controls}
        self._revision = revision() or "unknown"
        self._rows: dict[str, dict[str, Any]] = {}
        if (self._folder / "controls.json").exists():
            rows = json.loads((self._folder / "controls.json").read_text(encoding="utf-8"))["controls"]
            self._rows = {row["id"]: row for row in rows if self._digests.get(row["id"]) == row["digest"]}

    def has_caught(self, control: Control) -> bool:
        """Whether it stands there as caught, by the same edits and test."""
        return self._rows.get(control.id, {}).get("status") == "caught"

    def add(self, verdict: Verdict) -> None:
        """Write one more."""
        control = verdict.control
        facts = {"id": control.id, "promise": control.promise, "test": control.test, "status": verdict.status, "seconds": verdict.seconds}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        self._rows[control.id] = {**facts, "date": date, "revision": self._revision, "digest": self._digests[control.id]}
        rows = [self._rows[name] for name in self._digests if name in self._rows]
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "controls.json").write_text(json.dumps({"controls": rows}, indent=1) + "\n", encoding="utf-8")
        (self._folder / "controls.md").write_text(self._page(rows), encoding="utf-8")

    def _page(self, rows: list[dict[str, Any]]) -> str:
        caught = sum(row["status"] == "caught" for row in rows)
        lines = [
            "# Controls",
            "",
            f"`make controls`, in portions: of {len(self._digests)} controls {len(rows)} were carried out, {caught} of them caught. Each",
            "breaks the code on purpose, in a copy, and its test must fail. That it passes before, and runs what is changed, is seen.",
            "",
            "| control | promise | verdict | s | date | revision |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            commit = row["revision"][:10] + ("+changes" if row["revision"].endswith("+changes") else "")
            lines.append(f"| `{row['id']}` | {row['promise']} | {row['status']} | {row['seconds']:g} | {row['date'][:10]} | {commit} |")
        return "\n".join(lines) + "\n"


def _digest(control: Control) -> str:
    return hashlib.sha256(repr(control).encode()).hexdigest()[:16]
