"""SRL on published models at sizes that fill real accelerators; `configs/recipes/` names one each."""

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config.demonstrations import Numina
from jaxsrl.config.run import Config, Stage, Validate
from jaxsrl.data.chat import Template
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.models.lora import LoRA
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import MeshShape
from jaxsrl.update import AdamW

COMPLETION = 512  # tokens of a thought and an action, at most
PROMPT = 2048  # tokens of a problem and its solution so far, at most
SLOTS = 64  # completions of a prompt row: eight branch points with eight rollouts


def srl_recipe(
    name: str, model: str, weights: str, *, mesh: MeshShape, sampler_mesh: MeshShape, rows: int, prompt_rows: int,
    tokens: int = 8192, demonstrations: int = 64, lora: LoRA | None = None, lr: float = 1e-6, steps: int = 300,
) -> Config:  # fmt: skip
    """SRL on NuminaMath's numbered steps, from a published instruction-tuned model.

    Args:
      model: a preset, whose sizes are the checkpoint's. weights: folder of the checkpoint, below the current one.
      mesh, sampler_mesh: all devices, as the learner and as the sampler lay them out.
      rows, tokens: of a learner's batch. prompt_rows: of a sampler's call.
      demonstrations: of a round; twice are drawn at most, until half of their branch points carry weight.
      lora: trains adapters; `lr` is then theirs.
    """
    points = SLOTS // 8
    return Config(
        name=name, model=preset(model, remat="full"), weights=weights, lora=lora, mesh=mesh, sampler_mesh=sampler_mesh,
        template=Template(title_hint=True, separator="\n\n"), checkpoint_every=25,
        rows=BatchShapes(
            tokens=tokens, rows=rows, prompt_tokens=PROMPT, prompt_rows=prompt_rows, slots=SLOTS,
            evaluate_rows=prompt_rows, evaluate_slots=16,
        ),
        stages=(
            Stage(
                name="srl",
                objective=SRL(reward=ActionSimilarity(autojunk=False), group_size=8, max_branch_points=points),
                data=Numina(thoughts="none", max_characters=6000), steps=steps, optimizer=AdamW(lr=lr, warmup_steps=10),
                collect=Collect(demonstrations=demonstrations, prompts=demonstrations * points // 2, max_refills=1),
                sampling=Sampling(max_new_tokens=COMPLETION),
                validate=Validate(every=50, problems=128, evaluation=Evaluation(modes=("actions",)),
                                  metric="actions/similarity"),
                action_tokens=COMPLETION, solve_tokens=2048,
            ),
        ),
    )  # fmt: skip
