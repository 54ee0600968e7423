"""Trees from demonstrations: shape, prefix guarantee, packing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsrl.data import chat
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.packing import lay_out, pack, pack_prompts, split
from jaxsrl.data.tree import attach, build, path_tokens, target_mask
from jaxsrl.types import BranchPoint, Demonstration, Node, Rollouts, TokenWeights, Tree

BYTES = ByteTokenizer()
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def demonstration(actions=("a1", "a2", "a3"), thoughts=None, titles=None):
    return Demonstration(problem_id="p", problem="x?", actions=tuple(actions), thoughts=thoughts, titles=titles)


def prompt(tree, form, after):
    return BYTES.decode(path_tokens(tree, tree.branch[form, after]).tolist())


def test_step_form_shows_the_actions_given_and_nothing_after_them():
    points = [BranchPoint(after=k, samples=2) for k in (0, 2)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    assert prompt(tree, "step", 0) == "<|step|>x?\n"
    assert prompt(tree, "step", 2) == "<|step|>x?\na1\na2\n"
    everything = "".join(BYTES.decode(node.token.tolist()) for node in tree.nodes)
    assert "a3" not in everything  # trap 54: the target is in no prompt


def test_trunk_in_user_turn_gets_a_tail_per_branch_point():
    template = Template(trunk_in="user", title_hint=True)
    points = [BranchPoint(after=k, samples=1) for k in (0, 1)]
    tree = build(demonstration(titles=("One", None, "Three")), points, (), template, BYTES)
    assert prompt(tree, "step", 0) == "<|step|>x?\n(next: One)\n<|turn|>"
    assert prompt(tree, "step", 1) == "<|step|>x?\na1\n<|turn|>"


def test_prefilled_thinking_is_part_of_the_prompt():
    tree = build(demonstration(), [BranchPoint(after=1, samples=1)], (), Template(prefill_think=True), BYTES)
    assert prompt(tree, "step", 1) == "<|step|>x?\na1\n<think>"


def test_trained_forms():
    tree = build(demonstration(("a1", "a2"), thoughts=("t1", "t2")), [], ("solve", "step"), Template(), BYTES)
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
        if node.target and BYTES.decode(path_tokens(tree, i)).startswith("<|step|>x?\na1")
    )
    assert BYTES.decode(path_tokens(tree, leaf).tolist()) == "<|step|>x?\na1\n<think>t2</think>a2<|end|>"
    assert target_mask([tree]).sum() == sum(len(node.token) for node in tree.nodes if node.target)


def test_a_branch_point_beyond_the_demonstration_is_refused():
    with pytest.raises(ValueError, match="after 4 actions, but there are 3"):
        build(demonstration(), [BranchPoint(after=4, samples=1)], (), Template(), BYTES)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(TEXT, min_size=2, max_size=5), st.sampled_from(["assistant", "user"]), st.sampled_from(["plain", "chatml"])
)
def test_prompts_are_prefixes_of_later_prompts(actions, trunk_in, kind):
    """Trap 52: prompt(k) without its tail is a token prefix of prompt(k+1)."""
    template = Template(trunk_in=trunk_in, kind=kind)
    points = [BranchPoint(after=k, samples=1) for k in range(len(actions))]
    tree = build(demonstration(actions), points, (), template, BYTES)
    tail = len(chat.tail(template, BYTES))
    paths = [path_tokens(tree, tree.branch["step", k]) for k in range(len(actions))]
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
    layout = lay_out(tree)
    seen = (layout.enter[None, :] <= layout.enter[:, None]) & (layout.enter[:, None] < layout.leave[None, :])
    seen &= layout.position[None, :] <= layout.position[:, None]
    for t, node in enumerate(layout.node):
        tokens = layout.token[seen[t]][np.argsort(layout.position[seen[t]])]
        mine = path_tokens(tree, int(node))[: layout.position[t] + 1]
        assert np.array_equal(tokens, mine)
        if layout.position[t]:
            assert layout.position[layout.parent[t]] == layout.position[t] - 1 and seen[t, layout.parent[t]]
        else:
            assert layout.parent[t] == -1
    depth = max(len(path) for path in ([i for i in _ancestors(tree, n)] for n in range(40)))
    assert depth >= 4


def _ancestors(tree, node):
    while node >= 0:
        yield node
        node = tree.nodes[node].parent


def weights(shape, value=1.0):
    full = np.full(shape, value)
    return TokenWeights(nll=full, pg=np.zeros(shape), advantage=np.zeros(shape))


def pack_targets(trees, row_tokens, rows=2):
    target = target_mask(trees)
    none = np.zeros((0, 1))
    return pack(
        trees, none, none.astype(bool), weights(target.shape), weights((0, 1)), row_tokens=row_tokens, rows=rows
    )


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
        split(tree, [0], 8)


def rollouts_for(branch, samples, length):
    count = len(branch) * samples
    rng = np.random.default_rng(2)
    mask = np.arange(length) < rng.integers(1, length + 1, count)[:, None]
    return Rollouts(
        token=rng.integers(0, 250, (count, length)).astype(np.int32), mask=mask,
        behavior_logp=rng.normal(size=(count, length)),
        demonstration=np.zeros(count, int), form=("step",) * count, branch=np.repeat(branch, samples),
        sample=np.tile(np.arange(samples), len(branch)), group=np.repeat(np.arange(len(branch)), samples),
        truncated=np.zeros(count, bool), text=("",) * count,
    )  # fmt: skip


def test_rollouts_hang_off_their_branch_point_and_keep_their_log_probs():
    """Trap 40: the first token of every sibling is scored from the last prompt token."""
    points = [BranchPoint(after=k, samples=3) for k in (0, 1)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    rollouts = rollouts_for([0, 1], 3, 5)
    tree = attach(tree, rollouts, range(6))
    zero, none = np.zeros((1, 0)), np.zeros(rollouts.mask.shape)
    given = TokenWeights(nll=none, pg=np.where(rollouts.mask, 0.5, 0), advantage=np.where(rollouts.mask, 2.0, 0))
    empty = TokenWeights(nll=zero, pg=zero, advantage=zero)
    (batch,), _ = pack([tree], rollouts.behavior_logp, rollouts.mask, empty, given, row_tokens=128, rows=1)
    for p in range(6):
        here = batch.rollout[0] == p
        assert np.array_equal(batch.token[0][here], rollouts.token[p][rollouts.mask[p]])
        assert np.allclose(batch.behavior_logp[0][here], rollouts.behavior_logp[p][rollouts.mask[p]])
        assert (batch.pg_weight[0][here] == 0.5).all() and (batch.advantage[0][here] == 2).all()
        parent = batch.parent[0][np.flatnonzero(here)[0]]
        assert batch.token[0][parent] == ord("\n") and batch.position[0][parent] == batch.position[0][here][0] - 1
    first = [batch.parent[0][np.flatnonzero(batch.rollout[0] == p)[0]] for p in range(6)]
    assert len(set(first[:3])) == 1 and len(set(first[3:])) == 1 and first[0] != first[3]


def test_prompts_share_a_trunk_and_cut_trees_with_too_many_slots():
    points = [BranchPoint(after=k, samples=4) for k in (0, 1, 2)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    prompts, used = pack_prompts([tree] * 2, [points] * 2, row_tokens=64, row_slots=6, rows=2)
    slots = [slot for where in used for *_, slot in where]
    assert len(slots) == 24 and len({(s.tree, s.point, s.sample) for s in slots}) == 24
    for batch, where in zip(prompts, used, strict=True):
        for r, k, slot in where:
            e = batch.slot_enter[r, k]
            seen = (batch.enter[r] <= e) & (e < batch.leave[r])
            order = np.argsort(batch.position[r][seen])
            want = path_tokens(tree, tree.branch["step", slot.point.after])
            assert np.array_equal(batch.token[r][seen][order], want)
            assert batch.position[r, batch.slot_parent[r, k]] == len(want) - 1
            assert batch.slot_active[r, k]


def test_addresses_name_the_prompt_and_not_the_place():
    points = [BranchPoint(after=k, samples=2) for k in (0, 1)]
    tree = build(demonstration(), points, (), Template(), BYTES)
    other = build(demonstration(("b1", "b2")), points, (), Template(), BYTES)

    def addresses(trees):
        prompts, used = pack_prompts(trees, [points] * len(trees), row_tokens=32, row_slots=8, rows=2)
        return {
            (id(trees[s.tree]), s.point.after, s.sample): tuple(batch.slot_address[r, k].tolist())
            for batch, where in zip(prompts, used, strict=True) for r, k, s in where
        }  # fmt: skip

    alone, together = addresses([tree]), addresses([other, other, tree])
    assert all(together[key] == value for key, value in alone.items())
    assert len(set(alone.values())) == 4
    assert (
        together[id(other), 1, 0] != together[id(tree), 1, 0] and together[id(other), 0, 0] == together[id(tree), 0, 0]
    )
