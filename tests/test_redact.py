"""No secret is written beside a run."""

from dataclasses import dataclass

import jax
import pytest

from jaxsrl.config.overrides import to_dict
from jaxsrl.redact import redacted
from jaxsrl.runs import environment

pytestmark = pytest.mark.fast
SECRET = "hf_" + "aB3" * 9


@dataclass(frozen=True)
class Inner:
    api_key: str = "0123456789abcdef"
    url: str = "https://user:hunter2222@host/data"
    tokens: int = 4096
    token_weight: str = "uniform-by-token"
    end_token: str = "</s>"
    paths: tuple[str, ...] = ("plain", f"https://x/?a={SECRET}")


def test_a_config_is_saved_without_its_secrets():
    found = to_dict(
        {"data": Inner(), "tokenizer": "tokenizers/qwen3", "password": "12345678", "key": "monkey-business"}
    )
    inner = found["data"]
    assert inner["api_key"] == found["password"] == "(redacted)"
    assert inner["url"] == "https://(redacted)@host/data" and inner["paths"] == ["plain", "https://x/?a=(redacted)"]
    kept = {name: inner[name] for name in ("tokens", "token_weight", "end_token")}
    assert kept == {"tokens": 4096, "token_weight": "uniform-by-token", "end_token": "</s>"}
    assert found["tokenizer"] == "tokenizers/qwen3" and found["key"] == "monkey-business"


def test_so_is_the_environment(monkeypatch):
    jax.devices()  # XLA reads its flags here at the latest, and ends the process at one that it does not know
    monkeypatch.setenv("JAX_STORE_TOKEN", "0123456789")
    monkeypatch.setenv("XLA_FLAGS", f"--a=1 --b={SECRET}")
    flags = environment()["flags"]
    assert flags["JAX_STORE_TOKEN"] == "(redacted)" and flags["XLA_FLAGS"] == "--a=1 --b=(redacted)"


@pytest.mark.parametrize("text", [
    "ghp_" + "a1" * 18, "github_pat_" + "a1" * 15, "sk-" + "a1" * 20, "AKIA" + "A1" * 8, "AIza" + "a1" * 18,
    "xoxb-" + "a1" * 10,
])  # fmt: skip
def test_known_forms_are_found_wherever_they_stand(text):
    assert redacted({"note": f"see {text}."}) == {"note": "see (redacted)."}


@pytest.mark.parametrize(
    "text", ["", "configs/task-sk-1.py", "hf_model", "https://host:8476/x", "a:b@c", "skeleton-key"]
)
def test_plain_text_stays(text):
    assert redacted({"note": text}) == {"note": text}
