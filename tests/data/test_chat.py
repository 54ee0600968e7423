"""Templates of published families against what Transformers renders, and `auto`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template, check_marks, completion, head, prefill, tail
from jaxsrl.data.chat_jinja import jinja
from jaxsrl.data.templates import FAMILIES, marks
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.types import BranchPoint, Demonstration
from tests.data.family_tokenizers import folder

GOLDEN = json.loads((Path(__file__).parent / "golden" / "chat_reference.json").read_text(encoding="utf-8"))
RENDERED = GOLDEN["rendered"]
OWN = {
    "chatml": "qwen3", "qwen2.5": "qwen3", "qwen3": "qwen3", "qwen3_nothink": "qwen3", "smollm2": "smollm2",
    "llama3": "llama3", "llama3.1": "llama3", "gemma3": "gemma3", "mistral": "mistral", "mistral_v1": "llama2",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    where = tmp_path_factory.mktemp("families")
    folders = {name: folder(where / name, name) for name in {*OWN.values()}}
    loaded = {kind: load_tokenizer(folders[own], template=kind) for kind, own in OWN.items()}
    library = {own: Tokenizer.from_file(str(path / "tokenizer.json")) for own, path in folders.items()}
    return {kind: (loaded[kind], library[own]) for kind, own in OWN.items()}


def test_every_family_is_compared():
    assert {case["kind"] for case in RENDERED} == {*FAMILIES} - {"plain"} and len(RENDERED) == 4 * len(OWN)


@pytest.mark.parametrize("case", RENDERED, ids=lambda case: f"{case['kind']}-{case['problem'][:8].strip()}")
def test_ids_are_those_of_the_text_that_transformers_renders(tokenizers, case):
    """The library reads special tokens out of the rendered text, as Transformers does."""
    tokenizer, library = tokenizers[case["kind"]]
    read = lambda text: library.encode(text, add_special_tokens=False).ids
    template = Template(kind=case["kind"], action_system=case["system"], solve_system=case["system"])
    check_marks(template, tokenizer)
    for form in ("action", "solve"):
        prompt = head(template, tokenizer, form, case["problem"])
        assert prompt == read(case["prompt"])
    auto = replace(template, kind="auto")
    assert prompt == head(auto, tokenizer, "solve", case["problem"])
    if case["whole"].startswith(case["prompt"]):  # Mistral's tells the system text to the last user's turn only
        written = prompt + completion(template, tokenizer, case["thought"], case["answer"], opens=True)
        assert written == read(case["whole"].removesuffix("\n"))


@pytest.mark.parametrize("kind", OWN)
def test_a_partial_solution_in_the_users_turn_closes_it_in_the_same_way(tokenizers, kind):
    tokenizer, _ = tokenizers[kind]
    template = Template(kind=kind, trunk_in="user", action_system="Go on.")
    whole = tokenizer.decode(head(template, tokenizer, "action", "1+1?") + tail(template, tokenizer))
    plain = tokenizer.decode(head(replace(template, trunk_in="assistant"), tokenizer, "action", "1+1?"))
    assert whole == plain.replace("1+1?", "1+1?\n\nSolution so far:\n")


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("trunk_in", ["assistant", "user"])
def test_prompts_of_a_tree_are_prefixes_of_each_other(tokenizers, kind, trunk_in):
    tokenizer, _ = tokenizers[kind]
    demonstration = Demonstration(problem_id="a", problem="1+1?", actions=("first it is", "then 2", "so 2"))
    template = Template(kind=kind, trunk_in=trunk_in)
    points = [BranchPoint(after=k, samples=1) for k in range(3)]
    tree = build(demonstration, points, ("action",), template, tokenizer)
    size = len(tail(template, tokenizer))
    paths = [path_tokens(tree, tree.branch["action", k]).tolist() for k in range(3)]
    for short, long in zip(paths, paths[1:], strict=False):
        assert long[: len(short) - size] == short[: len(short) - size]
    lead = FAMILIES[kind].lead
    given = tokenizer.decode(paths[1]).removesuffix(tokenizer.decode(tail(template, tokenizer)))
    assert given.endswith((lead if trunk_in == "assistant" else "") + "first it is\n")
    targets = [tokenizer.decode(node.token.tolist()) for node in tree.nodes if node.target]
    leads = [lead, *[lead if trunk_in == "user" else ""] * 2]
    texts = zip(leads, demonstration.actions, strict=True)
    assert targets == [lead + text + FAMILIES[kind].end for lead, text in texts]


def test_what_is_written_for_the_model_begins_its_thought(tokenizers):
    tokenizer, _ = tokenizers["qwen3"]
    assert tokenizer.decode(prefill(Template(kind="qwen3", prefill_think=True), tokenizer)) == "<think>\n"
    with pytest.raises(ValueError, match="qwen3_nothink has closed it already"):
        Template(kind="qwen3_nothink", prefill_think=True)


@pytest.mark.parametrize(("kind", "own"), [("chatml", "llama3"), ("llama3", "qwen3"), ("mistral", "llama2")])
def test_a_template_whose_marks_the_tokenizer_lacks_is_refused(tmp_path, kind, own):
    tokenizer = load_tokenizer(folder(tmp_path / "a", own), template="plain")
    with pytest.raises(ValueError, match=f"template.kind={kind} writes .*has no token for; set template.kind=auto"):
        check_marks(Template(kind=kind), tokenizer)
    with pytest.raises(ValueError, match="writes .*which bytes has no token for"):
        check_marks(Template(kind="chatml"), ByteTokenizer())
    check_marks(Template(kind="plain"), tokenizer)


SIGNS = {
    "qwen3": "{{'<|im_start|>'}}{%- if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
    "qwen2.5": "'<|im_start|>You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n'",
    "chatml": "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'}}",
    "llama3.1": '"<|start_header_id|>system" "Cutting Knowledge Date: December 2023\\n" "Today Date: " + date_string',
    "llama3": "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] + '<|eot_id|>'",
    "gemma3": "{{ '<start_of_turn>' + role }}{{ '<end_of_turn>\\n' }}{{'<start_of_turn>model\\n'}}",
    "mistral": "{{- '[INST] ' + message['content'] + '[/INST]' }}",
    "mistral_v1": "{{- ' [INST] ' + message['content'] + ' [/INST]' }}",
}


@pytest.mark.parametrize("kind", SIGNS)
@pytest.mark.parametrize("where", ["config", "list", "file"])
def test_auto_is_the_folders_template(tmp_path, kind, where):
    text = SIGNS[kind]
    named = {"config": text, "list": [{"name": "default", "template": text}, {"name": "tools", "template": "x"}]}
    path = folder(tmp_path / "a", OWN[kind], **({"chat_template": named[where]} if where in named else {}))
    if where == "file":
        (path / "chat_template.jinja").write_text(text)
    tokenizer = load_tokenizer(path)
    assert tokenizer.template == kind and tokenizer.end == tokenizer.special(FAMILIES[kind].end)[0]
    check_marks(Template(), tokenizer)


@pytest.mark.parametrize(
    "template",
    [
        "{{ '[INST] <<SYS>>' + ' [/INST]' }}", "{{'[INST]' + message['content'] + '[/INST]'}}", "{{ '<|user|>' }}", "",
        "{{'<|im_start|>' + x + '<|im_end|>'}}{{- '<|im_start|>assistant\\n<think>\\n' }}",
    ],
)  # fmt: skip
def test_a_template_of_no_known_family_is_refused(tmp_path, template):
    path = folder(tmp_path / "a", "llama2", chat_template=template)
    with pytest.raises(ValueError, match="chat template is of no known family; set template.kind to one of plain, "):
        load_tokenizer(path)
    assert load_tokenizer(path, template="plain").template == "plain"
    assert load_tokenizer(folder(tmp_path / "b", "llama2")).template == "plain"


def test_the_template_of_qwen3_is_recognised(qwen3):
    assert (qwen3.template, qwen3.ends) == ("qwen3", (151645, 151643))
    text = "<think>\ntwo and two\n</think>\nThe answer is \\boxed{4}."
    assert [qwen3.encode(text)[0], *qwen3.special("</think>")] == [151667, 151668]  # tokens of the model


def test_bos_stands_before_a_plain_prompt_too(tmp_path):
    tokenizer = load_tokenizer(folder(tmp_path / "a", "llama3"))
    prompt = head(Template(), tokenizer, "solve", "1+1?")
    assert prompt[0] == tokenizer.special("<|begin_of_text|>")[0]
    assert tokenizer.decode(prompt[1:]) == "<|solve|>1+1?\n"


def test_marks_of_a_family():
    assert marks(FAMILIES["gemma3"]) == ("<bos>", "<end_of_turn>", "<start_of_turn>")
    assert marks(FAMILIES["mistral_v1"]) == ("<s>", "</s>")


@pytest.mark.needs("transformers")
@pytest.mark.parametrize("kind", OWN)
def test_the_template_that_is_written_renders_the_same(kind):
    """`convert` writes it where the weights' folder has no template of its own, or another one."""
    from transformers import PreTrainedTokenizerFast

    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<x>", eos_token="<y>")
    template = jinja(FAMILIES[kind], system=FAMILIES[kind].system)
    for case in (case for case in RENDERED if case["kind"] == kind):
        asked = [{"role": "system", "content": case["system"]}] if case["system"] else []
        asked += [{"role": "user", "content": case["problem"]}]
        render = lambda messages, **how: own.apply_chat_template(
            messages, chat_template=template, tokenize=False, **how
        )  # noqa: B023
        assert render(asked, add_generation_prompt=True) == case["prompt"]
        if case["thought"] is None and case["whole"].startswith(case["prompt"]):
            assert render([*asked, {"role": "assistant", "content": case["answer"]}]) == case["whole"]
    assert jinja(FAMILIES[kind], system="Be brief.", given="<think>").count("Be brief.") == 1


@pytest.mark.needs("transformers")
def test_a_plain_template_begins_as_the_tokenizer_does():
    from transformers import PreTrainedTokenizerFast

    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    template = jinja(FAMILIES["plain"], system="", given="<think>", begins=True)
    asked, said = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
    render = lambda messages, **how: own.apply_chat_template(messages, chat_template=template, tokenize=False, **how)
    assert render([asked], add_generation_prompt=True) == "<s><|solve|>1+1?\n<think>"
    assert render([asked, said]) == "<s><|solve|>1+1?\n2</s>"
