"""Secrets stay out of what is written beside a run: tokens, keys and passwords in configs and variables."""

import re
from typing import Any

REDACTED = "(redacted)"
LEAST = 8  # characters of a secret: `end_token="</s>"` is none
# A name that ends so: `hf_token`, `api_key`, `AWS_SECRET_ACCESS_KEY`; not `tokens`, `token_weight`, `tokenizer`, `key`.
NAMES = re.compile(
    r"(^|_)(token|secret|password|passwd|credentials?|auth|bearer|(api|access|private|secret|encryption)_?key)$", re.I
)
# A value that is one wherever it stands: Hugging Face, GitHub, OpenAI and others, AWS, Google, Slack, W&B's in a URL.
VALUES = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}"
    r"|AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{16,}|xox[abprs]-[0-9A-Za-z-]{10,})|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def redacted(value: Any, name: str = "") -> Any:
    """A JSON value without its secrets: texts under a name that says so, and texts that look like one."""
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted(item, name) for item in value)
    if not isinstance(value, str) or not value:
        return value
    return REDACTED if NAMES.search(name) and len(value) >= LEAST else VALUES.sub(REDACTED, value)
