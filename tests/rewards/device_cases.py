"""Completions as the sampler hands them over, and what host and device say of them."""

import jax
import numpy as np

from jaxsrl.data.chat import Template
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.ops.text import padded_code_points
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Completions, Demonstration, Rollouts, Rooms

BYTES = load_tokenizer()
TABLE = token_bytes(BYTES, Template())
OPEN, CLOSE = BYTES.special("<think>"), BYTES.special("</think>")
JOBS, GROUPS, CAP = 64, 16, 256  # one shape for nearly all, so that little is compiled
ROOMS = Rooms(bytes=512, code_points=256)
SMALL = Rooms(bytes=128, code_points=64)


def rollouts(tokenizer, completions, table=TABLE, cap=CAP):
    """Completion i is of demonstration i, and ends where its tokens do."""
    p = len(completions)
    token, mask = np.zeros((p, cap), np.int32), np.zeros((p, cap), bool)
    for i, ids in enumerate(completions):
        token[i, : len(ids)], mask[i, : len(ids)] = ids, True
    ended = [ids[-1] == tokenizer.end for ids in completions]
    text = [tokenizer.decode(ids[:-1] if end else ids) for ids, end in zip(completions, ended, strict=True)]
    none = np.zeros(p, np.int32)
    return Rollouts(
        token=token, mask=mask, demonstration=np.arange(p),
        form=("action",) * p, branch=none, sample=none, group=none, truncated=~np.array(ended),
        text=tuple(table.given.decode() + t for t in text),
    )  # fmt: skip


def experts(actions):
    return [Demonstration(problem_id=str(i), problem="?", actions=(action,)) for i, action in enumerate(actions)]


def jobs(found, actions, rooms=ROOMS, count=JOBS, groups=GROUPS):
    """Arguments of `score` up to the table: one row for all that have the same expert, and empty jobs at the end."""
    fill = lambda x, size: np.pad(x, [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1))
    texts = [action.strip() for action in actions]
    row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    code, size = padded_code_points([*row], room=rooms.code_points)
    completions = Completions(
        token=fill(found.token, count), logp=fill(np.zeros(found.token.shape, np.float32), count),
        length=fill(found.mask.sum(axis=1).astype(np.int32), count),
    )  # fmt: skip
    group = fill(np.array([row[text] for text in texts], np.int32), count)
    return completions, fill(code, groups), fill(size, groups), group


def scored(reward, found, actions, table=TABLE, rooms=ROOMS, **sizes):
    """Scores of all jobs, the empty ones too."""
    return jax.device_get(reward.score(*jobs(found, actions, rooms, **sizes), table, rooms))


def those(scores, count):
    return jax.tree.map(lambda x: x[:count], scores)


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
    (thought("x = 1"), "x = 1 + 2"),  # how the expert begins
]
COMPLETIONS, ACTIONS = zip(*PAIRS, strict=True)


def both(found, actions, table=TABLE, rooms=ROOMS, count=JOBS, groups=GROUPS, **settings):
    """The host's rewards, compared in every number with what is made of the device's scores."""
    host = ActionSimilarity(**settings)(found, experts(actions))
    reward = ActionSimilarity(where="device", **settings)
    scores = scored(reward, found, actions, table, rooms, count=count, groups=groups)
    device = reward.rewards(those(scores, len(found)), found, experts(actions))
    assert device.reward.dtype == np.float64 and device.reward.tolist() == host.reward.tolist()
    assert device.action == host.action and device.expert == host.expert
    assert device.settings == host.settings | {"where": "device"}
    assert device.metrics == host.metrics | {"reward/unfit_share": np.mean(~scores.fits[: len(found)])}
    assert (
        scores.reward.dtype == np.float32 and scores.fits[len(found) :].all() and not scores.formed[len(found) :].any()
    )
    np.testing.assert_allclose(scores.reward[scores.fits], _filled(host, scores), rtol=2e-7)
    return device, scores


def _filled(host, scores):
    empty = np.full(len(scores.reward) - len(host.reward), host.settings["malformed"])
    return np.concatenate([host.reward, empty])[scores.fits]
