"""Every objective from one base model, at equal budgets of executed tokens; a seed is a run.

Run:    launch/local.sh configs/arithmetic_objectives.py --set seed=0 --set name=objectives-0        and seeds 1, 2
Table:  .venv/bin/jaxsrl compare runs/objectives-0 runs/objectives-1 runs/objectives-2
One:    take `arm(...)` of this file into a config of its own; an arm takes minutes on two CPU cores.

Settings, fixed before these runs: base 300 optimizer steps of 32 short problems that show their thoughts. From it every
arm ends when it has executed a million tokens (prefilled, sampled and learned from), at learning rate 3e-4 (none was
searched per arm), on 16 problems of one to three actions a step. What samples whole solutions draws 8 a problem and
makes two optimizer steps on them, so that ratios differ from 1. 100 held-out problems of the same kind, greedy.

Not measured yet.
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import MEDIUM, ROWS, arm, base
from jaxsrl.config.demonstrations import ArithmeticTask, arithmetic_answer
from jaxsrl.config.guidance import guided
from jaxsrl.config.reformulated import Critiques
from jaxsrl.models.config import preset
from jaxsrl.objectives import presets
from jaxsrl.objectives.chord import CHORD, Mu, chord_phi
from jaxsrl.objectives.cispo import CISPO
from jaxsrl.objectives.dft import DFT
from jaxsrl.objectives.dpo import DPO
from jaxsrl.objectives.gmpo import GMPO
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.gspo import GSPO
from jaxsrl.objectives.kto import KTO
from jaxsrl.objectives.luffy import LUFFY
from jaxsrl.objectives.reverse import ReverseCurriculum
from jaxsrl.objectives.rl_with_sft import RLWithSFT
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srft import SRFT
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.mixed import OutcomeAndProcess
from jaxsrl.rewards.overlong import Overlong
from jaxsrl.tasks.arithmetic import right_steps

TOKENS = 1_000_000
MOST = 10_000  # optimizer steps; the budget ends every arm long before
CAP = 86  # tokens of a completion: three thoughts and actions
ANSWER = FinalAnswer(verify=arithmetic_answer)
SIGNED = FinalAnswer(verify=arithmetic_answer, wrong=-1.0, malformed=-1.0)


def family() -> dict[str, GRPO]:
    """What only averages, baselines and clips tell apart."""
    return {
        "grpo": GRPO(filter_std=0.0),
        "dr_grpo": presets.dr_grpo(CAP),
        "gspo": GSPO(),
        "gmpo": GMPO(),
        "cispo": CISPO(),
        "rloo": presets.rloo(reward_kl_coef=0.01),
        "reinforce_pp": presets.reinforce_plus_plus(reward_kl_coef=0.01),
        "reinforce_pp_baseline": presets.reinforce_plus_plus_baseline(),
        "lite_ppo": presets.lite_ppo(),
    }


def mixed() -> dict:
    """What also trains on the demonstration, or lets it lead."""
    script = dict(std="none", aggregation="fixed_length", length=CAP)
    return {
        "chord_mu": CHORD(grader=ANSWER, mu=Mu(decay=60)),
        "chord_phi": chord_phi(grader=ANSWER),
        "rl_with_sft": RLWithSFT(grader=ANSWER),
        "luffy": LUFFY(grader=ANSWER, policy=GRPO(clip_low=1.0, clip_high=1e9, **script)),
        "srft": SRFT(grader=SIGNED),
        "r3": ReverseCurriculum(grader=ANSWER, steps=60),
        "one_shot": guided("one_shot", answer=ANSWER),
        "openrft": RLVR(grader=OutcomeAndProcess(outcome=ANSWER, process=right_steps), policy=GRPO(filter_std=0.0)),
    }


def config() -> Config:
    budget = dict(tokens=TOKENS, steps=MOST)
    critiques = Critiques(task=ArithmeticTask(settings=MEDIUM, train=1024))
    dapo = RLVR(grader=Overlong(grader=SIGNED, max_tokens=CAP, margin_tokens=16), policy=presets.dapo())
    stages = (
        base(),
        arm("sft", SFT(), every=200, **budget),
        arm("dft", DFT(), every=200, **budget),
        arm("critique", SFT(), every=200, data=critiques, **budget),
        *(arm(name, RLVR(grader=ANSWER, policy=policy), updates=2, **budget) for name, policy in family().items()),
        arm("dapo", dapo, updates=2, prompts=12, **budget),
        *(arm(name, objective, updates=2, **budget) for name, objective in mixed().items()),
        arm("dpo", DPO(grader=ANSWER), updates=2, **budget),
        arm("kto", KTO(grader=ANSWER), updates=2, **budget),
        arm("srl", guided("step", answer=ANSWER), updates=2, max_new_tokens=32, **budget),
    )
    return Config(name="objectives", model=preset("0.2M"), rows=ROWS, stages=stages)
