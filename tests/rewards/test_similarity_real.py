"""Real actions in Qwen3's tokens are read and rewarded on the device as on the host."""

import gzip
import json
from functools import partial

import jax
import numpy as np
import pytest

from jaxsrl.data import datasets
from jaxsrl.data.chat import Template
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.rewards.format import parse
from jaxsrl.rewards.similarity_device import read_action
from jaxsrl.types import Rooms
from tests.rewards.device_cases import both, rollouts


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
    found, table = rollouts(qwen3, fit, cap=512), token_bytes(qwen3, Template())
    one = partial(read_action, think="required", prefilled=False, rooms=Rooms(bytes=2048, code_points=2048))
    read, cut = jax.jit(jax.vmap(one, (0, 0, None))), 0
    for first in range(0, len(fit), 256):
        rows = np.arange(first, first + 256) % len(fit)
        out = read(found.token[rows], found.mask[rows].sum(axis=1), table)
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
    rewards, scores = both(
        rollouts(qwen3, completions), [b for _, b in pairs], token_bytes(qwen3, Template()),
        Rooms(bytes=1024, code_points=512), count=256, groups=256, autojunk=False,
    )  # fmt: skip
    assert scores.fits.all() and 0.2 < rewards.metrics["reward/similarity"] < 0.9 and len(pairs) == 256
