"""Every objective from one base model, at equal budgets of executed tokens; a seed is a run.

Run:    launch/local.sh configs/arithmetic_objectives.py --set seed=0 --set name=objectives-0        and seeds 1, 2
Table:  .venv/bin/jaxsrl compare runs/objectives-0 runs/objectives-1 runs/objectives-2 --against profile
One:    take `arm(...)` of this file into a config of its own; an arm takes minutes on two CPU cores.

Settings, fixed before these runs: base 300 optimizer steps of 32 short problems that show their thoughts. From it every
arm ends when it has executed half a million tokens (prefilled, sampled and learned from), at learning rate 3e-4 (none
was searched per arm), on problems of one to three actions, 64 a step for what does not sample. What samples takes 16,
draws 8 rollouts a prompt and makes two optimizer steps on them, so that ratios differ from 1. `profile` learns nothing:
it finds the pivots of `pivot`, outside its budget. 100 held-out problems of the same kind, greedy.

Measured 2026-11-21, three seeds, each 51 to 75 minutes on two CPU cores that other work shared; objectives as of commit
e01fd3f: the table in jaxsrl/objectives/README.md. In short: exact actions of the base 0.85 +- 0.45, SRL 0.95 +- 0.08,
PivotRL 0.94 +- 0.18; nothing is better than the base at whole solutions (0.41 +- 0.24) within this budget; SFT and what
leans on it forgets to think and ends at 0.
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ACTION_TOKENS, MEDIUM, ROWS, arm, base, profile
from jaxsrl.config.demonstrations import ArithmeticTask, arithmetic_answer
from jaxsrl.config.guidance import at_granularity
from jaxsrl.config.reformulated import Critiques
from jaxsrl.data.curation import Curation
from jaxsrl.models.config import preset
from jaxsrl.objectives import presets
from jaxsrl.objectives.chord import CHORD, MuSchedule, chord_phi
from jaxsrl.objectives.cispo import CISPO
from jaxsrl.objectives.dft import DFT
from jaxsrl.objectives.dpo import DPO
from jaxsrl.objectives.gmpo import GMPO
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.gspo import GSPO
from jaxsrl.objectives.kto import KTO
from jaxsrl.objectives.luffy import LUFFY
from jaxsrl.objectives.pivot import PivotRL
from jaxsrl.objectives.reverse import ReverseCurriculum
from jaxsrl.objectives.rl_with_sft import RLWithSFT
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srft import SRFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.equivalence import StepEquivalence
from jaxsrl.rewards.mixed import OutcomeAndProcess
from jaxsrl.rewards.overlong import Overlong
from jaxsrl.tasks.arithmetic import right_steps, same_action

TOKENS = 500_000
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
        "chord_mu": CHORD(reward=ANSWER, mu=MuSchedule(decay=60)),
        "chord_phi": chord_phi(reward=ANSWER),
        "rl_with_sft": RLWithSFT(reward=ANSWER),
        "luffy": LUFFY(reward=ANSWER, policy=GRPO(clip_low=1.0, clip_high=1e9, **script)),
        "srft": SRFT(reward=SIGNED),
        "r3": ReverseCurriculum(reward=ANSWER, steps=60),
        "one_shot": at_granularity("one_shot", answer=ANSWER),
        "openrft": RLVR(reward=OutcomeAndProcess(outcome=ANSWER, process=right_steps), policy=GRPO(filter_std=0.0)),
    }


def config() -> Config:
    budget = dict(tokens=TOKENS, steps=MOST, every=0)
    taught, sampled = budget | dict(demonstrations=64), budget | dict(updates=2)
    stepwise = sampled | dict(max_new_tokens=ACTION_TOKENS)
    task = ArithmeticTask(settings=MEDIUM, train=1024)
    dapo = RLVR(reward=Overlong(reward=SIGNED, max_tokens=CAP, margin_tokens=16), policy=presets.dapo())
    same = StepEquivalence(same=same_action)
    stages = (
        base(),
        arm("sft", SFT(), **taught),
        arm("dft", DFT(), **taught),
        arm("critique", SFT(), data=Critiques(task=task), **taught),
        *(arm(name, RLVR(reward=ANSWER, policy=policy), **sampled) for name, policy in family().items()),
        arm("dapo", dapo, prompts=12, **sampled),
        *(arm(name, objective, **sampled) for name, objective in mixed().items()),
        arm("dpo", DPO(reward=ANSWER), **sampled),
        arm("kto", KTO(reward=ANSWER), **sampled),
        arm("srl", at_granularity("action", answer=ANSWER), **stepwise),
        profile("profile", SRL(reward=same, policy=GRPO()), problems=1024, max_new_tokens=ACTION_TOKENS),
        arm("pivot", PivotRL(reward=same), curation=Curation(profile="profile"), **stepwise),
    )
    return Config(name="objectives", model=preset("0.2M"), rows=ROWS, stages=stages)
