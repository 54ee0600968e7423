"""Trees from demonstrations: shape, prefix guarantee, rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsrl.data import chat
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.layout import lay_out
from jaxsrl.data.tree import build, path_tokens, target_mask
from jaxsrl.types import BranchPoint, Demonstration, Node, Rollouts, TokenWeights, Tree, Weights
from tests.rows import pack, shapes_of

BYTES = ByteTokenizer()
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def demonstration(actions=("a1", "a2", "a3"), thoughts=None, titles=None):
    return Demonstration(problem_id="p", problem="x?", actions=tuple(actions), thoughts=thoughts, titles=titles)


def prompt(tree, form, after):
    return BYTES.decode(path_tokens(tree, tree.branch[form, after]).tolist())


def test_step_form_shows_the_actions_given_and_nothing_after_them():
    points = [BranchPoint(after=k, samples=2) for k in (0, 2)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    assert prompt(tree, "action", 0) == "<|action|>x?\n"
    assert prompt(tree, "action", 2) == "<|action|>x?\na1\na2\n"
    everything = "".join(BYTES.decode(node.token.tolist()) for node in tree.nodes)
    assert "a3" not in everything  # trap 54: the target is in no prompt


def test_trunk_in_user_turn_gets_a_tail_per_branch_point():
    template = Template(trunk_in="user", title_hint=True)
    points = [BranchPoint(after=k, samples=1) for k in (0, 1)]
    tree = build(demonstration(titles=("One", None, "Three")), points, (), template, BYTES)
    assert prompt(tree, "action", 0) == "<|action|>x?\n(next: One)\n<|turn|>"
    assert prompt(tree, "action", 1) == "<|action|>x?\na1\n<|turn|>"


def test_prefilled_thinking_is_part_of_the_prompt():
    tree = build(demonstration(), [BranchPoint(after=1, samples=1)], (), Template(prefill_think=True), BYTES)
    assert prompt(tree, "action", 1) == "<|action|>x?\na1\n<think>"


def test_trained_forms():
    tree = build(demonstration(("a1", "a2"), thoughts=("t1", "t2")), [], ("solve", "action"), Template(), BYTES)
    targets = [BYTES.decode(node.token.tolist()) for node in tree.nodes if node.target]
    assert targets == [
        "<think>t1</think>a1\n",
        "<think>t2</think>a2<|end|>",
        "<think>t1</think>a1<|end|>",
        "<think>t2</think>a2<|end|>",
    ]  # fmt: skip
    leaf = next(
        i
        for i, node in enumerate(tree.nodes)
        if node.target and BYTES.decode(path_tokens(tree, i)).startswith("<|action|>x?\na1")
    )
    assert BYTES.decode(path_tokens(tree, leaf).tolist()) == "<|action|>x?\na1\n<think>t2</think>a2<|end|>"
    assert target_mask([tree]).sum() == sum(len(node.token) for node in tree.nodes if node.target)


def test_a_branch_point_beyond_the_demonstration_is_refused():
    with pytest.raises(ValueError, match="after 4 actions, but there are 3"):
        build(demonstration(), [BranchPoint(after=4, samples=1)], (), Template(), BYTES)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(TEXT, min_size=2, max_size=5), st.sampled_from(["assistant", "user"]), st.sampled_from(["plain", "chatml"])
)
def test_prompts_are_prefixes_of_later_prompts(actions, trunk_in, kind):
    """prompt(k) without its tail is a token prefix of prompt(k+1)."""
    template = Template(trunk_in=trunk_in, kind=kind)
    points = [BranchPoint(after=k, samples=1) for k in range(len(actions))]
    tree = build(demonstration(actions), points, (), template, BYTES)
    tail = len(chat.tail(template, BYTES))
    paths = [path_tokens(tree, tree.branch["action", k]) for k in range(len(actions))]
    paths = [path[: len(path) - tail] for path in paths]
    for shorter, longer in zip(paths, paths[1:], strict=False):
        assert np.array_equal(longer[: len(shorter)], shorter) and len(longer) > len(shorter)


def random_tree(rng, nodes):
    """A general tree: any node may have children, tokens tell where they stand."""
    made = []
    for i in range(nodes):
        parent = -1 if i == 0 or rng.random() < 0.05 else int(rng.integers(0, i))
        made.append(Node(token=rng.integers(0, 250, rng.integers(1, 5)).astype(np.int32), parent=parent, target=True))
    return Tree(nodes=tuple(made), branch={})


def test_visibility_of_a_general_tree_is_exactly_its_paths():
    rng = np.random.default_rng(0)
    tree = random_tree(rng, 40)
    # Each token once: what a place is, is said by its token.
    count = sum(len(node.token) for node in tree.nodes)
    ends = np.cumsum([len(node.token) for node in tree.nodes])
    nodes = tuple(replace(n, token=np.arange(e - len(n.token), e)) for n, e in zip(tree.nodes, ends, strict=True))
    tree = replace(tree, nodes=nodes)
    (batch,), _ = pack_targets([tree], 2 * count, rows=1)
    row = {name: getattr(batch, name)[0] for name in ("token", "position", "enter", "leave", "parent")}
    there = row["enter"] >= 0
    assert sorted(row["token"][there]) == list(range(count)) and there[:count].all()
    seen = (row["enter"][None, :] <= row["enter"][:, None]) & (row["enter"][:, None] < row["leave"][None, :])
    seen &= row["position"][None, :] <= row["position"][:, None]
    # In depth-first order the rule is causality and one number a key.
    short = (np.arange(2 * count)[None, :] <= np.arange(2 * count)[:, None]) & (
        row["enter"][:, None] < row["leave"][None, :]
    )  # fmt: skip
    np.testing.assert_array_equal(seen[:count], short[:count])
    for t in range(count):
        node = int(np.searchsorted(ends, row["token"][t], side="right"))
        tokens = row["token"][seen[t]][np.argsort(row["position"][seen[t]])]
        mine = path_tokens(tree, node)[: row["position"][t] + 1]
        assert np.array_equal(tokens, mine)
        if row["position"][t]:
            assert row["position"][row["parent"][t]] == row["position"][t] - 1 and seen[t, row["parent"][t]]
        else:
            assert row["parent"][t] == 0 and batch.nll_weight[0, t] == 0  # nothing scores it
    depth = max(len(path) for path in ([i for i in _ancestors(tree, n)] for n in range(40)))
    assert depth >= 4


def _ancestors(tree, node):
    while node >= 0:
        yield node
        node = tree.nodes[node].parent


def nothing(shape):
    return TokenWeights(nll=np.zeros(shape), pg=np.zeros(shape), advantage=np.zeros(shape))


def pack_targets(trees, row_tokens, rows=2):
    target = target_mask(trees)
    trunk = replace(nothing(target.shape), nll=target.astype(float))
    given = Weights(trunk=trunk, rollouts=nothing((0, 1)))
    return pack(trees, None, np.zeros((0, 1)), given, row_tokens=row_tokens, rows=rows)


def test_packing_keeps_every_weight_once_also_when_a_tree_is_cut():
    rng = np.random.default_rng(1)
    trees = [random_tree(rng, 25) for _ in range(3)]
    first = sum(1 for tree in trees for node in tree.nodes if node.parent < 0)  # a path's first token is not scored
    total = target_mask(trees).sum() - first
    for row_tokens in (40, 64, 400):
        batches, metrics = pack_targets(trees, row_tokens)
        assert sum(batch.nll_weight.sum() for batch in batches) == total
        assert all(batch.token.shape == (2, row_tokens) for batch in batches)
        assert (metrics["pack/cut_trees"] > 0) == (row_tokens < 400)
        for batch in batches:
            padding = batch.enter < 0
            assert (batch.leave[padding] == -1).all() and not batch.nll_weight[padding].any()
            for row in range(2):
                assert len({*batch.enter[row][~padding[row]]}) <= batch.leave[row].max(initial=0)


def test_a_path_longer_than_a_row_says_how_long_rows_must_be():
    tree = Tree(nodes=(Node(token=np.arange(9, dtype=np.int32), target=True),), branch={})
    with pytest.raises(ValueError, match="at least 9"):
        pack_targets([tree], 8)
    assert len(pack_targets([tree], 9)[0]) == 1


def rollouts_for(branch, samples, length):
    count = len(branch) * samples
    rng = np.random.default_rng(2)
    mask = np.arange(length) < rng.integers(1, length + 1, count)[:, None]
    return Rollouts(
        token=rng.integers(0, 250, (count, length)).astype(np.int32), mask=mask,
        demonstration=np.zeros(count, int), form=("action",) * count, branch=np.repeat(branch, samples),
        sample=np.tile(np.arange(samples), len(branch)), group=np.repeat(np.arange(len(branch)), samples),
        truncated=np.zeros(count, bool), text=("",) * count,
    )  # fmt: skip


def test_rollouts_hang_off_their_branch_point_and_keep_their_log_probs():
    """The first token of every sibling is scored from the last prompt token."""
    points = [BranchPoint(after=k, samples=3) for k in (0, 1)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    rollouts = rollouts_for([0, 1], 3, 5)
    logp = np.random.default_rng(3).normal(size=rollouts.mask.shape).astype(np.float32)
    given = TokenWeights(
        nll=0.0 * rollouts.mask, pg=np.where(rollouts.mask, 0.5, 0), advantage=np.where(rollouts.mask, 2.0, 0)
    )
    both = Weights(trunk=nothing((1, 0)), rollouts=given)
    (batch,), _ = pack([tree], rollouts, logp, both, row_tokens=128, rows=1)
    for p in range(6):
        here = batch.rollout[0] == p
        assert np.array_equal(batch.token[0][here], rollouts.token[p][rollouts.mask[p]])
        assert np.array_equal(batch.behavior_logp[0][here], logp[p][rollouts.mask[p]])
        assert (batch.pg_weight[0][here] == 0.5).all() and (batch.advantage[0][here] == 2).all()
        parent = batch.parent[0][np.flatnonzero(here)[0]]
        assert batch.token[0][parent] == ord("\n") and batch.position[0][parent] == batch.position[0][here][0] - 1
    first = [batch.parent[0][np.flatnonzero(batch.rollout[0] == p)[0]] for p in range(6)]
    assert len(set(first[:3])) == 1 and len(set(first[3:])) == 1 and first[0] != first[3]


def laid_out(given, points, *, row_tokens, slots, rows, **how):
    """A layout in sheets of that shape."""
    shapes = replace(
        shapes_of(1, 1), prompt_rows=rows, prompt_tokens=row_tokens, slots=slots, groups=rows * slots, group_size=slots,
        demonstrations=len(given),
    )  # fmt: skip
    return lay_out(given, points, shapes, template=Template(), tokenizer=BYTES, **how)


def test_prompts_share_a_trunk_and_cut_trees_with_too_many_slots():
    points = [BranchPoint(after=k, samples=4) for k in (0, 1, 2)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    layout = laid_out([demonstration()] * 2, [points] * 2, row_tokens=64, slots=8, rows=2)
    jobs, order = layout.jobs, layout.order
    names = list(zip(jobs.demonstration[order], jobs.branch[order], jobs.sample[order], strict=True))
    assert len(order) == 24 == len(set(names)) == jobs.active.sum() and names == sorted(names)
    used = 0
    for job in order:
        sheet, row = layout.sheets[job // 16].prompts, job % 16 // 8
        k = job % 8
        e = sheet.slot_enter[row, k]
        seen = (sheet.enter[row] <= e) & (e < sheet.leave[row])
        at = np.argsort(sheet.position[row][seen])
        want = path_tokens(tree, tree.branch["action", int(jobs.branch[job])])
        assert np.array_equal(sheet.token[row][seen][at], want)
        assert sheet.position[row, sheet.slot_parent[row, k]] == len(want) - 1
        assert sheet.slot_active[row, k]
    for sheet in layout.sheets:
        used += int((sheet.prompts.enter >= 0).sum())
    assert used < sum(len(path_tokens(tree, tree.branch["action", k])) for k in (0, 1, 2)) * 2  # shared within a row


def test_addresses_name_the_prompt_and_not_the_place():
    points = [BranchPoint(after=k, samples=2) for k in (0, 1)]
    one, other = demonstration(), demonstration(("b1", "b2"))

    def addresses(given, positions):
        layout = laid_out(given, [points] * len(given), row_tokens=32, slots=8, rows=2, positions=positions)
        words = np.concatenate([sheet.prompts.slot_address.reshape(-1, 6) for sheet in layout.sheets])
        jobs = layout.jobs
        found = {}
        for j in layout.order:
            m = jobs.demonstration[j]
            name = given[m].actions[0], positions[m], int(jobs.branch[j]), int(jobs.sample[j])
            found[name] = tuple(words[j].tolist())
        return found

    alone, together = addresses([one], [7]), addresses([other, other, one], [5, 6, 7])
    assert all(together[key] == value for key, value in alone.items())
    assert len(set(alone.values())) == 4 and len(set(together.values())) == 12
    hashed = lambda key: together[key][2:4]
    assert hashed(("b1", 5, 1, 0)) != hashed(("a1", 7, 1, 0)) and hashed(("b1", 5, 0, 0)) == hashed(("a1", 7, 0, 0))
    assert hashed(("b1", 5, 1, 0)) == hashed(("b1", 6, 1, 0))  # the place in the data is a word of its own
    assert together["b1", 5, 1, 0] != together["b1", 6, 1, 0]


def test_groups_stay_in_one_row_where_it_is_asked_for():
    """Rows of 24: a third completion would fit beside the first two, but its sibling would not."""
    nodes = (Node(token=np.arange(4, dtype=np.int32)), Node(token=np.arange(2, dtype=np.int32), parent=0))
    tree = Tree(nodes=nodes, branch={("action", 0): 0, ("action", 1): 1})
    group, mask = np.array([3, 3, 8, 8]), np.ones((4, 6), bool)
    rollouts = replace(rollouts_for([1, 0], 2, 6), mask=mask, group=group)
    given = Weights(trunk=nothing((1, 0)), rollouts=replace(nothing((4, 6)), pg=np.ones((4, 6))))
    together = lambda tokens, **how: pack([tree], rollouts, 0.0 * mask, given, row_tokens=tokens, rows=1, **how)[0]
    parted, whole = together(24), together(24, group=group)
    rows = lambda batches: [sorted({int(p) for p in b.rollout.ravel() if p >= 0}) for b in batches]
    assert rows(parted) != rows(whole) and sorted(rows(whole)) == [[0, 1], [2, 3]]
    for batch in whole:
        np.testing.assert_array_equal(batch.group, np.where(batch.rollout >= 0, group[batch.rollout], -1))
    assert parted[0].group is None
    with pytest.raises(ValueError, match="group of completions that must not be parted"):
        together(15, group=group)
    assert sorted(rows(together(15))) == [[0], [1], [2], [3]]
