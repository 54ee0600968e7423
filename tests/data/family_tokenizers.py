"""Small tokenizers with the parts of published families: normalizer, pre-tokenizer, added tokens, post-processor."""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "Natalia sold 48/2 = 24 clips in May.\nShe sold 48+24 = 72 clips altogether in April and May.\n#### 72",
    "We have $x^2 + 2x = 3$, so $x = 1$ or $x = -3$.\n\nThe answer is \\boxed{1}.",
    "You are given a problem and possibly the first steps of its solution. Think about the next step.",
    "def f(x):\n    return x + 1\n\n        deep\t\ttabs  two   three    four",
    "Résumé: café über naïve, Tính tổng của các số. 日本語のテキスト",
] * 3
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _special(names):
    return [AddedToken(name, special=True, normalized=False) for name in names]


def _byte_level(split, *, digits=False, normalizer=None, size=500, ignore_merges=False, alphabet=None):
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    words = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    words += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [*words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)]
    )
    if normalizer is not None:
        made.normalizer = normalizer
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet))
    return made


def _fallback(specials, *, normalizer=None, pre_tokenizer=None, strip, size=600):
    """BPE over characters; one that is not in the vocabulary is spelled in bytes."""
    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    if normalizer is not None:
        made.normalizer = normalizer
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    words = (line for text in TEXTS[:3] for line in text.split("\n"))
    made.train_from_iterator(words, trainers.BpeTrainer(vocab_size=size, special_tokens=[*specials, *BYTES]))
    kept = json.loads(made.to_str())  # the bytes are pieces of the vocabulary, and no added tokens
    kept["added_tokens"] = [token for token in kept["added_tokens"] if token["content"] not in BYTES]
    made = Tokenizer.from_str(json.dumps(kept))
    ends = [decoders.Strip(" ", 1, 0)] if strip else []
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *ends])
    return made


def _begins(made, name):
    return processors.TemplateProcessing(single=f"{name}:0 $A:0", special_tokens=[(name, made.token_to_id(name))])


def llama3():
    made = _byte_level(LLAMA3_SPLIT, ignore_merges=True)
    made.add_special_tokens(_special(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
    ))  # fmt: skip
    made.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _begins(made, "<|begin_of_text|>")]
    )
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|eot_id|>"}
    return made, about | {"bos_token": "<|begin_of_text|>"}


def qwen3():
    made = _byte_level(LLAMA3_SPLIT.replace("{1,3}", ""), normalizer=normalizers.NFC())
    made.add_special_tokens(_special(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    made.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>")])
    about = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None}
    return made, about | {"add_bos_token": False}


def smollm2():
    """Some bytes have no token: control characters, and bytes that UTF-8 never uses."""
    shown = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = _byte_level(None, digits=True, alphabet=[c for c in shown if c not in "ĀāĂÀÁõö÷øùúûüýþÿ"])
    made.add_special_tokens(_special(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    return made, {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}


def neox():
    """Runs of spaces are added tokens that are text."""
    made = _byte_level(None, normalizer=normalizers.NFC())
    made.add_special_tokens(_special(["<|endoftext|>", "<|padding|>"]))
    made.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    return made, {"tokenizer_class": "GPTNeoXTokenizer", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}


def gemma3():
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    made = _fallback(
        names, normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"), strip=False,
    )  # fmt: skip
    made.add_tokens([AddedToken(text, normalized=False) for text in ("\n\n", "▁▁", "<table>")])
    made.post_processor = _begins(made, "<bos>")
    about = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>"}
    return made, about | {"add_bos_token": True}


def mistral():
    """As v0.3: a space before the first word only."""
    made = _fallback(
        ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], pre_tokenizer=pre_tokenizers.Metaspace("▁", "first", False),
        strip=True,
    )  # fmt: skip
    made.post_processor = _begins(made, "<s>")
    return made, {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}


def llama2():
    """As Llama 2 and Mistral v0.1: the normalizer puts a space before every text between special tokens."""
    spaced = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made = _fallback(["<unk>", "<s>", "</s>"], normalizer=spaced, strip=True)
    return made, {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}


FAMILIES = {one.__name__: one for one in (llama3, qwen3, smollm2, neox, gemma3, mistral, llama2)}


def folder(path: Path, family: str, **config) -> Path:
    """Writes a family's tokenizer.json and tokenizer_config.json; `config` adds to the latter."""
    made, about = FAMILIES[family]()
    path.mkdir(parents=True, exist_ok=True)
    made.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(about | config))
    return path
