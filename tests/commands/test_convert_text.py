"""A policy from a published model's folder, and the folder that `convert` writes of it: template, BOS, end tokens."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.__main__ import main
from jaxsrl.config.overrides import load, override
from jaxsrl.data.chat import head
from jaxsrl.data.tokenizer import load_tokenizer
from tests.commands.random_model import QUIET, TINY, start, weights
from tests.sharing import train

LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def said(path: Path) -> dict:
    return json.loads(path.read_text())


def test_template_ends_and_bos_come_from_the_folder_and_go_out_again(tmp_path, capsys):
    where = weights(tmp_path / "llama", "llama3", chat_template=LLAMA3)
    config = said(where / "config.json")
    own = load_tokenizer(where)
    eom, eot, last = (own.specials[name] for name in ("<|eom_id|>", "<|eot_id|>", "<|end_of_text|>"))
    (where / "config.json").write_text(json.dumps(config | {"eos_token_id": [last, eom]}))
    (where / "generation_config.json").write_text(json.dumps({"eos_token_id": [last, eom], "temperature": 0.6}))
    run = start(tmp_path, where, template=QUIET)
    assert f"template: llama3, that of {where}" in " ".join(capsys.readouterr().err.split())
    assert main(["convert", str(run), "--to", str(tmp_path / "out")]) == 0
    out, begin = tmp_path / "out", own.specials["<|begin_of_text|>"]
    assert said(out / "config.json")["eos_token_id"] == [eot, last, eom]
    assert said(out / "config.json")["bos_token_id"] == begin
    ids = {"eos_token_id": [eot, last, eom], "bos_token_id": begin}
    assert said(out / "generation_config.json") == {"temperature": 0.6} | ids
    about = said(out / "tokenizer_config.json")
    assert about["eos_token"] == "<|eot_id|>" and about["chat_template"] == LLAMA3
    again = load_tokenizer(out)
    assert (again.template, again.ends, again.begin) == ("llama3", (eot, last, eom), (begin,))


@pytest.mark.parametrize(("family", "kind"), [("qwen3", "qwen3_nothink"), ("gemma3", "gemma3"), ("neox", "plain")])
def test_another_template_than_the_folders_is_written(tmp_path, family, kind):
    where = weights(tmp_path / "model", family, special_tokens="x")
    (where / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<wrong>", "pad_token": "<pad>"}))
    run = start(tmp_path, where, template=replace(QUIET, kind=kind))
    assert main(["convert", str(run), "--to", str(tmp_path / "out")]) == 0
    own, out = load_tokenizer(where, template=kind), tmp_path / "out"
    end = own.token_bytes(own.end).decode()
    assert said(out / "tokenizer_config.json")["eos_token"] == end
    assert said(out / "special_tokens_map.json") == {"eos_token": end, "pad_token": "<pad>"}
    assert said(out / "generation_config.json")["eos_token_id"] in (own.end, list(own.ends))
    assert "<|solve|>" in said(out / "tokenizer_config.json")["chat_template"] or kind != "plain"
    assert load_tokenizer(out, template=kind).ends == own.ends


def test_bytes_end_in_what_was_trained(tmp_path):
    run = train(override(replace(load(TINY), runs=str(tmp_path / "runs")), ["stages.sft.steps=0", "stages.srl.steps=0",
                                                                           "stages.rlvr.steps=0"]))  # fmt: skip
    assert main(["convert", str(run), "--to", str(tmp_path / "out")]) == 0
    for name in ("config.json", "generation_config.json"):
        assert said(tmp_path / "out" / name)["eos_token_id"] == 256
    assert load_tokenizer(tmp_path / "out").template == "plain"


def test_a_bare_vocabulary_says_what_it_is(tmp_path, data_dir):
    """GPT-2's two files; the folder that is written can be read by others without a setting."""
    config = override(load(TINY), [f"stages.{name}.steps=0" for name in ("sft", "srl", "rlvr")])
    model = replace(config.model, vocab=50257)
    tokenizer = str(data_dir / "tokenizers" / "gpt2")
    run = train(replace(config, runs=str(tmp_path / "runs"), model=model, tokenizer=tokenizer))
    assert main(["convert", str(run), "--to", str(tmp_path / "out")]) == 0
    about = said(tmp_path / "out" / "tokenizer_config.json")
    assert (about["tokenizer_class"], about["eos_token"]) == ("GPT2Tokenizer", "<|endoftext|>")
    assert load_tokenizer(tmp_path / "out").ends == (50256,)


@pytest.mark.needs("transformers")
def test_transformers_reads_prompts_as_they_were_trained(tmp_path):
    from transformers import AutoTokenizer

    for family, kind in (("llama3", "llama3"), ("qwen3", "chatml"), ("gemma3", "gemma3"), ("mistral", "mistral")):
        where = weights(tmp_path / family, family)
        run = start(tmp_path / family, where, template=replace(QUIET, kind=kind))
        out = tmp_path / f"{family}_out"
        assert main(["convert", str(run), "--to", str(out)]) == 0
        theirs = AutoTokenizer.from_pretrained(out)
        ids = theirs.apply_chat_template([{"role": "user", "content": "1+1?"}], add_generation_prompt=True)
        ids = ids["input_ids"] if not isinstance(ids, list) else ids
        own = load_tokenizer(where, template=kind)
        assert ids == head(replace(QUIET, kind=kind), own, "solve", "1+1?")
        assert theirs.eos_token_id == own.end


def test_a_template_that_the_tokenizer_lacks_marks_of_is_refused_before_the_run(tmp_path, capsys):
    where = weights(tmp_path / "llama", "llama3")
    with pytest.raises(ValueError, match=r"template.kind=chatml writes <\|im_end\|>, <\|im_start\|>, .* no token for"):
        start(tmp_path, where, template=replace(QUIET, kind="chatml"))
    assert not (tmp_path / "runs" / "tiny" / "config.json").exists()
