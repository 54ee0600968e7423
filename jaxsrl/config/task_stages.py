"""The stages that the configs of generated tasks share: a base model, then SFT, SRL and RLVR from it.

The base is tested twice: on problems like those that it learned from, and on the hard ones that the others train on.
"""

from jaxsrl.collect import Collect
from jaxsrl.config.run import Data, Stage, Validate
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import Reward
from jaxsrl.update import AdamW

PROBE = Evaluation(modes=("actions",))
SOLVED = Evaluation(modes=("direct",))
HELD_OUT = Evaluation(modes=("actions", "direct"))


def task_stages(
    easy: Data, hard: Data, reward: Reward, *, action_tokens: int, solve_tokens: int, problems: int = 50,
    base_steps: int = 300, base_demonstrations: int = 32, steps: int = 40, lr: float = 3e-4,
) -> tuple[Stage, ...]:  # fmt: skip
    """`base` learns whole solutions of easy problems; SFT, SRL and RLVR then train on hard ones, each from `base`.

    `base_on_hard` takes no step: its test is what the other three are compared with.

    Args:
      reward: of whole solutions of hard problems.
      problems: of the test split. base_demonstrations: of a step of the base. steps, lr: of each of the three.
    """
    common = dict(action_tokens=action_tokens, solve_tokens=solve_tokens, test=HELD_OUT, test_problems=problems)
    hard_ones = dict(common, start_from="base", data=hard)
    later = dict(hard_ones, steps=steps, optimizer=AdamW(lr=lr))
    probe = Validate(every=0, problems=25, evaluation=PROBE)
    return (
        Stage(
            name="base", objective=SFT(trunk=("action", "solve")), steps=base_steps, data=easy,
            collect=Collect(demonstrations=base_demonstrations), validate=probe,
            optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1), **common,
        ),
        Stage(name="base_on_hard", objective=SFT(trunk=("solve",)), steps=0, validate=probe, **hard_ones),
        Stage(
            name="sft", objective=SFT(trunk=("action", "solve")), collect=Collect(demonstrations=16), validate=probe,
            **later,
        ),
        Stage(
            name="srl", collect=Collect(demonstrations=8, prompts=24, max_refills=2), validate=probe,
            objective=SRL(reward=ActionSimilarity(autojunk=False, think="optional"), group_size=8, max_branch_points=6),
            sampling=Sampling(max_new_tokens=action_tokens), **later,
        ),
        Stage(
            name="rlvr", collect=Collect(demonstrations=16), sampling=Sampling(max_new_tokens=solve_tokens),
            objective=RLVR(reward=reward, policy=GRPO(filter_std=0.0), group_size=8),
            validate=Validate(every=0, problems=25, evaluation=SOLVED, metric="direct/answer"), **later,
        ),
    )  # fmt: skip
