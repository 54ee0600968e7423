"""What a compiled program sends between devices, read from its text: loops count as often as they run.

A collective's bytes are those that one device receives from others at the least, g devices taking part:
(g - 1) / g of the result of an all-gather and of the operand of a reduce-scatter or an all-to-all, twice that of the
operand of an all-reduce, and all of what a permute moves. What comes from another slice of TPUs is `recv`, whatever it
is a part of. A compiler that spells one as several others changes counts, and bytes only where it sends more.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxsrl.clusters.groups import axes_of

SHARE = {
    "all-gather": lambda group: (group - 1) / group,
    "all-reduce": lambda group: 2 * (group - 1) / group,
    "reduce-scatter": lambda group: group - 1,  # its result is 1 / group of its operand
    "all-to-all": lambda group: (group - 1) / group,
    "ragged-all-to-all": lambda group: (group - 1) / group,
    "collective-permute": lambda group: 1.0,
    "collective-broadcast": lambda group: 1.0,
    "recv": lambda group: 1.0,
}
BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}


@dataclass(frozen=True, kw_only=True)
class Collective:
    """All collectives of one kind, dtype and group size in one run of a program.

    Args:
      count: how often one runs. bytes: that a device receives, all runs together.
      group: devices that take part; 0 for permutes and what comes from another slice.
      axes: of the mesh, along which these devices differ; none where the mesh was not given.
    """

    kind: str
    dtype: str
    group: int
    count: int
    bytes: float
    axes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Instruction:
    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool


@dataclass
class _Text:
    """A program's computations by name, and which of them runs first."""

    entry: str = ""
    computations: dict[str, dict[str, _Instruction]] = field(default_factory=lambda: defaultdict(dict))


HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
REFERENCE = re.compile(r"%([\w.\-]+)")
ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16|c\d+|f8\w+)\[([\d,]*)\]")
WHOLE = re.compile(r"[su]\d+\[\]")  # a whole number's type
CALLED = re.compile(r"\b(?:calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")


def collectives(
    text: str, devices: int, turns: tuple[int, ...] = (), mesh: Mapping[str, int] | None = None
) -> tuple[Collective, ...]:
    """The collectives of one run of a compiled program, largest first.

    Args:
      text: `compiled.as_text()`.
      devices: that the program runs on; the group of a collective that names none.
      turns: of loops that do not say how often they run, a sampler's, the outer one first; others are refused.
      mesh: axis -> devices, outermost first; tells apart what lies along other axes.
    Raises: ValueError where a loop with collectives in it does not say how often it runs.
    """
    program = _parse(text)
    total: dict[tuple[str, str, int, tuple[str, ...]], list[float]] = defaultdict(lambda: [0, 0.0])
    for instruction, times in _executed(program, program.entry, 1, turns):
        kind = instruction.opcode.removesuffix("-start")
        group = 0 if kind in ("collective-permute", "recv") else _group(instruction.rest, devices)
        axes = axes_of(instruction.rest, kind, mesh) if mesh else ()
        for dtype, size in _moved(instruction).items():
            entry = total[kind, dtype, group, axes]
            entry[0] += times
            entry[1] += times * size * SHARE[kind](max(group, 1))
    made = [
        Collective(kind=kind, dtype=dtype, group=group, count=int(count), bytes=size, axes=axes)
        for (kind, dtype, group, axes), (count, size) in total.items()
        if group != 1
    ]
    return tuple(sorted(made, key=lambda c: -c.bytes))


def _parse(text: str) -> _Text:
    program, current = _Text(), ""
    for line in text.splitlines():
        if head := HEAD.match(line):
            current = head[2]
            program.entry = current if head[1] else program.entry
        elif current and (found := NAME.match(line)):
            program.computations[current][found[2]] = _instruction(found[2], found[3], bool(found[1]))
    return program


def _instruction(name: str, text: str, root: bool) -> _Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    opcode, _, rest = text[end:].strip().partition("(")
    close = _closing("(" + rest, 0) - 2
    operands = tuple(REFERENCE.findall(rest[:close])) or tuple(x.strip() for x in rest[:close].split(","))
    return _Instruction(name=name, type=text[:end], opcode=opcode, operands=operands, rest=rest[close:], root=root)


def _closing(text: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at + 1
    raise ValueError(f"a bracket that nothing closes: {text[:120]}")


def _executed(program: _Text, name: str, times: int, turns: tuple[int, ...]):
    """(collective, how often it runs) of a computation and of those it calls."""
    for instruction in program.computations[name].values():
        if instruction.opcode == "recv" and "megascale" not in instruction.rest:
            continue  # from the host
        if instruction.opcode.removesuffix("-start") in SHARE:
            yield instruction, times
        elif instruction.opcode == "while":
            body = re.search(r"body=%?([\w.\-]+)", instruction.rest)[1]
            trips = _trips(program, name, instruction, body)
            inside = list(_executed(program, body, 1, turns if trips is not None else turns[1:]))
            if inside and trips is None and not turns:
                raise ValueError(
                    f"loop {instruction.name} has collectives and does not say how often it runs: "
                    f"{instruction.rest[:200]}"
                )
            trips = turns[0] if trips is None and turns else trips
            yield from ((one, times * trips * n) for one, n in inside)
        else:
            called = CALLED.findall(instruction.rest)
            if branches := re.search(r"branch_computations=\{([^}]*)\}", instruction.rest):
                called += REFERENCE.findall(branches[1])
            for one in called:
                yield from _executed(program, one, times, turns)


def _trips(program: _Text, where: str, loop: _Instruction, body: str) -> int | None:
    """How often a loop runs: what the compiler noted, else from its first value, bound and step; None: not said."""
    if noted := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(noted[1])
    condition = program.computations[re.search(r"condition=%?([\w.\-]+)", loop.rest)[1]]
    for test in condition.values():
        if test.opcode != "compare" or "direction=LT" not in test.rest:
            continue
        index, bound = (condition[x] for x in test.operands)
        if index.opcode != "get-tuple-element" or bound.opcode != "constant" or not WHOLE.match(bound.type):
            continue
        at = int(re.search(r"index=(\d+)", index.rest)[1])
        start, step = _start(program.computations[where], loop, at), _step(program.computations[body], at)
        if start is not None and step is not None:
            return max(0, math.ceil((int(bound.operands[0]) - start) / step))
    return None


def _start(computation: dict[str, _Instruction], loop: _Instruction, at: int) -> int | None:
    given = computation[loop.operands[0]]
    return _constant(computation, given.operands[at]) if given.opcode == "tuple" else None


def _step(body: dict[str, _Instruction], at: int) -> int | None:
    root = next(x for x in body.values() if x.root)
    made = body.get(root.operands[at]) if root.opcode == "tuple" else None
    if made is None or made.opcode != "add":
        return None
    steps = [_constant(body, x) for x in made.operands]
    return next((x for x in steps if x is not None), None)


def _constant(computation: dict[str, _Instruction], name: str) -> int | None:
    found = computation.get(name)
    while found is not None and found.opcode == "copy":
        found = computation.get(found.operands[0])
    whole = found is not None and found.opcode == "constant" and WHOLE.match(found.type)
    return int(found.operands[0]) if whole else None


def _moved(instruction: _Instruction) -> dict[str, int]:
    """dtype -> bytes of what a collective results in; an asynchronous one lists its operands before."""
    arrays = ARRAY.findall(instruction.type)
    if instruction.opcode == "collective-permute-start":
        arrays = arrays[1:2]
    if instruction.opcode == "all-gather-start":
        arrays = arrays[len(arrays) // 2 :]
    if instruction.opcode == "recv":
        arrays = arrays[:1]
    sizes: dict[str, int] = defaultdict(int)
    for dtype, shape in arrays:
        sizes[dtype] += _bytes(dtype, shape)
    return sizes


def _bytes(dtype: str, shape: str) -> int:
    bits = BITS.get(dtype) or int(re.search(r"\d+", dtype)[0])
    return math.prod(int(x) for x in shape.split(",") if x) * bits // 8


def _group(rest: str, devices: int) -> int:
    """Devices of one group: `{{0,1},{2,3}}`, `[groups,size]<=...`, or a mesh's axes; none named is all of them."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
        return int(found[2])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\S+)? \{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'?(\w+)'?", found[2]) if axis in sizes)
    return devices
