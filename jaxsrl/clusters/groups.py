"""Along which axes of a mesh the devices of a collective differ, read from the text of its instruction.

Devices are numbered as the mesh lists them, its last axis fastest.
"""

import re
from collections.abc import Mapping

import numpy as np

LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
ORDER = r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\]" + ORDER + r" \{([^}]*)\}")
PAIRS = re.compile(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}")


def axes_of(rest: str, kind: str, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Axes of the mesh, outermost first; `dcn` of what comes from another slice, all where no group is named.

    Args:
      rest: what stands behind the operands of the instruction.
      kind: of the collective.
      mesh: axis -> devices.
    """
    if kind == "recv":
        return ("dcn",)
    places = np.stack(np.unravel_index(np.arange(int(np.prod(list(mesh.values())))), tuple(mesh.values())), axis=1)
    differ = np.zeros(len(mesh), bool)
    for group in _groups(rest, len(places)):
        differ |= (places[group] != places[group[0]]).any(axis=0)
    return tuple(axis for axis, some in zip(mesh, differ, strict=True) if some)


def _groups(rest: str, devices: int) -> list[list[int]]:
    """Devices that exchange something; of groups that are alike one is enough."""
    if found := PAIRS.search(rest):
        return [[int(a), int(b)] for a, b in re.findall(r"\{(\d+),(\d+)\}", found[1])]
    if found := LISTED.search(rest):
        return [[int(x) for x in found[1].split(",") if x]] if found[1] else [list(range(devices))]
    if found := IOTA.search(rest):
        return [_turned(devices, found[3], found[4]).reshape(int(found[1]), int(found[2]))[0].tolist()]
    if found := NAMED.search(rest):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
        along = [name for name in re.findall(r"\w+", found[4]) if name in sizes]
        numbers = _turned(devices, found[2] or str(devices), found[3]).reshape(list(sizes.values()))
        first = numbers[tuple(slice(None) if name in along else 0 for name in sizes)]
        return [first.reshape(-1).tolist()]
    return [list(range(devices))]


def _turned(devices: int, shape: str, order: str | None) -> np.ndarray:
    """Numbers of devices as `[2,4]T(1,0)` lists them: counted in the shape, then with its axes in another order."""
    numbers = np.arange(devices).reshape([int(x) for x in shape.split(",")])
    return numbers.transpose([int(x) for x in order.split(",")]) if order else numbers
