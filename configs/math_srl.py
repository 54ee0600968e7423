"""SRL on MATH, cut at its displayed mathematics, bytes, from scratch after SFT on the same actions.

`Splitter(style="displays")` gives two actions or more to 6,511 of 7,160 solutions (lines: 3,810), three in the middle.

Run:    launch/local.sh configs/math_srl.py --data-dir DATA
CPU:    add --set stages.sft.steps=60 --set stages.srl.steps=6 for a look
"""

from jaxsrl.collect import Collect
from jaxsrl.config import Config, Files, Stage, Validate
from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.update import AdamW


def config() -> Config:
    data = Files(
        paths=("math_train/train.jsonl.gz",),
        fields=Fields(id="id"),
        splitter=Splitter(style="displays"),
        held_out=200,
        max_characters=900,
    )
    probe = Evaluation(modes=("actions",))
    common = dict(data=data, action_tokens=256, solve_tokens=768)
    return Config(
        name="math_srl",
        model=preset("0.2M"),
        stages=(
            Stage(
                name="sft",
                objective=SFT(trunk=("action",)),
                steps=400,
                optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1),
                collect=Collect(demonstrations=8),
                validate=Validate(every=200, problems=8, evaluation=probe),
                **common,
            ),
            Stage(
                name="srl",
                objective=SRL(reward=ActionSimilarity(autojunk=False), group_size=8, max_branch_points=2),
                steps=40,
                optimizer=AdamW(lr=3e-4),
                collect=Collect(demonstrations=4, prompts=6, max_refills=2),
                sampling=Sampling(max_new_tokens=256),
                validate=Validate(every=20, problems=8, evaluation=probe, metric="actions/similarity"),
                start_from="sft",
                **common,
            ),
        ),
    )
