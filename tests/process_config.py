"""The run of tests/tiny_config.py with shapes that eight devices divide, and one sampler for all its stages."""

from dataclasses import replace
from pathlib import Path

from jaxsrl.collect import BatchShapes
from jaxsrl.config import Config
from jaxsrl.config.overrides import load
from jaxsrl.evals.audits.information_gain import InformationGain
from jaxsrl.evals.settings import Evaluation
from jaxsrl.models.config import ModelConfig
from jaxsrl.sharding import MeshShape

STEPS = {"sft": 6, "srl": 2, "rlvr": 2}
ASKED = {"sft": 1, "srl": 2}  # problems: of one process alone, and of each of two
EVALUATION = Evaluation(
    modes=("actions", "direct", "chained"), temperature=1.0, samples=2, probes=(InformationGain(lead="so "),)
)  # fmt: skip


def config() -> Config:
    tiny = load(Path(__file__).parent / "tiny_config.py")
    # Four demonstrations have branch points enough for the rows of both processes.
    quiet = lambda stage: replace(
        stage, steps=STEPS[stage.name], validate=replace(stage.validate, every=0),
        test=EVALUATION if stage.name in ASKED else None, test_problems=ASKED.get(stage.name, 1),
        collect=replace(stage.collect, demonstrations=4, prompts=stage.collect.prompts and 8),
    )  # fmt: skip
    return replace(
        tiny, name="many", mesh=MeshShape(data=2, fsdp=4), checkpoint_every=50,
        model=ModelConfig(vocab=272, width=16, layers=1, heads=1, kv_heads=1, head_width=16, mlp_width=32),
        rows=BatchShapes(tokens=96, rows=8, prompt_tokens=48, prompt_rows=8, slots=4, evaluate_rows=8,
                         evaluate_slots=4),
        stages=tuple(quiet(stage) for stage in tiny.stages),
    )  # fmt: skip
