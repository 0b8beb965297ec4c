"""`python -m tools.controls [--only ID]... [--missing] [--jobs N]`: carry out every control, print a table, exit 1 unless all are caught.

With `--keep` each verdict is written to docs/evidence/controls.json and .md as soon as it is known, with its date and revision;
`--missing` leaves out those that stand there as caught by the same edits and test, so that a run which was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from rich.console import Console
from rich.table import Table

from . import edits
from .evidence import Evidence, Verdict
from .plan import DEFAULT, BadControl, Control, Edit, load
from .runs import Run, Tree


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="only this control; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="controls carried out side by side")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the tree to copy")
    parser.add_argument("--controls", type=Path, default=DEFAULT, help="the file, below the root")
    parser.add_argument("--keep", action="store_true", help="write each verdict to the evidence")
    parser.add_argument("--missing", action="store_true", help="only what the evidence has not as caught; implies --keep")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    try:
        every = load(root / options.controls)
        controls = _chosen(every, options.only)
    except (BadControl, OSError) as error:
        print(f"controls: {error}", file=sys.stderr)
        return 2
    evidence = Evidence(root, every) if options.keep or options.missing else None
    if evidence is not None and options.missing:
        controls = [control for control in controls if not evidence.has_caught(control)]
    jobs = max(1, options.jobs)
    with tempfile.TemporaryDirectory(prefix="netra-controls-") as folder, ThreadPoolExecutor(jobs) as pool:
        trees: Queue[Tree] = Queue()
        for number in range(jobs):
            trees.put(Tree(root, Path(folder) / f"tree-{number}"))
        verdicts = []
        for verdict in pool.map(lambda control: _in_a_tree(control, root, trees), controls):
            verdicts.append(verdict)
            if evidence is not None:
                evidence.add(verdict)
    _write(root / "build/report/controls.json", verdicts)
    _show(verdicts)
    return 0 if verdicts and all(verdict.status == "caught" for verdict in verdicts) else 1


def _in_a_tree(control: Control, root: Path, trees: Queue[Tree]) -> Verdict:
    tree = trees.get()
    try:
        return carry_out(control, root, tree)
    finally:
        trees.put(tree)


def carry_out(control: Control, root: Path, tree: Tree) -> Verdict:
    """The verdict on one control; never raises for what the control or its test does."""
    start = time.monotonic()
    print(f"{control.id}: {control.test}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="netra-control-") as folder:
        try:
            status, detail = _status(control, root, tree, Path(folder))
        except (BadControl, OSError) as error:
            status, detail = "broken", str(error)
    return Verdict(control, status, detail, round(time.monotonic() - start, 2))


def _status(control: Control, root: Path, tree: Tree, folder: Path) -> tuple[str, str]:
    texts = {edit.target: _text(root, edit) for edit in control.edits}

    def run(changed: dict[str, str]) -> Run:
        return tree.run(changed, control.test, control.timeout_s)

    broken = {target: edits.apply(text, _of(control, target)) for target, text in texts.items()}
    doubt = _unexecuted(control, texts, folder, run)
    if doubt:
        return doubt
    result = run(broken)
    if result.outcome == "passed":
        return "missed", "the test passes on the broken build"
    if result.outcome == "error":
        return "broken", f"the test could not be judged on the broken build: {_tail(result.words)}"
    if control.because and not re.search(control.because, result.words):
        return "broken", f"the test failed for another reason than {control.because!r}: {_tail(result.words)}"
    return "caught", _reason(result.words)


def _unexecuted(control: Control, texts: dict[str, str], folder: Path, run: Callable[[dict[str, str]], Run]) -> tuple[str, str] | None:
    """None when the unedited test passes and runs all that the edits change."""
    marked: dict[str, str] = {}
    markers: dict[Path, Edit] = {}
    for target, text in texts.items():
        if target.endswith(".py"):
            marks = [(edit, folder / f"executed-{control.edits.index(edit)}") for edit in _of(control, target)]
            marked[target] = edits.plant_markers(text, marks)
            markers |= {marker: edit for edit, marker in marks}
    result = run(marked)
    if result.outcome != "passed":
        return "broken", f"the test does not pass unedited: {_tail(result.words)}"
    for marker, edit in markers.items():
        if not marker.exists():
            return "unexecuted", f"the test never runs the edited line of {edit.target}: {edit.find.strip()[:60]!r}"
    for edit in control.edits:
        if edit.target.endswith(".sql"):
            poisoned = {edit.target: edits.poison(texts[edit.target], edit)}
            if run(poisoned).outcome == "passed":
                return "unexecuted", f"the test never runs the edited statement of {edit.target}"
    return None


def _text(root: Path, edit: Edit) -> str:
    if not edit.target.endswith((".py", ".sql")):
        raise BadControl(f"{edit.target}: only .py and .sql files can be shown to run")
    return (root / edit.target).read_text(encoding="utf-8")


def _of(control: Control, target: str) -> list[Edit]:
    return [edit for edit in control.edits if edit.target == target]


def _chosen(controls: list[Control], only: list[str]) -> list[Control]:
    unknown = set(only) - {control.id for control in controls}
    if unknown:
        raise BadControl(f"there is no control {', '.join(sorted(unknown))}")
    return [control for control in controls if not only or control.id in only]


def _reason(words: str) -> str:
    return next((line.strip() for line in words.splitlines() if line.strip()), "")[:160]


def _tail(words: str) -> str:
    return " | ".join(line.strip() for line in words.splitlines() if line.strip())[-400:]


def _write(path: Path, verdicts: list[Verdict]) -> None:
    rows = [
        {
            "id": v.control.id,
            "promise": v.control.promise,
            "test": v.control.test,
            "status": v.status,
            "detail": v.detail,
            "seconds": v.seconds,
        }
        for v in verdicts
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"controls": rows, "caught": sum(v.status == "caught" for v in verdicts), "total": len(verdicts)}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _show(verdicts: list[Verdict]) -> None:
    table = Table("control", "promise", "verdict", "s", "what was seen", title="Broken on purpose")
    colours = {"caught": "green", "missed": "red", "unexecuted": "red", "broken": "yellow"}
    for verdict in verdicts:
        status = f"[{colours[verdict.status]}]{verdict.status}[/]"
        table.add_row(verdict.control.id, verdict.control.promise, status, f"{verdict.seconds:.1f}", verdict.detail)
    Console().print(table)
    print(f"controls: {sum(v.status == 'caught' for v in verdicts)} of {len(verdicts)} caught")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
