"""RLVR on GSM8K, bytes, from scratch after SFT: the reward is whether `#### 42` is right.

A model of this size solves next to nothing, so most groups are all wrong and are dropped; what moves is whatever the
few lucky groups say. That is the regime RLVR is known to fail in, shown as it is.

Run:    launch/local.sh configs/gsm8k_rlvr.py --data-dir DATA
Takes:  minutes on two CPU cores
Expect: warm start: NLL 5.82 -> 1.10 nats a byte over 300 steps. RLVR: a right answer in 3.8 % of the completions in the
        first ten steps, and in 3.8 % in the last ten; 9 to 44 % of the groups have any. Greedy on 32 held-out problems
        0 -> 2 right, which is no more than luck. (one seed, measured 2026-11-21, commit 3e89794)
"""

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config import Config, Gsm8k, Stage, Validate
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.update import AdamW


def config() -> Config:
    probe = Evaluation(modes=("direct",))
    common = dict(action_tokens=96, solve_tokens=192)
    return Config(
        name="gsm8k_rlvr",
        model=preset("0.2M"),
        rows=BatchShapes(
            tokens=512, rows=8, prompt_tokens=320, prompt_rows=16, slots=8, evaluate_rows=16, evaluate_slots=4
        ),
        stages=(
            Stage(
                name="warm",
                objective=SFT(trunk=("solve",)),
                data=Gsm8k(max_characters=240),
                steps=300,
                optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1),
                collect=Collect(demonstrations=12),
                validate=Validate(problems=32, evaluation=probe, metric="direct/answer"),
                **common,
            ),
            Stage(
                name="rlvr",
                objective=RLVR(reward=FinalAnswer(extract="hash"), group_size=8),
                data=Gsm8k(max_characters=240),
                steps=30,
                start_from="warm",
                optimizer=AdamW(lr=3e-4),
                collect=Collect(demonstrations=16, prompts=4, max_refills=1),
                sampling=Sampling(max_new_tokens=160),
                validate=Validate(every=15, problems=32, evaluation=probe, metric="direct/answer"),
                **common,
            ),
        ),
    )
