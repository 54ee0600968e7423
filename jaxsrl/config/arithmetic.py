"""The stages that the arithmetic configs share: one base model, and objectives that start from it."""

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config.demonstrations import ArithmeticTask, arithmetic_answer
from jaxsrl.config.run import Data, Stage, Validate
from jaxsrl.data.curation import Curation
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.tasks.arithmetic import LONG, SHORT, Arithmetic
from jaxsrl.types import Objective
from jaxsrl.update import AdamW

MEDIUM = Arithmetic(run=(1, 3))  # the base solves some, not all
ACTION_TOKENS, SOLVE_TOKENS = 32, 272  # an expert's completion has 27 with its thought, a solution of 8 actions 218

# A long problem with its actions is 79 tokens. A row holds it, and in training its 7 branch points with 8 rollouts. A
# step of SFT is one batch of 8 rows: longer rows of trees leave less empty.
ROWS = BatchShapes(tokens=528, rows=8, prompt_tokens=96, prompt_rows=8, slots=56, evaluate_rows=25, evaluate_slots=7)
SOLVE_ROWS = BatchShapes(
    tokens=320, rows=8, prompt_tokens=96, prompt_rows=16, slots=8, evaluate_rows=25, evaluate_slots=7
)

PROBE = Evaluation(modes=("actions",))
HELD_OUT = Evaluation(modes=("actions", "chained", "direct"), forced_think=(False, True))


def _stage(name: str, problems: int = 100, **settings) -> Stage:
    return Stage(
        name=name,
        test=HELD_OUT,
        test_problems=problems,
        action_tokens=ACTION_TOKENS,
        solve_tokens=SOLVE_TOKENS,
        **settings,
    )


def base(steps: int = 300, problems: int = 100) -> Stage:
    """SFT on problems of one or two actions that show their thoughts, in both forms; tested on long ones."""
    return _stage(
        "base", problems, objective=SFT(trunk=("action", "solve")), steps=steps,
        data=ArithmeticTask(settings=SHORT, held_out=LONG, train=8_000), collect=Collect(demonstrations=32),
        optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1),
        validate=Validate(problems=25, evaluation=PROBE),
    )  # fmt: skip


def sft(steps: int = 100, problems: int = 100, every: int = 50, *, tokens: int | None = None) -> Stage:
    """SFT on long problems, which show actions only. `tokens`, here and below, is the budget of `Stage`."""
    return _stage(
        "sft", problems, objective=SFT(trunk=("action", "solve")), steps=steps, tokens=tokens, start_from="base",
        data=ArithmeticTask(settings=LONG, train=1024), collect=Collect(demonstrations=16),
        optimizer=AdamW(lr=3e-4), validate=Validate(every=every, problems=25, evaluation=PROBE),
    )  # fmt: skip


def srl(
    steps: int = 100, problems: int = 100, every: int = 50, *, name: str = "srl", metric="ratio",
    shuffled: bool = False, tokens: int | None = None,
) -> Stage:  # fmt: skip
    """SRL on the demonstrations of `sft`: 8 a round and more until 40 groups carry weight, as the paper refills.

    Args:
      metric: `ratio` rewards similarity, `exact` equal actions.
      shuffled: the control, in which a problem's expert actions are another's.
    """
    reward = ActionSimilarity(autojunk=False, metric=metric)
    return _stage(
        name, problems, objective=SRL(reward=reward, group_size=8), steps=steps, tokens=tokens, start_from="base",
        data=ArithmeticTask(settings=LONG, train=1024, shuffle_experts=shuffled),
        collect=Collect(demonstrations=8, prompts=40, max_refills=2),
        optimizer=AdamW(lr=3e-4), sampling=Sampling(max_new_tokens=ACTION_TOKENS),
        validate=Validate(every=every, problems=25, evaluation=PROBE),
    )  # fmt: skip


def rlvr(
    steps: int = 100, problems: int = 100, every: int = 50, *, name: str = "rlvr", settings: Arithmetic = LONG,
    held_out: Arithmetic = LONG, start_from: str = "base", tokens: int | None = None,
) -> Stage:  # fmt: skip
    """RLVR: whole solutions, rewarded where their last line is the expert's."""
    longest = 27 * settings.run[1] + 1 + 4
    return _stage(
        name, problems, steps=steps, tokens=tokens, start_from=start_from,
        objective=RLVR(reward=FinalAnswer(verify=arithmetic_answer), policy=GRPO(filter_std=0.0), group_size=8),
        data=ArithmeticTask(settings=settings, held_out=held_out, train=1024), collect=Collect(demonstrations=16),
        optimizer=AdamW(lr=3e-4), sampling=Sampling(max_new_tokens=min(longest, SOLVE_TOKENS)), rows=SOLVE_ROWS,
        validate=Validate(every=every, problems=25, evaluation=Evaluation(modes=("direct",)), metric="direct/answer"),
    )  # fmt: skip


def arm(
    name: str, objective: Objective, *, tokens: int | None = None, steps: int = 60, problems: int = 100,
    every: int = 20, updates: int = 1, demonstrations: int = 16, prompts: int | None = None, lr: float = 3e-4,
    data: Data | None = None, curation: Curation | None = None, max_new_tokens: int = 27 * MEDIUM.run[1] + 5,
    start_from: str = "base",
) -> Stage:  # fmt: skip
    """Any objective on problems of one to three actions, without thoughts.

    Args:
      updates: optimizer steps on the same rollouts.
      prompts: groups that a step refills to, at most three times; None takes what comes.
    """
    return Stage(
        name=name, objective=objective, steps=steps, tokens=tokens, start_from=start_from, updates_per_rollout=updates,
        data=data or ArithmeticTask(settings=MEDIUM, train=1024), curation=curation, rows=SOLVE_ROWS,
        optimizer=AdamW(lr=lr),
        collect=Collect(demonstrations=demonstrations, prompts=prompts),
        sampling=Sampling(max_new_tokens=max_new_tokens), action_tokens=ACTION_TOKENS, solve_tokens=SOLVE_TOKENS,
        validate=Validate(every=every, problems=25, evaluation=Evaluation(modes=("direct",)), metric="direct/answer"),
        test=Evaluation(modes=("actions", "direct")), test_problems=problems,
    )  # fmt: skip


def profile(name: str, objective: Objective, *, problems: int = 512, data: Data | None = None, **settings) -> Stage:
    """A stage that learns nothing: its rollouts say how often the policy it starts from is rewarded, and where.

    One pass over the problems, 16 a step. The same data must be given to the stages that use it.
    """
    data = data or ArithmeticTask(settings=MEDIUM, train=problems)
    return arm(name, objective, steps=problems // 16, every=0, lr=0.0, data=data, **settings)
