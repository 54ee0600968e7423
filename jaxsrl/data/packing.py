"""Trees to rows of a token budget: what the learner trains on, and what the sampler completes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxsrl.data.tree import count_tokens, path, path_tokens, prune
from jaxsrl.types import Batch, BranchPoint, Metrics, Prompts, TokenWeights, Tree


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The tokens of one tree in the order of its nodes; indices count from the first token of the tree."""

    token: np.ndarray
    position: np.ndarray
    enter: np.ndarray
    leave: np.ndarray
    parent: np.ndarray  # -1 where a path begins
    node: np.ndarray
    last: np.ndarray  # per node: index of the last token on its path, itself included; -1 if the path is empty
    node_enter: np.ndarray  # per node
    intervals: int  # how many interval numbers the tree uses


def lay_out(tree: Tree) -> Layout:
    """Depth-first intervals, depths and parents of every token."""
    count = len(tree.nodes)
    children: list[list[int]] = [[] for _ in range(count)]
    for i, node in enumerate(tree.nodes):
        if node.parent >= 0:
            children[node.parent].append(i)
    enter, leave = np.zeros(count, np.int32), np.zeros(count, np.int32)
    clock = 0
    stack = [(i, False) for i in range(count - 1, -1, -1) if tree.nodes[i].parent < 0]
    while stack:  # an explicit stack: a long demonstration is a deep tree
        i, done = stack.pop()
        if done:
            leave[i] = clock
            continue
        enter[i], clock = clock, clock + 1
        stack += [(i, True), *((child, False) for child in reversed(children[i]))]
    size = np.array([len(node.token) for node in tree.nodes], int)
    start = np.concatenate([[0], np.cumsum(size)])
    depth, last = np.zeros(count, np.int32), np.full(count, -1, np.int32)
    position, parent = np.zeros(start[-1], np.int32), np.full(start[-1], -1, np.int32)
    for i, node in enumerate(tree.nodes):
        above = last[node.parent] if node.parent >= 0 else -1
        begin = depth[node.parent] if node.parent >= 0 else 0
        here = np.arange(size[i], dtype=np.int32)
        position[start[i] : start[i + 1]] = begin + here
        parent[start[i] : start[i + 1]] = np.where(here == 0, above, start[i] + here - 1)
        depth[i], last[i] = begin + size[i], start[i + 1] - 1 if size[i] else above
    node = np.repeat(np.arange(count, dtype=np.int32), size)
    token = np.concatenate([n.token for n in tree.nodes]) if count else np.zeros(0, np.int32)
    return Layout(
        token=token, position=position, enter=enter[node], leave=leave[node], parent=parent, node=node, last=last,
        node_enter=enter, intervals=clock,
    )  # fmt: skip


def split(
    tree: Tree,
    wanted: Sequence[int],
    row_tokens: int,
    *,
    slots: Sequence[int] = (),
    row_slots: int = 0,
    together: Sequence[int] = (),
):
    """Cuts the wanted nodes into parts whose trees fit a row; each part is a list of indices into `wanted`.

    Ancestors are repeated in every part that needs them. Wanted nodes are taken in the order given.

    Args:
      slots: how many slots each wanted node takes; with `row_slots`, bounds a part too.
      together: a label for each wanted node; neighbours with the same label of 0 or more stay in one part.
    Raises: ValueError if one path alone, or one such set of paths, is longer than a row.
    """
    parts: list[list[int]] = []
    seen: set[int] = set()
    used = taken = 0
    tokens = lambda nodes: sum(len(tree.nodes[j].token) for j in nodes)
    for unit in _units(len(wanted), together):
        chain = dict.fromkeys(j for i in unit for j in path(tree, wanted[i]))
        length = tokens(chain)
        if length > row_tokens:
            what = "a path" if len(unit) == 1 else f"a group of {len(unit)} completions that must not be parted"
            raise ValueError(
                f"{what} of {length} tokens does not fit a row of {row_tokens}: raise row_tokens to at least {length}, "
                "or leave out or cut the demonstration"
            )
        more = tokens(j for j in chain if j not in seen)
        need = sum(slots[i] for i in unit) if row_slots else 0
        if not parts or used + more > row_tokens or (row_slots and taken + need > row_slots):
            parts.append([])
            seen, used, taken, more = set(), 0, 0, length
        parts[-1].extend(unit)
        seen.update(chain)
        used, taken = used + more, taken + need
    return parts


def _units(count: int, labels: Sequence[int]) -> list[list[int]]:
    """0 … count - 1 as runs of neighbours with the same label of 0 or more; without labels each alone."""
    units: list[list[int]] = []
    for i in range(count):
        if labels and units and labels[i] >= 0 and labels[units[-1][-1]] == labels[i]:
            units[-1].append(i)
        else:
            units.append([i])
    return units


def _fit(sizes: Sequence[int], capacity: int, second: Sequence[int], second_capacity: int) -> list[list[int]]:
    """First-fit decreasing over two budgets; ties keep their order, so the result is a function of the sizes."""
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        fitting = (r for r, (a, b) in enumerate(free) if sizes[i] <= a and second[i] <= b)
        r = next(fitting, len(rows))
        if r == len(rows):
            rows.append([])
            free.append((capacity, second_capacity))
        rows[r].append(i)
        free[r] = (free[r][0] - sizes[i], free[r][1] - second[i])
    return rows


def pack(
    trees: Sequence[Tree],
    behavior_logp: np.ndarray,
    rollout_mask: np.ndarray,
    trunk_weights: TokenWeights,
    rollout_weights: TokenWeights,
    *,
    row_tokens: int,
    rows: int,
    groups: np.ndarray | None = None,
) -> tuple[list[Batch], Metrics]:
    """Packs trees with their weights into batches of `rows` rows; a rollout is never cut, a tree may be.

    Nodes without any weight are packed only as context of others. A tree too large for a row is cut between its
    leaves and its trunk repeated; a repeated token has its weight once.

    Args:
      behavior_logp, rollout_mask: [P, C] as in `Rollouts`.
      trunk_weights: [M, E] over the target tokens of each tree in node order.
      rollout_weights: [P, C].
      groups: [P] ids of groups that must stay in one row; batches then have `group`. None parts them where it must.
    Returns: batches of host arrays, and what packing did: `tokens` executed; `tree_tokens`, the same without those
      repeated because a tree was cut; `dense_tokens` that a batch of single paths would execute.
    """
    pieces, metrics = [], {"pack/tokens": 0, "pack/tree_tokens": 0, "pack/dense_tokens": 0, "pack/cut_trees": 0}
    for m, tree in enumerate(trees):
        weighed = _weigh_nodes(tree, m, behavior_logp, rollout_mask, trunk_weights, rollout_weights)
        wanted = sorted(weighed, key=lambda node: _depth_first_key(tree, node))
        owner = [tree.nodes[node].rollout for node in wanted]
        together = () if groups is None else [int(groups[p]) if p >= 0 else -1 for p in owner]
        parts = split(tree, wanted, row_tokens, together=together)
        metrics["pack/cut_trees"] += len(parts) > 1
        metrics["pack/tree_tokens"] += count_tokens(tree, wanted)
        metrics["pack/dense_tokens"] += _dense_tokens(tree, wanted)
        for part in parts:
            small, place = prune(tree, [wanted[i] for i in part])
            pieces.append(_place(small, {place[wanted[i]]: weighed[wanted[i]] for i in part}))
    placed = _fit([len(p["token"]) for p in pieces], row_tokens, [0] * len(pieces), 0)
    metrics["pack/tokens"] = sum(len(p["token"]) for p in pieces)
    metrics["pack/slots"] = -(-len(placed) // rows) * rows * row_tokens
    filled = [_join([pieces[i] for i in row], row_tokens) for row in placed]
    empty = _join([], row_tokens)
    batches = []
    for first in range(0, len(filled), rows):
        group = filled[first : first + rows]
        group += [empty] * (rows - len(group))
        fields = {name: np.stack([row[name] for row in group]) for name in empty}
        if groups is not None:
            own = fields["rollout"]
            fields["group"] = np.where(own >= 0, np.asarray(groups, np.int32)[np.maximum(own, 0)], -1)
        batches.append(Batch(**fields))
    return batches, metrics


FLOATS = ("nll_weight", "pg_weight", "advantage", "behavior_logp")


def _weigh_nodes(tree, m, behavior_logp, mask, trunk, rollouts) -> dict[int, dict[str, np.ndarray]]:
    """Per node that carries weight: its token fields."""
    out, at = {}, 0
    for i, node in enumerate(tree.nodes):
        if node.rollout >= 0:
            row, sel, source, logp = node.rollout, mask[node.rollout], rollouts, behavior_logp[node.rollout]
        elif node.target:
            row, sel, source, logp = m, slice(at, at + len(node.token)), trunk, None
            at += len(node.token)
        else:
            continue
        values = {"nll_weight": source.nll[row][sel], "pg_weight": source.pg[row][sel]}
        if not (values["nll_weight"].any() or values["pg_weight"].any()):
            continue
        values["advantage"] = source.advantage[row][sel]
        values["behavior_logp"] = np.zeros(len(node.token)) if logp is None else logp[sel]
        out[i] = values
    return out


def _depth_first_key(tree: Tree, node: int) -> tuple[int, ...]:
    return tuple(path(tree, node))


def _dense_tokens(tree: Tree, wanted: Sequence[int]) -> int:
    """Tokens when every weighed leaf, and every weighed chain, is a row of its own."""
    inner = {i for node in wanted for i in path(tree, tree.nodes[node].parent)}
    return sum(len(path_tokens(tree, node)) for node in wanted if node not in inner)


def _place(tree: Tree, weighed: dict[int, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    layout = lay_out(tree)
    out = {name: getattr(layout, name) for name in ("token", "position", "enter", "leave", "parent")}
    out["rollout"] = np.array([n.rollout for n in tree.nodes], np.int32)[layout.node]
    for name in FLOATS:
        out[name] = np.zeros(len(layout.token), np.float32)
        for node, values in weighed.items():
            out[name][layout.node == node] = values[name]
    # A path's first token has nothing before it to be scored from.
    for name in FLOATS:
        out[name][out["parent"] < 0] = 0
    out["intervals"] = layout.intervals
    return out


def _join(pieces: Sequence[dict], row_tokens: int) -> dict[str, np.ndarray]:
    """One row: intervals and parents of each piece are shifted past those before it; the rest is padding."""
    row = {name: np.zeros(row_tokens, np.int32) for name in ("token", "position", "parent")}
    row |= {name: np.full(row_tokens, -1, np.int32) for name in ("enter", "leave", "rollout")}
    row |= {name: np.zeros(row_tokens, np.float32) for name in FLOATS}
    at = clock = 0
    for piece in pieces:
        n = len(piece["token"])
        here = slice(at, at + n)
        for name in ("token", "position", "rollout", *FLOATS):
            row[name][here] = piece[name]
        row["enter"][here], row["leave"][here] = piece["enter"] + clock, piece["leave"] + clock
        row["parent"][here] = np.where(piece["parent"] >= 0, piece["parent"] + at, 0)
        at, clock = at + n, clock + piece["intervals"]
    return row


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One completion to be sampled: where it hangs and which one it is."""

    tree: int
    point: BranchPoint
    sample: int


def pack_prompts(
    trees: Sequence[Tree],
    points: Sequence[Sequence[BranchPoint]],
    *,
    row_tokens: int,
    row_slots: int,
    rows: int,
    refill: int = 0,
    offsets: Sequence[int] | None = None,
) -> tuple[list[Prompts], list[list[tuple[int, int, Slot]]]]:
    """Packs trunks and their slots; completions that share a trunk in a row share its keys and values.

    Args:
      offsets: per tree, added to the sample number (chains that are sampled apart keep apart addresses).
    Returns: prompts of `rows` rows each, and for each the (row, slot, Slot) that are in use.
    Raises: ValueError if a prompt is longer than a row or a branch point wants more samples than a row has slots.
    """
    pieces: list[tuple[Tree, list[tuple[int, Slot]]]] = []
    for t, tree in enumerate(trees):
        slots = [Slot(tree=t, point=p, sample=s) for p in points[t] for s in range(p.samples)]
        wanted = [tree.branch[slot.point.form, slot.point.after] for slot in slots]
        for part in split(tree, wanted, row_tokens, slots=[1] * len(slots), row_slots=row_slots):
            small, place = prune(tree, [wanted[i] for i in part])
            pieces.append((small, [(place[wanted[i]], slots[i]) for i in part]))
    sizes = [sum(len(n.token) for n in tree.nodes) for tree, _ in pieces]
    placed = _fit(sizes, row_tokens, [len(slots) for _, slots in pieces], row_slots)
    prompts, used = [], []
    for first in range(0, len(placed), rows):
        group = placed[first : first + rows]
        batch, where = _prompt_rows(
            [[pieces[i] for i in row] for row in group], row_tokens, row_slots, rows, refill, offsets
        )
        prompts.append(batch)
        used.append(where)
    return prompts, used


def _prompt_rows(group, row_tokens, row_slots, rows, refill, offsets):
    empty = {name: _join([], row_tokens)[name] for name in ("token", "position", "enter", "leave")}
    fields = {name: np.tile(value, (rows, 1)) for name, value in empty.items()}
    parent, enter = np.zeros((rows, row_slots), np.int32), np.full((rows, row_slots), -1, np.int32)
    address, active = np.zeros((rows, row_slots, 5), np.uint32), np.zeros((rows, row_slots), bool)
    where = []
    for r, row in enumerate(group):
        at = clock = k = 0
        for tree, slots in row:
            layout = lay_out(tree)
            here = slice(at, at + len(layout.token))
            fields["token"][r, here], fields["position"][r, here] = layout.token, layout.position
            fields["enter"][r, here], fields["leave"][r, here] = layout.enter + clock, layout.leave + clock
            words = {}
            for node, slot in slots:
                if node not in words:
                    words[node] = prompt_hash(path_tokens(tree, node))
                parent[r, k], enter[r, k] = layout.last[node] + at, layout.node_enter[node] + clock
                sample = slot.sample + (offsets[slot.tree] if offsets is not None else 0)
                address[r, k] = (refill, *words[node], slot.point.after, sample)
                active[r, k] = True
                where.append((r, k, replace(slot, sample=sample)))
                k += 1
            at, clock = at + len(layout.token), clock + layout.intervals
    prompts = Prompts(**fields, slot_parent=parent, slot_enter=enter, slot_active=active, slot_address=address)
    return prompts, where


def prompt_hash(token: np.ndarray) -> tuple[int, int]:
    """64 bits of the prompt's content as two words: the part of a sample's address that names its prompt."""
    digest = hashlib.blake2b(np.ascontiguousarray(token, np.int32).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
