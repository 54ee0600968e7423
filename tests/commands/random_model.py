"""A published model's folder with random weights and a family's tokenizer, and runs that start from one."""

from dataclasses import replace
from pathlib import Path

import jax

from jaxsrl.config.overrides import load, override
from jaxsrl.data.chat import Template
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.models.save import save_weights
from jaxsrl.models.transformer import init_params
from tests.data.family_tokenizers import folder
from tests.sharing import train

TINY = Path(__file__).parents[1] / "tiny_config.py"
QUIET = Template(action_system="", solve_system="")  # so that prompts fit the tiny rows
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def weights(path: Path, family: str, **about) -> Path:
    """A random model with a family's tokenizer; `about` goes into `tokenizer_config.json`."""
    size = load_tokenizer(folder(path.with_name(path.name + "_tokenizer"), family)).vocab_size
    model = replace(load(TINY).model, vocab=size)
    save_weights(path, model, init_params(model, jax.random.key(0)), dtype="float32", length=512)
    folder(path, family, **about)
    return path


def start(tmp_path: Path, where: Path, **change) -> Path:
    """A run from these weights that takes no step."""
    config = override(load(TINY), [f"stages.{name}.steps=0" for name in ("sft", "srl", "rlvr")])
    rows = replace(config.rows, tokens=512, prompt_tokens=256)
    return train(replace(config, runs=str(tmp_path / "runs"), weights=str(where), rows=rows, **change))
