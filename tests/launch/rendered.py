"""Jobs whose rendered files are stored. `python -m tests.launch.rendered` writes `golden/` anew: read the diff."""

from dataclasses import replace
from pathlib import Path

from jaxsrl.clusters.launch.job import Place
from jaxsrl.commands.launch import described, prepare

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.py"))
PLACE = Place(
    zone="us-east5-b", project="PROJECT", nfs="10.0.0.2:/share", code="/shared/jaxsrl", image="REGISTRY/jaxsrl:1",
    claim="shared", volume="shared", cluster="CLUSTER", partition="gpu", account="lab", spot=True,
)  # fmt: skip
# Target -> recipes that differ in what it writes.
STORED = {
    "local": ("qwen2_5_0_5b_h100",),
    "slurm": ("qwen3_8b_8xh200",),
    "tpu-vm": ("qwen2_5_0_5b_v5e_16", "qwen3_1_7b_2xv5e_16"),
    "gke": ("qwen3_1_7b_2xv5e_16", "qwen3_8b_8xh200"),
    "skypilot": ("qwen2_5_7b_v6e_64", "qwen3_8b_8xh200"),
}


def render(target: str, recipe: Path):
    """A launch in the project's folder."""
    return prepare(
        recipe.relative_to(ROOT), target=target, place=PLACE, settings=("seed=1",), processes=2, python="python3"
    )


def cases():
    return [(target, name) for target, names in STORED.items() for name in names]


def text_of(target: str, name: str) -> str:
    recipe = next(path for path in RECIPES if path.stem == name)
    return described(replace(render(target, recipe), notes=()), files=True) + "\n"


def main() -> None:
    for target, name in cases():
        (GOLDEN / f"{target}_{name}.txt").write_text(text_of(target, name))


if __name__ == "__main__":
    main()
