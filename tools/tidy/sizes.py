"""The sizes of docs/ARCHITECTURE.md: what a reader can hold in mind at once.

Medians and the share of long functions are held over everything that is shipped or runs the build. Tests are stories
and may be long; only the limit for a file holds for them too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from statistics import median

from .source import TESTS, Offence, Source

FILE_LINES = 600
MEDIAN_FILE_LINES = 150
LONG_FUNCTION_LINES = 70
LONG_FUNCTIONS_SHARE = 0.01
MEDIAN_FUNCTION_LINES = 10


def file_limit(source: Source) -> Iterator[Offence]:
    """No file over 600 lines."""
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield Offence(source.path, FILE_LINES, "file-size", f"{lines} lines; the limit is {FILE_LINES}: split it by purpose")


def function_lengths(source: Source) -> list[tuple[int, ast.AST, str]]:
    """(lines, node, name) of every function, from `def` to its last line; a nested one counts on its own too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [((node.end_lineno or node.lineno) - node.lineno + 1, node, node.name) for node in source.nodes if isinstance(node, kinds)]


def medians_and_shares(sources: Sequence[Source]) -> Iterator[Offence]:
    """Median of files and of functions, and at most one function in a hundred over 70 lines."""
    counted = [source for source in sources if not source.within(TESTS)]
    files = [source.text.count("\n") for source in counted if source.text.strip()]
    functions = [(length, node, name, source) for source in counted for length, node, name in function_lengths(source)]
    if files and median(files) > MEDIAN_FILE_LINES:
        yield Offence("(all files)", 0, "file-size", f"the median is {median(files)} lines; it may be {MEDIAN_FILE_LINES}")
    lengths = [length for length, *_ in functions]
    if lengths and median(lengths) > MEDIAN_FUNCTION_LINES:
        yield Offence("(all functions)", 0, "function-size", f"the median is {median(lengths)} lines; it may be {MEDIAN_FUNCTION_LINES}")
    long = [entry for entry in functions if entry[0] > LONG_FUNCTION_LINES]
    if len(long) > LONG_FUNCTIONS_SHARE * len(functions):
        for length, node, name, source in long:
            yield source.offence(
                node, "function-size", f"{name} has {length} lines; over 1 % of the functions have more than {LONG_FUNCTION_LINES}"
            )
