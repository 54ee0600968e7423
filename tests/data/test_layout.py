"""Layouts: prompts, addresses and groups of general trees, and how much of a sheet is empty."""

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from jaxsrl.data import datasets
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.compaction import plan
from jaxsrl.data.layout import lay_out, lay_out_trees
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tables import hang, tabulate
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.objectives.sft import SFT
from jaxsrl.types import BranchPoint, Demonstration, Node, Tree
from tests.data.forests import NOBODY, case, random_tree, shapes

BYTES = ByteTokenizer()


def demonstration(*actions, problem="x?"):
    return Demonstration(problem_id=problem, problem=problem, actions=actions or ("a1", "a2 ", "a3"))


def laid_out(demonstrations, points, sizes, **how):
    return lay_out(demonstrations, points, sizes, template=Template(), tokenizer=BYTES, **how)


@pytest.mark.parametrize("seed", range(5))
def test_every_job_sees_its_prompt(seed):
    c = case(seed, nodes=20, branches=6, prompt_tokens=48)
    layout, jobs, size = c.layout, c.layout.jobs, c.layout.shapes
    seen_jobs = set()
    for p in layout.order.tolist():
        s, r, k = p // size.jobs, p % size.jobs // size.slots, p % size.slots
        prompts = layout.sheets[s].prompts
        e = prompts.slot_enter[r, k]
        here = np.flatnonzero((prompts.enter[r] <= e) & (e < prompts.leave[r]))
        order = here[np.argsort(prompts.position[r, here])]
        tree = c.trees[jobs.demonstration[p]]
        want = path_tokens(tree, tree.branch["action", int(jobs.branch[p])])
        assert np.array_equal(prompts.token[r, order], want) and prompts.slot_active[r, k]
        assert order[-1] == prompts.slot_parent[r, k]
        by_order = np.flatnonzero((np.arange(size.prompt_tokens) <= order[-1]) & (e < prompts.leave[r]))
        assert np.array_equal(by_order, here[here <= order[-1]])
        digest = hashlib.blake2b(want.astype(np.int32).tobytes(), digest_size=8).digest()
        words = tuple(int.from_bytes(digest[i : i + 4], "little") for i in (0, 4))
        assert tuple(prompts.slot_address[r, k, 2:4].tolist()) == words
        seen_jobs.add((int(jobs.demonstration[p]), int(jobs.branch[p]), int(jobs.sample[p])))
    assert len(seen_jobs) == len(layout.order) == jobs.active.sum()
    assert sum(sheet.prompts.slot_active.sum() for sheet in layout.sheets) == len(seen_jobs)
    keys = [(jobs.demonstration[p], jobs.branch[p], jobs.sample[p]) for p in layout.order]
    assert keys == sorted(keys)


def test_a_process_lays_out_the_prompts_that_it_holds():
    c = case(1, nodes=20, branches=6, prompt_tokens=48)
    held = np.arange(c.layout.shapes.prompt_rows) % 2 == 0  # rows apart, so that their places must be counted
    own = lay_out_trees((NOBODY,) * len(c.trees), c.trees, c.points, c.layout.shapes, held=held)
    assert held.sum() > 1 and not held.all() and len(own.sheets) == len(c.layout.sheets)
    for mine, whole in zip(own.sheets, c.layout.sheets, strict=True):
        for name, value in vars(whole.prompts).items():
            assert np.array_equal(getattr(mine.prompts, name), value[held]), name
        assert all(np.array_equal(x, getattr(whole.groups, name)) for name, x in vars(mine.groups).items())
    assert np.array_equal(own.order, c.layout.order)


def test_groups_stay_in_a_row_of_their_sheet():
    c = case(1, branches=6, prompt_tokens=48)
    groups, size = c.layout.groups, c.layout.shapes
    for q in np.flatnonzero(groups.present.any(axis=1)):
        members = groups.member[q][groups.present[q]]
        assert len({m // size.slots for m in members.tolist()}) == 1 and members[0] // size.jobs == q // size.groups
        assert np.array_equal(groups.group[members], np.full(len(members), q))
        assert np.array_equal(groups.column[members], np.arange(len(members)))
        one = c.layout.jobs
        assert len({(one.demonstration[m], one.branch[m]) for m in members}) == 1
        assert groups.demonstration[q] == one.demonstration[members[0]]
    assert len(c.layout.sheets) > 1
    local = c.layout.sheets[1].groups
    assert local.member.max() < size.jobs and local.group.max() < size.groups


def test_addresses_are_of_the_demonstration_and_not_of_the_place():
    points = [tuple(BranchPoint(after=k, samples=2) for k in (0, 1))]
    sizes = shapes(prompt_tokens=32)

    def addresses(demonstrations, positions, **how):
        layout = laid_out(demonstrations, points * len(demonstrations), sizes, positions=positions, **how)
        words = np.concatenate([sheet.prompts.slot_address.reshape(-1, 6) for sheet in layout.sheets])
        found = {}
        for p in layout.order.tolist():
            m = int(layout.jobs.demonstration[p])
            found[positions[m], int(layout.jobs.branch[p]), int(layout.jobs.sample[p])] = tuple(words[p].tolist())
        return found

    mine, other = demonstration(), demonstration("b1", "b2", "b3")
    alone, together = addresses([mine], [7]), addresses([other, mine, mine], [5, 6, 7])
    assert {key: together[key] for key in alone} == alone and len(set(together.values())) == 12
    assert together[6, 0, 0][2:] == together[7, 0, 0][2:]  # equal prompts, apart by their position alone
    assert addresses([mine], [7], refill=2)[7, 0, 0] == (2, *alone[7, 0, 0][1:])
    assert [key[2] for key in addresses([mine], [7], offsets=[4])] == [4, 5, 4, 5]
    assert addresses([mine], [7], offsets=[4])[7, 1, 4] == (*alone[7, 1, 0][:5], 4)


def test_hashes_of_groups_are_of_the_address():
    points = [tuple(BranchPoint(after=k, samples=2) for k in (0, 1))] * 2

    def hashes(**how):
        layout = laid_out([demonstration(), demonstration()], points, shapes(prompt_tokens=32), **how)
        first = layout.groups.member[:, 0]
        there = np.flatnonzero(layout.groups.present[:, 0])
        of = lambda q: (int(layout.jobs.demonstration[first[q]]), int(layout.jobs.branch[first[q]]))
        return {of(q): int(layout.groups.hash[q]) for q in there}

    first = hashes(positions=[0, 1])
    assert len(set(first.values())) == 4 and hashes(positions=[0, 1]) == first
    moved = hashes(positions=[1, 2])
    assert {moved[0, k] for k in (0, 1)} == {first[1, k] for k in (0, 1)}
    assert not set(hashes(positions=[0, 1], refill=1).values()) & set(first.values())
    many = laid_out(
        [demonstration()] * 5, [(BranchPoint(after=0, samples=1),)] * 5, shapes(), positions=[0, 2**32, 2**33, 3, 4]
    )
    assert many.groups.hash.dtype == np.uint32


def test_the_experts_action_as_code_points():
    points = [(BranchPoint(after=1, samples=2), BranchPoint(after=0, samples=1, form="solve"))]
    sizes = shapes(code_points=4)
    (sheet,) = laid_out([demonstration("a1", " ∫x dx ", "a3")], points, sizes).sheets
    texts = {}
    for q in np.flatnonzero(sheet.groups.present.any(axis=1)):
        texts[int(sheet.groups.present[q].sum())] = (sheet.expert[q].tolist(), int(sheet.expert_length[q]))
    assert texts == {2: ([ord(c) for c in "∫x d"], 5), 1: ([*map(ord, "a3"), 0, 0], 2)}  # a whole solution: its last


def test_what_does_not_fit_names_the_size_to_raise():
    point = (BranchPoint(after=0, samples=3),)
    with pytest.raises(ValueError, match="a prompt of 4 tokens .* raise prompt_tokens to at least 4"):
        laid_out([demonstration()], [point], shapes(prompt_tokens=3))
    with pytest.raises(ValueError, match="branch point of 3 rollouts .* raise slots to at least 3"):
        laid_out([demonstration()], [point], shapes(slots=2))
    with pytest.raises(ValueError, match="takes groups=2, and shapes.groups is 1"):
        laid_out([demonstration()] * 2, [point] * 2, shapes(groups=1))
    with pytest.raises(ValueError, match="takes group_size=3, and shapes.group_size is 2"):
        laid_out([demonstration()], [point], shapes(group_size=2))
    with pytest.raises(ValueError, match="6 demonstrations in a round of 5"):
        laid_out([demonstration()] * 6, [point] * 6, shapes())
    with pytest.raises(ValueError, match="room for 3: raise targets to at least"):
        laid_out([demonstration()], [()], shapes(targets=3), trunk=("action",))
    with pytest.raises(ValueError, match="takes 2 sheets .* raise sheets to at least 2"):
        laid_out([demonstration()] * 2, [point] * 2, shapes(prompt_rows=1, slots=4), sheets=1)
    with pytest.raises(ValueError, match="shapes.slots must be >= 1"):
        shapes(slots=0)
    assert len(laid_out([demonstration()], [point], shapes(), sheets=3).sheets) == 3


def test_a_round_without_rollouts_has_no_sheets():
    layout = laid_out([demonstration()], [()], shapes(), trunk=("action",))
    assert layout.sheets == () and len(layout.jobs.active) == 0 and layout.groups.member.shape == (0, 4)
    assert np.asarray(layout.trunk.target).sum() == sum(
        len(node.token) for node in build(demonstration(), (), ("action",), Template(), BYTES).nodes if node.target
    )
    assert layout.trunk.token.shape == (64 * -(-layout.trunk.token.size // 64),)


def test_chosen_shapes_hold_what_they_were_chosen_from_and_are_json():
    rng = np.random.default_rng(0)
    drawn = [random_tree(rng, 12, 4) for _ in range(40)]
    trees, points = [tree for tree, _ in drawn], [point for _, point in drawn]
    for room in (
        Room(demonstrations=4, completion_tokens=6),
        Room(demonstrations=32, completion_tokens=6, whole_groups=True),
    ):
        chosen = choose_shapes(trees, points, room)
        assert Shapes(**json.loads(json.dumps(asdict(chosen)))) == chosen
        short = 0
        for at in range(0, 40 - room.demonstrations + 1, 4):
            here = slice(at, at + room.demonstrations)
            layout = lay_out_trees((NOBODY,) * room.demonstrations, trees[here], points[here], chosen)
            active = layout.jobs.active
            used = np.ones(room.demonstrations, bool)
            made = plan(
                layout.tables, np.full(len(active), 6), active, used, chosen, whole_groups=room.whole_groups
            )  # fmt: skip
            assert {len(batch.start) for batch in made.batches} <= set(chosen.rows)
            short += len(layout.sheets) > chosen.sheets
        assert short <= 1 and (room.demonstrations > 4 or chosen.sheets == 1)
    fixed = choose_shapes(trees, points, room, {"tokens": 128, "slots": 12, "rows": (4,), "prompt_rows": 2})
    assert (fixed.tokens, fixed.slots, fixed.rows, fixed.prompt_rows) == (128, 12, (4,), 2)
    parts = choose_shapes(trees, points, replace(room, prompt_parts=4, parts=4))
    assert parts.prompt_rows % 4 == 0 and all(rows % 4 == 0 for rows in (*parts.rows, parts.round_rows))
    trained = [build(demonstration(), (), SFT(trunk=("action",)).trunk, Template(), BYTES)] * 3
    alone = choose_shapes(trained, [()] * 3, Room(demonstrations=2, completion_tokens=6))
    assert (
        alone.sheets == 0 and alone.targets > 0 and len(lay_out_trees((NOBODY,), trained[:1], [()], alone).sheets) == 0
    )


@pytest.mark.parametrize("name", ["gsm8k", "numina"])
def test_little_is_empty_over_50_batches(name, data_dir, qwen3):
    """At most 10 in 100 jobs, token places of prompt rows and token places of learner batches, and 4 programs."""
    rows = getattr(datasets, name)(data_dir).demonstrations
    points = [tuple(BranchPoint(after=k, samples=8) for k in range(len(d.actions) - 1)) for d in rows]
    trees = [build(d, p, (), Template(), qwen3) for d, p in zip(rows, points, strict=True)]
    chosen = choose_shapes(trees, points, Room(demonstrations=64, completion_tokens=300))
    rng = np.random.default_rng(1)
    order = rng.permutation(len(rows))
    filled, room, sizes, sheets = np.zeros(3), np.zeros(3), set(), []
    for batch in range(50):
        here = order[(64 * batch + np.arange(64)) % len(rows)]
        pick = lambda values: [values[i] for i in here]  # noqa: B023
        layout = lay_out_trees(pick(rows), pick(trees), pick(points), chosen)
        active = layout.jobs.active
        length = np.clip(rng.lognormal(np.log(150) - 0.18, 0.6, len(active)), 1, 300).astype(int)
        made = plan(layout.tables, length, active & (rng.random(len(active)) < 0.4), np.zeros(64, bool), chosen)
        enter = [sheet.prompts.enter for sheet in layout.sheets]
        filled += [active.sum(), sum((x >= 0).sum() for x in enter), made.metrics["pack/tokens"]]
        room += [active.size, sum(x.size for x in enter), made.metrics["pack/slots"]]
        sizes |= {len(segments.start) for segments in made.batches}
        sheets.append(len(layout.sheets))
        assert made.metrics["pack/tokens"] < 1.05 * made.metrics["pack/tree_tokens"]  # not filled with repeats
    assert (1 - filled / room <= 0.1).all(), 1 - filled / room
    assert len(sizes) <= 4 and 6 <= np.mean(sheets) <= 17  # 8 to 16 in the rounds that sizes were chosen from


def test_depth_first_order_with_rollouts():
    """Items of a tree by hand: 0 - 1 - 2 and 0 - 3, rollouts below 0, 1 and 2."""
    token = lambda n: np.arange(n, dtype=np.int32)
    tree = Tree(
        nodes=(
            Node(token=token(2)), Node(token=token(3), parent=0, target=True), Node(token=token(0), parent=1),
            Node(token=token(4), parent=0, target=True), Node(token=token(1), parent=2),
        ), branch={},
    )  # fmt: skip
    forest = tabulate([tree])
    assert forest.place[0].tolist() == [0, 1, 1, 3, 2] and forest.nodes.parent.tolist() == [-1, 0, 1, 0]
    assert forest.nodes.target.tolist() == [-1, 0, -1, 3] and forest.targets.tolist() == [7]
    hung = hang(forest.nodes, np.array([0, 1, 2, 2]), np.arange(4), np.array([0, 1, 2, 2]))
    assert hung.job.tolist() == [-1, -1, -1, 2, 3, 1, -1, 0]
    assert hung.end.tolist() == [8, 6, 5, 4, 5, 6, 7, 8]
    assert hung.position.tolist() == [0, 2, 5, 6, 6, 5, 2, 2]
