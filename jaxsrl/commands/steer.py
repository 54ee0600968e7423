"""A policy steered by two small ones of another run: proxy-tuning, for `eval` and `sample`."""

from dataclasses import dataclass
from pathlib import Path

from jaxsrl.commands.weights import saved_policy
from jaxsrl.data.tokenizer import Tokenizer, load_tokenizer
from jaxsrl.policy import Policy, make_policy, whole_params
from jaxsrl.rollout.proxy import make_proxy_sampler
from jaxsrl.runs import RunError


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """Two policies of one run whose difference steers a third.

    Args:
      run: run folder.
      tuned, untuned: `STAGE`, `STAGE:last` or `STAGE:best`.
      alpha: how much of the difference between their logits is added.
    """

    run: Path
    tuned: str
    untuned: str
    alpha: float = 1.0


def steer(policy: Policy, tokenizer: Tokenizer, folder: Path, proxy: Proxy) -> tuple[Policy, str]:
    """The policy that draws from z_M + alpha (z_tuned - z_untuned), and what was added, for its name.

    Its parameters are the three models'.

    Args:
      folder: of the run or of the published model that the policy is of.
    Raises: RunError where the run lacks a policy, or its ids mean something else.
    """
    small, tuned, high = saved_policy(proxy.run, proxy.tuned)
    _, untuned, low = saved_policy(proxy.run, proxy.untuned)
    if proxy.run.resolve() != folder.resolve():
        _check_ids(proxy.run, tokenizer)
    if small.vocab != policy.model.vocab:
        raise RunError(f"{proxy.run} has {small.vocab} ids, {folder} has {policy.model.vocab}")
    placement = policy.placement
    sampler = lambda sampling: make_proxy_sampler(
        policy.model, small, sampling, tokenizer.ends, alpha=proxy.alpha, mesh=placement.sampler_mesh
    )
    steered = make_policy(
        policy.model, (whole_params(policy), tuned, untuned), None, None, placement, tokenizer.ends, policy.compiled,
        sampler,
    )  # fmt: skip
    return steered, f" + {proxy.alpha:g} ({high} - {low} of {proxy.run.name})"


def _check_ids(run: Path, tokenizer: Tokenizer) -> None:
    """Raises RunError unless every id spells the same for the run's policies."""
    if not (run / "tokenizer").is_dir():
        raise RunError(f"{run} was trained with used_ids_only=true: its ids are its own, and steer nothing else")
    theirs = load_tokenizer(run / "tokenizer", template="plain")
    both = range(min(theirs.vocab_size, tokenizer.vocab_size))
    wrong = next((i for i in both if theirs.token_bytes(i) != tokenizer.token_bytes(i)), None)
    if wrong is not None:
        raise RunError(
            f"ids must mean the same to both: {wrong} spells {theirs.token_bytes(wrong)!r} in {run}, and "
            f"{tokenizer.token_bytes(wrong)!r} in {tokenizer.name}"
        )
