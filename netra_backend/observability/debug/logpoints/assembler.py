"""CPython 3.11's bytecode, taken apart and put together again with calls in it.

Source: `Objects/locations.md`, `Objects/exception_handling_notes.txt` and `Python/ceval.c` of CPython 3.11. Every jump of 3.11 is relative
and in code units of two bytes; an instruction is its EXTENDED_ARG prefixes, itself, and its inline cache. All three tables
(jumps, exceptions, positions) are kept as references to instructions while calls are put in, and written anew.

A call is put in front of an instruction: `PUSH_NULL, LOAD_CONST hook, PRECALL 0, CALL 0, POP_TOP`, behind a question that is asked in
the same way and jumps over it, to a NOP of its own, where it answers None. What jumped to the instruction jumps to the question. It is
stack-neutral, so it may stand anywhere but between KW_NAMES and the call that this belongs to.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final

Call = tuple[int | None, Callable[[], None]]
"""A line (None: the function's beginning), and what is called there."""
Position = tuple[int | None, int | None, int | None, int | None]

_OP: Final = dis.opmap
_EXTENDED: Final = _OP["EXTENDED_ARG"]
_CACHES: Final[Sequence[int]] = getattr(dis, "_inline_cache_entries", ())
_BACKWARD: Final = {op for name, op in _OP.items() if "JUMP_BACKWARD" in name}
_NEVER_FALLS_THROUGH: Final = {
    _OP[name]
    for name in ("RETURN_VALUE", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
    if name in _OP
}
_STACK: Final = 3


@dataclass(eq=False, slots=True)
class Instruction:
    """One instruction. `target` is where it jumps to; `stands_for` are those that were replaced in front of it."""

    op: int
    arg: int
    position: Position
    target: Instruction | None = None
    offset: int = 0

    @property
    def units(self) -> int:
        """Its size in code units."""
        return 1 + _prefixes(self.arg) + _CACHES[self.op]


def with_calls(code: CodeType, calls: Sequence[Call], question: Callable[[], Any]) -> CodeType:
    """A copy of the code that calls at these lines, in the given order, unless `question` answers None.

    The question is asked by the copy itself, and not in the hook, because it may be C: a call of Python is half of what a place costs that
    nobody watches.
    """
    instructions, at = _taken_apart(code)
    entries = [(at[start], at.get(end), at[target], depth, lasti) for start, end, target, depth, lasti in _exceptions(code)]
    consts = [*code.co_consts, question]
    moved: dict[int, Instruction] = {}
    new = list(instructions)
    for line, hook in calls:
        for place in _places(instructions, line):
            sequence = _call(len(code.co_consts), len(consts), place.position)
            where = new.index(place)
            new[where:where] = sequence
            moved.setdefault(id(place), sequence[0])
        consts.append(hook)
    for each in new:
        if each.target is not None:
            each.target = moved.get(id(each.target), each.target)
    table = [(moved.get(id(s), s), moved.get(id(e), e) if e else None, moved.get(id(t), t), d, lasti) for s, e, t, d, lasti in entries]
    _lay_out(new)
    return code.replace(
        co_code=b"".join(map(_written, new)),
        co_consts=tuple(consts),
        co_stacksize=code.co_stacksize + _STACK,
        co_linetable=b"".join(_line_table(new, code.co_firstlineno)),
        co_exceptiontable=b"".join(_exception_table(table, new[-1].offset + 2 * new[-1].units)),
    )


def _taken_apart(code: CodeType) -> tuple[list[Instruction], dict[int, Instruction]]:
    """The instructions, and each by its offset."""
    raw, positions = code.co_code, list(code.co_positions())
    found: list[tuple[Instruction, int]] = []
    at: dict[int, Instruction] = {}
    place, start, arg = 0, 0, 0
    while place < len(raw):
        op, arg = raw[place], arg << 8 | raw[place + 1]
        if op != _EXTENDED:
            made = Instruction(op, arg, positions[place // 2])
            place += 2 * _CACHES[op]
            at[start] = made
            found.append((made, place + 2))
            start, arg = place + 2, 0
        place += 2
    for made, following in found:
        if made.op in dis.hasjrel:
            made.target = at[following + 2 * made.arg * (-1 if made.op in _BACKWARD else 1)]
    return [made for made, _ in found], at


def _places(instructions: Sequence[Instruction], line: int | None) -> list[Instruction]:
    """In front of which instructions a call belongs: once for the line, and once more wherever control comes to it another way."""
    first = next(number for number, each in enumerate(instructions) if each.op == _OP["RESUME"] and each.arg == 0) + 1
    if line is None:
        return [instructions[first]]
    targets = {id(each.target) for each in instructions if each.target is not None}
    found: list[Instruction] = []
    for number in range(first, len(instructions)):
        each, before = instructions[number], instructions[number - 1]
        if each.position[0] != line or (number > first and before.position[0] == line):
            continue
        if not found or id(each) in targets or before.op in _NEVER_FALLS_THROUGH:
            found.append(_not_inside_a_call(instructions, number))
    return found


def _not_inside_a_call(instructions: Sequence[Instruction], number: int) -> Instruction:
    while instructions[number].op in {_OP["PRECALL"], _OP["CALL"], _OP["KW_NAMES"]} and instructions[number - 1].op in {
        _OP["KW_NAMES"],
        _OP["PRECALL"],
    }:
        number -= 1
    return instructions[number + 1] if instructions[number].op == _OP["PUSH_EXC_INFO"] else instructions[number]


def _call(question: int, hook: int, position: Position) -> list[Instruction]:
    """Of two constants: ask the one, and call the other unless the answer is None."""
    over = Instruction(_OP["NOP"], 0, position)
    ask, call = (
        [Instruction(_OP[name], arg, position) for name, arg in (("PUSH_NULL", 0), ("LOAD_CONST", const), ("PRECALL", 0), ("CALL", 0))]
        for const in (question, hook)
    )
    unless = Instruction(_OP["POP_JUMP_FORWARD_IF_NONE"], 0, position, over)
    return [*ask, unless, *call, Instruction(_OP["POP_TOP"], 0, position), over]


def _lay_out(instructions: Sequence[Instruction]) -> None:
    """Give each its offset and each jump its argument, until no argument needs another size."""
    while True:
        offset = 0
        for each in instructions:
            each.offset = offset
            offset += 2 * each.units
        grown = False
        for each in instructions:
            if each.target is None:
                continue
            following = each.offset + 2 * each.units
            arg = abs(each.target.offset - following) // 2
            grown |= _prefixes(arg) > _prefixes(each.arg)
            each.arg = arg if _prefixes(arg) >= _prefixes(each.arg) else each.arg
        if not grown:
            break
    for each in instructions:  # sizes stand: an argument that shrank keeps its prefixes
        if each.target is not None:
            each.arg = abs(each.target.offset - each.offset - 2 * each.units) // 2 if _fits(each) else each.arg


def _fits(each: Instruction) -> bool:
    assert each.target is not None
    return _prefixes(abs(each.target.offset - each.offset - 2 * each.units) // 2) == _prefixes(each.arg)


def _prefixes(arg: int) -> int:
    return 0 if arg < 1 << 8 else 1 if arg < 1 << 16 else 2 if arg < 1 << 24 else 3


def _written(each: Instruction) -> bytes:
    size = _prefixes(each.arg)
    head = b"".join(bytes((_EXTENDED, each.arg >> 8 * place & 0xFF)) for place in range(size, 0, -1))
    return head + bytes((each.op, each.arg & 0xFF)) + bytes(2 * _CACHES[each.op])


def _line_table(instructions: Sequence[Instruction], first: int) -> Iterator[bytes]:
    """`Objects/locations.md`: the long form for whole positions, the form without columns, and the one without a line."""
    line = first
    for each in instructions:
        left = each.units
        while left:
            size = min(left, 8)
            left -= size
            at, end, column, end_column = each.position
            if at is None:
                yield bytes((0x80 | 15 << 3 | size - 1,))
                continue
            delta = _signed(at - line)
            line = at
            if end is None or column is None or end_column is None:
                yield bytes((0x80 | 13 << 3 | size - 1,)) + delta
            else:
                rest = _varint(end - at) + _varint(column + 1) + _varint(end_column + 1)
                yield bytes((0x80 | 14 << 3 | size - 1,)) + delta + rest


def _varint(value: int) -> bytes:
    """Six bits a byte, the lowest first."""
    out = bytearray()
    while value > 63:
        out.append(value & 63 | 64)
        value >>= 6
    return bytes((*out, value))


def _signed(value: int) -> bytes:
    return _varint(-value << 1 | 1 if value < 0 else value << 1)


def _exceptions(code: CodeType) -> Iterator[tuple[int, int, int, int, bool]]:
    """(start, end, target, depth, lasti), offsets in bytes (`Objects/exception_handling_notes.txt`)."""
    data = iter(code.co_exceptiontable)
    for byte in data:
        start = _read(byte, data) * 2
        size, target, info = (_read(next(data), data) for _ in range(3))
        yield start, start + 2 * size, 2 * target, info >> 1, bool(info & 1)


def _read(byte: int, data: Iterator[int]) -> int:
    value = byte & 63
    while byte & 64:
        byte = next(data)
        value = value << 6 | byte & 63
    return value


def _exception_table(entries: Sequence[Any], end_of_code: int) -> Iterator[bytes]:
    for start, end, target, depth, lasti in entries:
        size = (end.offset if end is not None else end_of_code) - start.offset
        numbers = (start.offset // 2, size // 2, target.offset // 2, depth << 1 | lasti)
        for place, number in enumerate(numbers):
            parts = [number & 63]
            while number := number >> 6:
                parts.append(number & 63 | 64)
            parts.reverse()
            if place == 0:
                parts[0] |= 128
            yield bytes(parts)
