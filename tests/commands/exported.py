"""A policy as `convert` writes it, asked the same problems by jaxsrl and by Transformers.

With torch and transformers installed, `python -m tests.commands.exported` writes what Transformers says to
`golden/exported_policy.json`.
"""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxsrl.__main__ import main
from jaxsrl.collect.complete import complete
from jaxsrl.commands.policy import load_policy, named_config
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.policy import sampling_params
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.stages.evaluation import evaluation_sampler
from jaxsrl.types import BranchPoint, Demonstration
from tests.commands.random_model import QUIET, SMOLLM2, start, weights

GOLDEN = Path(__file__).parent / "golden" / "exported_policy.json"
PROBLEMS = ("1+1?", "How many clips did Natalia sell in May?", "We have x^2 = 9.", "café", "Write 3.\n", "24 / 2 =")
MOST = 24  # tokens of a completion
ENDS = (441, 140, 344)  # `<|im_end|>`, and two that the random model does write: all of them end a completion


def exported(folder: Path) -> tuple[Path, Path]:
    """A run that starts from a random model of SmolLM2's kind, and what `convert` makes of it."""
    where = weights(folder / "model", "smollm2", chat_template=SMOLLM2)
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps(config | {"eos_token_id": list(ENDS)}))
    run = start(folder, where, template=QUIET)
    assert main(["convert", str(run), "--to", str(folder / "out"), "--dtype", "float32"]) == 0
    return run, folder / "out"


def ours(run: Path) -> list[dict[str, list[int]]]:
    """Prompt and most likely tokens of every problem, by the run's own policy."""
    config, _ = named_config(run, [])
    asked = load_policy(config, None, checked=False, data=False).asked(config)
    whole = BranchPoint(after=0, samples=1, form="solve")
    problems = [Demonstration(problem_id=text, problem=text, actions=()) for text in PROBLEMS]
    trees = [build(problem, [whole], (), asked.template, asked.tokenizer) for problem in problems]
    prompts = [path_tokens(tree, tree.branch["solve", 0]) for tree in trees]
    sampler = evaluation_sampler(
        asked.policy, asked.template, Sampling(max_new_tokens=MOST), asked.tokenizer, rows=len(trees),
        row_tokens=max(map(len, prompts)), slots=1,
    )  # fmt: skip
    params, _ = sampling_params(asked.policy)
    made = complete(sampler, params, jax.random.key(0), 0.0, trees, [[whole]] * len(trees))
    written = [token[mask].tolist() for token, mask in zip(made.token, made.mask, strict=True)]
    return [
        {"prompt": np.asarray(prompt).tolist(), "written": ids} for prompt, ids in zip(prompts, written, strict=True)
    ]


def theirs(out: Path) -> list[dict[str, list[int]]]:
    """The same by Transformers, from the folder alone: its chat template, its generation config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    found = []
    for text in PROBLEMS:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        ids = list(ids if isinstance(ids, list) else ids["input_ids"])
        with torch.no_grad():
            made = model.generate(torch.tensor([ids]), max_new_tokens=MOST, do_sample=False)
        found.append({"prompt": ids, "written": made[0, len(ids) :].tolist()})
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run, out = exported(Path(folder))
        if sys.argv[1:] == ["ours"]:
            print(json.dumps(ours(run)))
        else:
            lines = ",\n".join(json.dumps(row) for row in theirs(out))
            GOLDEN.write_text(f"[\n{lines}\n]\n")
