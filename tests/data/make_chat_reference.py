"""Writes golden/chat_reference.json: what Transformers makes of published chat templates. Imports only transformers.

FOLDER holds the published templates as KIND.jinja: `chat_template` of the `tokenizer_config.json` of Qwen2.5, Qwen3,
SmolLM2, Llama 3, Llama 3.1, Gemma 3, Mistral 7B v0.3 and v0.2 (Instruct), and ChatML's.

Run:  pip install transformers==5.23.0 jinja2 tokenizers==0.23.3
      python tests/data/make_chat_reference.py FOLDER
"""

import json
import sys
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

GOLDEN = Path(__file__).parent / "golden" / "chat_reference.json"
NAMED = {"llama3": "<|begin_of_text|>", "llama3.1": "<|begin_of_text|>", "gemma3": "<bos>", "mistral": "<s>",
         "mistral_v1": "<s>"}  # fmt: skip
CASES = [  # system text, problem, answer
    ("Answer briefly.", "What is 2+2?", "It is 4."),
    ("", "What is 2+2?", "It is 4."),
    ("  Two lines,\nspaces around. ", "\n A problem with\n\nspaces around: $x^2$ \n", "x = 1\n\ny = 2"),
    ("Sei höflich.", "日本語 é 😀?", "はい"),
]


def render(kind: str, template: str, messages: list[dict], **how) -> str:
    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=NAMED.get(kind), eos_token="</s>")
    return own.apply_chat_template(messages, chat_template=template, tokenize=False, **how)


def main(folder: Path) -> None:
    out = []
    for path in sorted(folder.glob("*.jinja")):
        template, kind = path.read_text(encoding="utf-8"), path.stem
        for variant, how in [(kind, {})] + ([("qwen3_nothink", {"enable_thinking": False})] if kind == "qwen3" else []):
            for system, problem, answer in CASES:
                asked = [{"role": "system", "content": system}] if system else []
                asked += [{"role": "user", "content": problem}]
                said = {"role": "assistant", "content": answer}
                if kind == "qwen3":
                    said["reasoning_content"] = "Add them." if variant == "qwen3" else ""
                out.append({
                    "kind": variant, "system": system, "problem": problem, "answer": answer,
                    "thought": said.get("reasoning_content") or None,
                    "prompt": render(kind, template, asked, add_generation_prompt=True, **how),
                    "whole": render(kind, template, [*asked, said], **how),
                })  # fmt: skip
    content = {"made_with": {"transformers": transformers.__version__}, "rendered": out}
    GOLDEN.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    print(len(out), "prompts,", GOLDEN.stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
