"""SRL on runs of a shell agent, bytes, from scratch after SFT: the next command, given the issue and what was printed.

A step is a thought, a command and what it printed. The command is the action that the reward compares, the thought is
SFT's, and what was printed is context that nothing is trained on. A prompt shows the issue and the last two pairs.

Run:    launch/local.sh configs/agent_srl.py --data-dir DATA
CPU:    add --set stages.sft.steps=30 --set stages.srl.steps=4 for a look
"""

from jaxsrl.collect import Collect
from jaxsrl.config import Config, Files, Stage, Validate
from jaxsrl.data.actions import Splitter
from jaxsrl.data.chat import Template
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.update import AdamW

SYSTEM = (
    "You mend software through a shell. You are given an issue and the last commands with what they printed. Think "
    "inside <think> and </think>, then write the next command alone."
)


def config() -> Config:
    data = Files(
        paths=("agent/swe_agent_demonstrations.jsonl.gz",),
        fields=Fields(
            problem="task",
            solution="steps[].action",
            thoughts="steps[].thought",
            observations="steps[].observation",
            id="id",
        ),
        splitter=Splitter(style="given"),
        held_out=4,
        max_characters=7000,
    )
    probe = Evaluation(modes=("actions",))
    common = dict(data=data, action_tokens=256, solve_tokens=256)
    return Config(
        name="agent_srl",
        model=preset("0.2M"),
        template=Template(history=2, action_system=SYSTEM),
        stages=(
            Stage(
                name="sft",
                objective=SFT(trunk=("action",)),
                steps=200,
                optimizer=AdamW(lr=3e-3, warmup_steps=10, schedule="cosine", final_share=0.1),
                collect=Collect(demonstrations=2),
                validate=Validate(every=100, problems=2, evaluation=probe),
                **common,
            ),
            Stage(
                name="srl",
                objective=SRL(reward=ActionSimilarity(autojunk=False), group_size=8, max_branch_points=4),
                steps=20,
                optimizer=AdamW(lr=3e-4),
                collect=Collect(demonstrations=2),
                sampling=Sampling(max_new_tokens=256),
                validate=Validate(every=10, problems=2, evaluation=probe, metric="actions/similarity"),
                start_from="sft",
                **common,
            ),
        ),
    )
