"""SFT on PRM800K's chains as far as people found their steps good, bytes, from scratch.

A chain is a list of steps (`Splitter(style="given")`) with a label each; what stands before the first that is not good
is the expert's: 244 of 267 chains have two such steps. All problems are MATH-500's: after it, report nothing there.

Run:    launch/local.sh configs/prm800k_sft.py --data-dir DATA
CPU:    add --set stages.sft.steps=60 for a look
"""

from jaxsrl.collect import Collect
from jaxsrl.config import Config, Files, Stage, Validate
from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.update import AdamW


def config() -> Config:
    return Config(
        name="prm800k_sft",
        model=preset("0.2M"),
        stages=(
            Stage(
                name="sft",
                objective=SFT(trunk=("action",)),
                data=Files(
                    paths=("prm800k_steps/multi_step.jsonl.gz",),
                    fields=Fields(solution="steps", labels="labels", id="id"),
                    splitter=Splitter(style="given", labelled="good_prefix"),
                    held_out=10,
                    max_characters=1500,
                ),
                steps=300,
                optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1),
                collect=Collect(demonstrations=8),
                validate=Validate(every=100, problems=8, evaluation=Evaluation(modes=("actions",))),
                action_tokens=192,
                solve_tokens=768,
            ),
        ),
    )
