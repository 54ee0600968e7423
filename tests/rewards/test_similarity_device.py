"""The reward on the device is the host's to the last bit, on real actions too, and no part of it is on the host."""

import gzip
import json
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from jaxsrl.data import datasets
from jaxsrl.data.chat import Template
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.rewards import similarity_device
from jaxsrl.rewards.format import parse
from jaxsrl.rewards.similarity import StepSimilarity
from jaxsrl.rewards.similarity_device import grade, read_action, step_rewards
from jaxsrl.types import Demonstration, Rollouts

BYTES = load_tokenizer()
OPEN, CLOSE = BYTES.special("<think>"), BYTES.special("</think>")


def rollouts(tokenizer, completions, template=None, cap=256):
    """Completion i is of demonstration i, and ends where its tokens do. One cap for all, so that little is compiled."""
    p = len(completions)
    found = token_bytes(tokenizer, template or Template())
    token, mask = np.zeros((p, cap), np.int32), np.zeros((p, cap), bool)
    for i, ids in enumerate(completions):
        token[i, : len(ids)], mask[i, : len(ids)] = ids, True
    ended = [ids[-1] == tokenizer.end for ids in completions]
    text = [tokenizer.decode(ids[:-1] if end else ids) for ids, end in zip(completions, ended, strict=True)]
    none = np.zeros(p, np.int32)
    return Rollouts(
        token=token, mask=mask, behavior_logp=np.zeros((p, cap), np.float32), demonstration=np.arange(p),
        form=("step",) * p, branch=none, sample=none, group=none, truncated=~np.array(ended),
        text=tuple(found.given.decode() + t for t in text), token_bytes=found,
    )  # fmt: skip


def experts(actions):
    return [Demonstration(problem_id=str(i), problem="?", actions=(action,)) for i, action in enumerate(actions)]


def thought(action, tokenizer=BYTES):
    return [*tokenizer.special("<think>"), *tokenizer.encode("so 💭"), *tokenizer.special("</think>"),
            *tokenizer.encode(action), tokenizer.end]  # fmt: skip


LONG = ("the quick brown fox jumps over the lazy dog. " * 5)[:210]
PAIRS = [  # completion, expert
    (thought("x = 1 + 2"), "x = 1 + 2"),
    (thought("\n\u3000x = 4\u2009"), "  x = 3\n"),
    ([*BYTES.encode("x = 3"), BYTES.end], "x = 3"),
    (thought(""), "x"),
    (thought("x = 3")[:-1], "x = 3"),  # ran into the cap
    (thought(LONG.replace("fox", "cat").replace("dog", "pig")), LONG),
    (thought("naïve ∑ 𝛼 = 8"), "naïve ∑ 𝛼 = 7"),
    ([*thought("∑ 𝛼")[:-2], BYTES.end], "∑ 𝛼"),  # cut inside 𝛼
    (thought("tide"), "diet"),
    (thought("a" * 210), "a" * 210),  # equal, and all of it popular
    (thought("x"), "   "),
]


def both(found, demonstrations, **settings):
    host = StepSimilarity(where="host", **settings)(found, demonstrations)
    device = StepSimilarity(where="device", **settings)(found, demonstrations)
    assert device.reward.dtype == np.float64 and device.reward.tolist() == host.reward.tolist()
    assert device.action == host.action and device.expert == host.expert
    assert device.settings == host.settings | {"where": "device"}
    more = {name: value for name, value in device.metrics.items() if name not in host.metrics}
    assert device.metrics == host.metrics | more and [*more] == ["reward/on_host_share"]
    return device, more["reward/on_host_share"]


@pytest.mark.parametrize(
    "settings",
    [{}, {"metric": "exact", "malformed": -0.5}, {"autojunk": False, "malformed": 0.0, "think": "optional"}],
)
def test_host_and_device_give_the_same_grades(settings):
    completions, wanted = zip(*PAIRS, strict=True)
    grades, left = both(rollouts(BYTES, completions), experts(wanted), **settings)
    assert left == 0
    if not settings:
        assert grades.reward[[0, 2, 3, 4, 8, 9]].tolist() == [1, -1, -1, -1, 0.25, 1]
        assert grades.action[7] == "∑ \N{REPLACEMENT CHARACTER}"


def test_what_the_template_gave_is_part_of_the_text():
    completions, wanted = zip(*PAIRS, strict=True)
    cut = [ids[1:] if ids[0] == OPEN[0] else ids for ids in completions]
    given, _ = both(rollouts(BYTES, cut, Template(prefill_think=True)), experts(wanted))
    whole, _ = both(rollouts(BYTES, completions), experts(wanted))
    assert given.reward[[0, 1, 5, 6]].tolist() == whole.reward[[0, 1, 5, 6]].tolist()


def test_actions_longer_than_their_room_are_scored_again_with_more(monkeypatch):
    rooms = []
    run = similarity_device.step_rewards

    def spy(*args, action_room, **settings):
        rooms.append(action_room)
        return run(*args, action_room=action_room, **settings)

    monkeypatch.setattr(similarity_device, "step_rewards", spy)
    _, left = both(rollouts(BYTES, [thought("x " * 36), thought("x")]), experts(["x x", "x"]), autojunk=False)
    assert rooms == [64, 128] and left == 0


def test_what_is_too_long_for_the_device_is_scored_on_the_host_and_counted(monkeypatch):
    """At the limits' real values one row would take minutes; what happens past them is the same at others."""
    monkeypatch.setattr(similarity_device, "MAX_BYTES", 128)
    monkeypatch.setattr(similarity_device, "MAX_ACTION", 64)
    long = "y" * 65
    completions = [thought("x"), thought(long), thought("x" * 120), thought("y" * 64), [*BYTES.encode("z" * 120), 256]]
    found, demonstrations = rollouts(BYTES, completions), experts(["x", "y", "x" * 9, long, long])
    grades, left = both(found, demonstrations, autojunk=False)
    assert left == 3 / 5  # a long action, a long completion, a long expert; what is malformed needs no expert
    assert grades.reward[1] == 2 / 66 and grades.reward[3] == 128 / 129 and grades.reward[4] == -1


def test_a_text_that_does_not_fit_has_no_reward():
    """And one with an id that the table does not have. Without an end it is malformed whatever it says."""
    unknown = [BYTES.vocab_size, *thought("x")]
    completions = [thought("x" * 50), thought("x" * 70), thought("x"), thought("x" * 70)[:-1], thought("x")]
    found = rollouts(BYTES, completions)
    found.token[4, : len(unknown)], found.mask[4, : len(unknown)] = unknown, True
    shared = (np.zeros((16, 64), np.int32), np.ones(16, np.int32), np.zeros(64, np.int32), found.token_bytes)
    token, length = np.zeros((64, 256), np.int32), np.zeros(64, np.int32)
    token[:5], length[:5] = found.token, found.mask.sum(axis=1)
    for room, want in ((64, [False, False, True, True, False]), (128, [True, False, True, True, False])):
        run = step_rewards(
            token, length, *shared, room=room, action_room=64, autojunk=False, think="required", prefilled=False,
            backend=None,
        )  # fmt: skip
        assert run.fits[:5].tolist() == want and np.isnan(run.reward[:5]).tolist() == [not fits for fits in want]
        assert run.reward[2:4].tolist() == [0, -1]


def test_wrong_settings_and_rollouts_raise():
    for wrong in ({"where": "gpu"}, {"where": "device", "unit": "word"}, {"where": "device", "backend": "host"}):
        with pytest.raises(ValueError, match="where"):
            StepSimilarity(**wrong)
    reward, found = StepSimilarity(where="device", autojunk=False), rollouts(BYTES, [thought("x")])
    with pytest.raises(ValueError, match="token_bytes"):
        reward(replace(found, token_bytes=None), experts("x"))
    with pytest.raises(ValueError, match="rollout 0.*`token`"):
        reward(replace(found, text=("x",)), experts("x"))


def test_room_above_the_limit_or_below_what_is_given_raises():
    found = rollouts(BYTES, [thought("x")], Template(prefill_think=True))
    for room, action_room, width, say in ((8192, 4097, 64, "4096"), (8192, 64, 4097, "4096"), (14, 8, 64, "room")):
        with pytest.raises(ValueError, match=say):
            step_rewards(
                found.token, np.ones(1, np.int32), np.zeros((1, width), np.int32), np.ones(1, np.int32),
                np.zeros(1, np.int32), found.token_bytes, room=room, action_room=action_room, autojunk=False,
            )  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "settings", "want"),
    [("cpu", {}, "host"), ("gpu", {}, "device"), ("tpu", {}, "device"), ("gpu", {"unit": "word"}, "host"),
     ("gpu", {"backend": "host"}, "host"), ("gpu", {"where": "host"}, "host"), ("cpu", {"where": "device"}, "device")],
)  # fmt: skip
def test_the_platform_chooses_where(monkeypatch, platform, settings, want):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert StepSimilarity(**settings).chosen_where() == want


def test_the_program_has_no_callback():
    shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, np.int32)
    found = token_bytes(BYTES, Template())
    lowered = {}
    for platform in ("cpu", "cuda", "tpu"):
        traced = step_rewards.trace(
            shape(64, 32), shape(64), shape(16, 64), shape(16), shape(64), found,
            room=128, action_room=64, autojunk=True, backend="xla",
        )  # fmt: skip
        lowered[platform] = traced.lower(lowering_platforms=(platform,)).as_text()
    for text in lowered.values():
        assert "while" in text and "callback" not in text and "send" not in text


def test_it_compiles_once_for_a_shape():
    reward = StepSimilarity(where="device", autojunk=False)
    reward(rollouts(BYTES, [thought("x = 1")] * 3), experts(["x"] * 3))
    before = step_rewards._cache_size()
    for action in ("y", "x + y = 12", ""):
        reward(rollouts(BYTES, [thought(action)] * 5), experts(["x", "yy", "x", "y", "long one"]))
    assert step_rewards._cache_size() == before


@pytest.fixture(scope="module")
def qwen3(data_dir):
    return load_tokenizer(data_dir / "tokenizers" / "qwen3")


@pytest.fixture(scope="module")
def numina(data_dir):
    return [d.actions for d in datasets.numina(data_dir).demonstrations]


def agent_actions(data_dir):
    found = []
    for name, field in (("mini_swe_agent_resolved", "actions"), ("swe_agent_demonstrations", "action")):
        with gzip.open(data_dir / "agent" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                steps = [step[field] for step in json.loads(line)["steps"]]
                found.append(["\n".join(a) if isinstance(a, list) else a for a in steps])
    return found


def written(tokenizer, rng, action):
    """A completion with this action: some tokens as single bytes, some marks as text, some cut off, some not ended.

    In some, `=` is `≤`: only 7 in 1,000 actions here hold a character of more than one byte.
    """
    data = action.replace("=", "≤" if rng.random() < 0.2 else "=").encode()
    inside = [i for i, byte in enumerate(data) if byte & 0xC0 == 0x80]
    if inside and rng.random() < 0.5:
        data = data[: rng.choice(inside)]  # what remains ends inside a character
    whole = data.decode(errors="ignore")
    text = []
    for token in tokenizer.encode(whole):
        apart = rng.random() < 0.3
        text += [tokenizer.byte_ids[b] for b in tokenizer.token_bytes(token)] if apart else [token]
    text += [tokenizer.byte_ids[b] for b in data[len(whole.encode()) :]]
    opening, closing = (
        list(tokenizer.special(mark)) if rng.random() < 0.7 else tokenizer.encode(mark)
        for mark in ("<think>", "</think>")
    )
    idea = tokenizer.encode(" ".join(action.split()[::-1])[:60])
    return [*opening, *idea, *closing, *text, *[tokenizer.end] * (rng.random() < 0.98)]


def test_actions_of_every_tenth_numina_solution_and_of_agents_are_read_as_on_the_host(qwen3, numina, data_dir):
    rng = np.random.default_rng(0)
    actions = [action for solution in (*numina[::10], *agent_actions(data_dir)) for action in solution]
    completions = [written(qwen3, rng, action) for action in actions]
    fit = [ids for ids in completions if len(ids) <= 512]
    assert len(fit) > 0.9 * len(actions) > 3000
    found = rollouts(qwen3, fit, cap=512)
    one = partial(read_action, think="required", prefilled=False, room=2048, action_room=2048)
    read, cut = jax.jit(jax.vmap(one, (0, 0, None))), 0
    for first in range(0, len(fit), 256):
        rows = np.arange(first, first + 256) % len(fit)
        out = read(found.token[rows], found.mask[rows].sum(axis=1), found.token_bytes)
        for row, code, count, formed, fits in zip(rows, *map(np.asarray, out), strict=True):
            parsed = None if found.truncated[row] else parse(found.text[row])
            assert fits and formed == (parsed is not None)
            assert "".join(map(chr, code[:count])) == (parsed.action if parsed else "")
            cut += "\N{REPLACEMENT CHARACTER}" in found.text[row]
    assert cut > 50


def test_rewards_of_real_actions_are_the_hosts(qwen3, numina, data_dir):
    """An action against the expert's next one, or most of the right one."""
    rng = np.random.default_rng(1)
    pairs = []
    for solution in [*numina[::40], *agent_actions(data_dir)[::2]]:
        for before, after in zip(solution, solution[1:], strict=False):
            near = after[: len(after) // 2] + after[len(after) // 2 + 5 :]
            pairs.append((before if len(pairs) % 2 else near, after))
    pairs = [(a, b) for a, b in pairs if len(a) <= 250 and 0 < len(b) <= 250][:256]
    completions = [written(qwen3, rng, action) for action, _ in pairs]
    grades, left = both(rollouts(qwen3, completions), experts([b for _, b in pairs]), autojunk=False)
    assert left == 0 and 0.2 < grades.metrics["reward/similarity"] < 0.9 and len(pairs) == 256


def test_rollouts_of_one_group_share_their_experts_row():
    texts = ["∑ = 7", "x", "∑ = 7", "∑ = 7"]
    found = rollouts(BYTES, [thought("∑ = 8")] * 4)
    out = grade(found, texts, autojunk=False, think="required", prefilled=False, backend=None)
    assert out.scored.all() and out.ratio.tolist() == [0.8, 0, 0.8, 0.8]
