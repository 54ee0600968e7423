"""A policy steered by two small ones of another run: proxy-tuning, for `eval` and `sample`."""

from dataclasses import dataclass, replace
from pathlib import Path

from jaxsrl.commands.policy import Saved
from jaxsrl.commands.weights import saved_policy
from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import Config
from jaxsrl.policy import make_policy, whole_params
from jaxsrl.rollout.proxy import make_proxy_sampler
from jaxsrl.runs import RunError, read_json


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


def steer(config: Config, policy: Saved, proxy: Proxy) -> Saved:
    """The policy that draws from z_M + alpha (z_tuned - z_untuned); its parameters are the three models'.

    Raises: RunError where the run lacks a policy, or its ids mean something else.
    """
    made = policy.material
    there, here = read_json(proxy.run / "config.json"), to_dict(config)
    own = proxy.run.resolve() == (Path(config.runs) / config.name).resolve()
    if there["tokenizer"] != here["tokenizer"] or not own and (there["used_ids_only"] or here["used_ids_only"]):
        raise RunError(
            f"ids of {proxy.run} must mean what those of {config.name} do: both need one tokenizer, whole "
            f"(used_ids_only=false); they have {there['tokenizer']!r} and {here['tokenizer']!r}"
        )
    small, tuned, high = saved_policy(proxy.run, proxy.tuned)
    _, untuned, low = saved_policy(proxy.run, proxy.untuned)
    if small.vocab != made.model.vocab:
        raise RunError(f"{proxy.run} has {small.vocab} ids, {config.name} has {made.model.vocab}")
    sampler = lambda sampling: make_proxy_sampler(
        made.model, small, sampling, made.tokenizer.ends, alpha=proxy.alpha, mesh=made.placement.sampler_mesh
    )
    name = f"{policy.name} + {proxy.alpha:g} ({high} - {low} of {proxy.run.name})"
    steered = make_policy(
        made.model, (whole_params(policy.policy), tuned, untuned), None, None, made.placement, made.tokenizer.ends,
        made.compiled, sampler,
    )  # fmt: skip
    return replace(policy, name=name, policy=steered)
