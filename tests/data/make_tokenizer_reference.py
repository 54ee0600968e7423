"""Writes golden/tokenizer_reference.json: what Transformers makes of texts of every kind. Imports only transformers.

Run:  pip install transformers==5.23.0 tokenizers==0.23.3
      python tests/data/make_tokenizer_reference.py DATA_FOLDER
"""

import gzip
import hashlib
import json
import random
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path

import transformers
from transformers import GPT2Tokenizer, Qwen2Tokenizer

GOLDEN = Path(__file__).parent / "golden" / "tokenizer_reference.json"
CLIP = 72  # characters of a real text that are stored
SOURCES = [  # file, field, rows whose clips are stored, rows of which only a hash of the ids of the whole is
    ("numina_amc_aime/train.jsonl.gz", "solution", 25, 40),
    ("gsm8k/train.jsonl.gz", "answer", 15, 40),
    ("openthoughts_math/solutions.jsonl.gz", "solution", 10, 20),
    ("marco_o1_cot/cot_demo.jsonl.gz", "response", 20, 30),
    ("deepseekmath_v2_proofs/proofs.jsonl.gz", "proof", 10, 10),
    ("agent/mini_swe_agent_resolved.jsonl.gz", "patch", 15, 15),
    ("eval/minerva_math.jsonl", "solution", 10, 20),
]
ADVERSARIAL = [
    "",
    " ",
    "  ",
    "   a",
    "a   ",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    " \n \n ",
    "\t",
    "\t\ta",
    "a\t b",
    "\r\n",
    "a\r\nb\r\n",
    "\r",
    "\x00",
    "\x0b\x0c",
    "\x7f\x80\x9f",
    "a\u00a0b",
    "\u00a0\u00a0",
    "\u2003x",
    "\u2028x\u2029",
    "\u3000あ",
    "\ufeffabc",
    "a\u200bb",
    "\u200d",
    "\u00ad",
    "\u180e",
    "\u0085x",
    "I'm you're he'll we've she'd it's DON'T I'M WE'LL 'S",
    "ſ 'ſ it'ſ",
    "'",
    "''s",
    "o'clock's",
    "x'tx",
    "’s don’t",
    "'K",
    "'\u212a",
    "0123456789",
    "3.14159e-10",
    "1,000,000",
    "٣٤٥",
    "१२३",
    "²³½⅞",
    "ⅧⅨ",
    "①②",
    "x2y3",
    "1a2b",
    "007",
    "10 000",
    "$\\frac{1}{2}$",
    "\\[\n   x^2 + y^2 = z^2\n\\]",
    "\\boxed{\\text{(C)}}",
    "\\begin{align*}a&=b\\\\\nc&=d\\end{align*}",
    "#### 42",
    "<<48/2=24>>24",
    "1. **Title:** body\n\n2. **Next**:\n   - item",
    "   \\]\n\n3. x",
    "a.\n\nb",
    "a. \n\n b",
    "(a)\n(b)",
    "…\n",
    "!!!\n\n\n???",
    "a\n \n b",
    "e\u0301",
    "é",
    "A\u030a\u0327",
    "\u1112\u1161\u11ab",
    "한",
    "한글 텍스트",
    "\u0344",
    "\u2126 \u212b",
    "ﬁ ﬂ",
    "ǆ",
    "İı",
    "ß ẞ",
    "q\u0307\u0323",
    "\u0301",
    "a\u0301\u0301\u0301",
    "\u0958",
    "が か\u3099",
    "😀",
    "👨‍👩‍👧‍👦",
    "🇩🇪🇫🇷",
    "👍🏽",
    "❤️",
    "a😀b",
    "😀😀😀😀",
    "\U0001f9d1\u200d\U0001f680",
    "𝔸𝕓𝟙",
    "𐍈",
    "\U0010ffff",
    "\ue000",
    "\ufffd",
    "\ufffe",
    "中文分词测试。",
    "日本語のテキスト",
    "Привет, мир!",
    "שלום עולם",
    "مرحبا بالعالم",
    "ไทยภาษา",
    "हिन्दी में",
    "ქართული",
    "Ελληνικά ς",
    "ᚠᛇᚻ",
    "ខ្មែរ",
    "\u0e33\u0e19",
    "def f(x):\n    return x**2\n",
    "if (a<b) {\n\t\treturn;\n}\n",
    "x = [1,2,3]  # comment",
    "https://a.b/c?d=e&f=%20",
    "foo_bar-baz.qux",
    "CamelCaseXMLHttp",
    "/usr/bin/env",
    "a@b.c",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "----------------",
    "= = = =",
    "        deep",
    "a" + " " * 17 + "b",
    "." * 40,
    "\n" * 9,
    " \t \t ",
    "é" * 9,
    "Ġ Ċ ĉ",
    "ÃĤ",
    "Hello world",
    " Hello",
    "HELLO world",
]
SPELLED = [
    "<|im_end|>",
    "a<|im_end|>\n",
    "<think>",
    "</think>",
    "<think>x</think>",
    "<|endoftext|>",
    " <|endoftext|>b",
    "<|im_start|>user\nhi",
    "<tool_call>{}</tool_call>",
    "<|fim_prefix|>",
    "<|vision_start|>",
    "<thi",
    "<|im_end",
    "<THINK>",
]
PIECES = [  # [special token] and text; Transformers reads the whole
    [["<|im_start|>"], "system\nYou help.", ["<|im_end|>"], "\n", ["<|im_start|>"], "user\n2+2?", ["<|im_end|>"], "\n"],
    [["<|im_start|>"], "assistant\n", ["<think>"], "\nadd\n", ["</think>"], "\n\n4", ["<|im_end|>"]],
    [["<think>"], ["</think>"], " a", ["<|endoftext|>"]],
]


def rows(path: Path, field: str) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return [json.loads(line)[field] for line in file]


def noise(draw: random.Random) -> str:
    """Characters from everywhere, so that word boundaries fall in odd places."""
    ranges = [(0x20, 0x7E), (0x09, 0x0D), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0x97F)]
    ranges += [(0x1100, 0x11FF), (0x2000, 0x206F), (0x2100, 0x22FF), (0x3040, 0x30FF), (0x4E00, 0x4FFF)]
    ranges += [(0x1F300, 0x1F64F)]
    return "".join(chr(draw.randint(*draw.choice(ranges[:2] * 4 + ranges))) for _ in range(draw.randint(4, 24)))


def hashed(ids: list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def main(data: Path) -> None:
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as bare:  # Qwen's vocabulary without its added tokens, for spelled-out ones
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(data / "tokenizers" / "qwen3" / name, bare)
        plain = Qwen2Tokenizer.from_pretrained(bare)
    qwen3 = Qwen2Tokenizer.from_pretrained(data / "tokenizers" / "qwen3")
    gpt2 = GPT2Tokenizer.from_pretrained(data / "tokenizers" / "gpt2")
    texts, whole = list(ADVERSARIAL), []
    for file, field, clips, wholes in SOURCES:
        values = rows(data / file, field)
        for row in sorted(draw.sample(range(len(values)), min(clips, len(values)))):
            at = draw.randrange(max(1, len(values[row]) - CLIP))
            texts.append(values[row][at : at + CLIP])
        for row in sorted(draw.sample(range(len(values)), min(wholes, len(values)))):
            ids = [tokenizer.encode(values[row], split_special_tokens=True) for tokenizer in (plain, gpt2)]
            whole.append([file, field, row, *map(hashed, ids)])
    texts += [noise(draw) for _ in range(40)]
    for text in texts:
        assert qwen3.encode(text) == plain.encode(text, split_special_tokens=True), text
    spelled = [
        [text, qwen3.encode(text, split_special_tokens=True), gpt2.encode(text, split_special_tokens=True)]
        for text in SPELLED
    ]
    pieces = [[parts, qwen3.encode("".join(p if isinstance(p, str) else p[0] for p in parts))] for parts in PIECES]
    GOLDEN.parent.mkdir(exist_ok=True)
    content = {
        "made_with": {"transformers": transformers.__version__, "unicode": unicodedata.unidata_version},
        "texts": [[text, qwen3.encode(text), gpt2.encode(text)] for text in texts],
        "spelled": spelled,
        "pieces": pieces,
        "whole": whole,
    }
    GOLDEN.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(len(texts), "texts,", len(whole), "whole,", GOLDEN.stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
