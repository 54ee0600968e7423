"""The stages that the configs of generated tasks share: a base model, then SFT, SRL and RLVR from it."""

from jaxsrl.collect import Collect
from jaxsrl.config.run import Data, Stage, Validate
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer, Verifier
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.update import AdamW

PROBE = Evaluation(modes=("actions",))
SOLVED = Evaluation(modes=("direct",))
HELD_OUT = Evaluation(modes=("actions", "direct"))


def four_stages(
    easy: Data, hard: Data, right: Verifier, *, action_tokens: int, solve_tokens: int, problems: int = 50,
    base_steps: int = 300, steps: int = 40,
) -> tuple[Stage, ...]:  # fmt: skip
    """`base` learns whole solutions of easy problems; SFT, SRL and RLVR then train on hard ones, each from `base`.

    Args:
      right: whether a whole solution of a hard problem is right.
      problems: of the test split. steps: of each of the three.
    """
    common = dict(action_tokens=action_tokens, solve_tokens=solve_tokens, test=HELD_OUT, test_problems=problems)
    later = dict(common, start_from="base", steps=steps, data=hard, optimizer=AdamW(lr=3e-4))
    probe = Validate(every=steps, problems=25, evaluation=PROBE)
    return (
        Stage(
            name="base", objective=SFT(trunk=("action", "solve")), steps=base_steps, data=easy,
            collect=Collect(demonstrations=32), validate=Validate(problems=25, evaluation=PROBE),
            optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1), **common,
        ),
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
            objective=RLVR(reward=FinalAnswer(verify=right), policy=GRPO(filter_std=0.0), group_size=8),
            validate=Validate(every=steps, problems=25, evaluation=SOLVED, metric="direct/answer"), **later,
        ),
    )  # fmt: skip
